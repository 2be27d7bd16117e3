/** Perplexity: transformers' figures window by window, and the laws of the definition. */
import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { AbortError, NumericError, ValueError } from "../../src/errors.ts";
import { loadModel, type Model } from "../../src/models/mod.ts";
import { perplexity, type PerplexityOptions, slidingWindows } from "../../src/pipelines/perplexity.ts";
import { zeros } from "../../src/ops/mod.ts";
import { loadTokenizer } from "../../src/tokenizer/mod.ts";
import recorded from "../../models/goldens.json" with { type: "json" };
import { assertClose, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor, referencePath } from "../reference.ts";
import { embedded } from "../generation/models.ts";

interface Case {
  name: string;
  inputs: { input_ids: number[][] };
  max_length: number;
  stride: number;
  windows: [begin: number, end: number, scored: number][];
  outputs: { window_nll: GoldenTensor; perplexity: GoldenTensor };
}

const device = await testDevice();
const full = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const noTokenizer = { encode: () => [] };

for (const family of ["llama", "gpt2"]) {
  const cases = await goldenCases<Case>(`data/generate/perplexity-${family}`, "perplexity");
  if (cases.length === 0) continue;
  Deno.test(`perplexity() equals transformers' window by window: ${family}`, async (t) => {
    using model = await loadModel(referencePath(`data/models/${family}`), { device });
    for (const { name, inputs, max_length, stride, windows, outputs } of cases) {
      await t.step(name, async () => {
        const got = await perplexity(model, noTokenizer, inputs.input_ids[0]!, { maxLength: max_length, stride });
        assertEquals(got.windows.map(({ begin, end, scored }) => [begin, end, scored]), windows);
        const want = outputs.window_nll.data as Float32Array;
        assertClose("nll", got.windows.map(({ nll }) => nll), want, { rtol: 1e-4 });
        assertClose("perplexity", [got.perplexity], [Number(outputs.perplexity.data[0])], { rtol: 1e-4 });
        assertEquals(got.scoredTokens, windows.reduce((sum, [, , scored]) => sum + scored, 0));
      });
    }
  });
}

const bundled = await loadModel(embedded("tensaur-tiny"), { device, dtype: "float32" });
const tokenizer = await loadTokenizer(embedded("tensaur-tiny"));
globalThis.addEventListener("unload", () => bundled.dispose());

const book = recorded.books["held_out_book_1.txt"];
for (
  const { context: maxLength, stride, ...want } of book["tensaur-tiny"].filter(({ context }) => full || context < 512)
) {
  Deno.test(`perplexity() equals the recipe's of held_out_book_1.txt, context ${maxLength}, stride ${stride}`, async () => {
    const text = await Deno.readTextFile(new URL("../../models/recipe/held_out_book_1.txt", import.meta.url));
    const got = await perplexity(bundled, tokenizer, text, { maxLength, stride });
    assertEquals([got.tokens, got.bytes, got.scoredTokens], [book.tokens, book.bytes, want.scored_tokens]);
    assertAlmostEquals(got.perplexity, want.perplexity, 1e-4);
    assertAlmostEquals(got.bitsPerByte, want.bits_per_byte, 1e-5);
  });
}

if (full) {
  Deno.test("perplexity() equals the recipe's of held_out.txt, and smaller strides do not raise it", async () => {
    const text = await Deno.readTextFile(new URL("../../models/recipe/held_out.txt", import.meta.url));
    const rows = [];
    for (const { context: maxLength, stride, ...want } of recorded["tensaur-tiny"].held_out_perplexity) {
      const got = await perplexity(bundled, tokenizer, text, { maxLength, stride });
      assertEquals([got.tokens, got.bytes], [
        recorded.held_out.tokens,
        recorded.held_out.bytes_without_document_markers,
      ]);
      assertEquals(got.scoredTokens, want.scored_tokens);
      assertAlmostEquals(got.perplexity, want.perplexity, 2e-4);
      assertAlmostEquals(got.bitsPerByte, want.bits_per_byte, 1e-4);
      rows.push(got.perplexity);
    }
    for (const [i, ppl] of rows.entries()) assert(i === 0 || rows[i - 1]! <= ppl + 1e-3, `${rows}`);
  });
}

/** `bundled` whose logits are all the same number. */
function uniform(value: number): Model {
  return new Proxy(bundled, {
    get(target, name) {
      if (name !== "applyHead") {
        const found = Reflect.get(target, name, target);
        return typeof found === "function" ? found.bind(target) : found;
      }
      return (hidden: { shape: readonly number[] }) => {
        const logits = zeros(device, [hidden.shape[0]!, target.sizes.vocabSize]);
        logits.write(new Float32Array(logits.size).fill(value));
        return logits;
      };
    },
  });
}

Deno.test("perplexity() of a uniform model is the vocabulary's size, at every stride", async () => {
  const ids = Array.from({ length: 41 }, (_, i) => i * 13);
  for (const [maxLength, stride] of [[16, 16], [16, 5], [16, 1], [41, 41], [64, 7], [2, 1]] as const) {
    const got = await perplexity(uniform(3), noTokenizer, ids, { maxLength, stride });
    assertClose("perplexity", [got.perplexity, got.documentedPerplexity], [2048, 2048], { rtol: 1e-6 });
  }
});

Deno.test("perplexity() computes the logits of scored tokens only, each once", async () => {
  const ids = Array.from({ length: 90 }, (_, i) => i * 13), { applyHead } = bundled;
  for (const [maxLength, stride] of [[32, 8], [32, 32], [64, 1], [90, 45]] as const) {
    let rows = 0;
    bundled.applyHead = (hidden, batch) => {
      rows += hidden.shape[0]!;
      return applyHead.call(bundled, hidden, batch);
    };
    try {
      const { scoredTokens } = await perplexity(bundled, noTokenizer, ids, { maxLength, stride });
      assertEquals(rows, scoredTokens, `${maxLength} ${stride}`);
    } finally {
      bundled.applyHead = applyHead;
    }
  }
});

Deno.test("perplexity() of one window is e to the mean, in pieces through a cache", async () => {
  const ids = Array.from({ length: 700 }, (_, i) => (i * 37) % 2000);
  const { windows, ...got } = await perplexity(bundled, noTokenizer, ids, { maxLength: 1024 });
  assertEquals(windows.map(({ begin, end, scored }) => [begin, end, scored]), [[0, 700, 699]]);
  assertAlmostEquals(got.perplexity, Math.exp(windows[0]!.nll / 699), 1e-6 * got.perplexity);
  assertEquals([got.bytes, got.bitsPerByte, got.perplexity], [NaN, NaN, got.documentedPerplexity]);
  using output = await bundled.forward({ inputIds: [ids] });
  const logits = await output.logits!.read(), V = bundled.sizes.vocabSize;
  const want = ids.slice(1).reduce((sum, id, i) => {
    const row = logits.subarray(i * V, (i + 1) * V) as Float32Array, most = Math.max(...row);
    return sum + most + Math.log(row.reduce((total, x) => total + Math.exp(x - most), 0)) - row[id]!;
  }, 0);
  assertClose("nll", [windows[0]!.nll], [want], { rtol: 1e-4 });
});

Deno.test("slidingWindows() scores each token but the first once, and loses one a window where none overlaps", () => {
  for (let tokens = 2; tokens < 30; tokens++) {
    for (const [maxLength, stride] of [[2, 1], [8, 8], [8, 3], [8, 7], [30, 4]] as const) {
      const windows = slidingWindows(tokens, maxLength, stride);
      const lost = stride === maxLength ? windows.length : 1;
      assertEquals(
        windows.reduce((sum, { scored }) => sum + scored, 0),
        tokens - lost,
        `${tokens} ${maxLength} ${stride}`,
      );
      assertEquals(windows.at(-1)!.end, tokens);
    }
  }
});

Deno.test("perplexity() counts bytes as UTF-8, without the tokens around documents, and tells how far it is", async () => {
  const told: number[][] = [];
  const text = "<|begin_of_text|>Naïve — 字.<|end_of_text|>Once upon a time, there was a fox.";
  const got = await perplexity(bundled, tokenizer, text, {
    maxLength: 8,
    stride: 4,
    onProgress: ({ loaded, total }) => told.push([loaded, total]),
  });
  assertEquals(got.bytes, new TextEncoder().encode("Naïve — 字.Once upon a time, there was a fox.").length);
  assertEquals(told, got.windows.map(({ end }) => [end, got.tokens]));
});

const REFUSED: [options: PerplexityOptions, ids: number[], message: string][] = [
  [{ maxLength: 1 }, [1, 2], "maxLength must be a whole number from 2 to 1024: current value is 1"],
  [{ maxLength: 1025 }, [1, 2], "current value is 1025"],
  [{ maxLength: 8, stride: 0 }, [1, 2], "stride must be a whole number from 1 to 8: current value is 0"],
  [{ maxLength: 8, stride: 9 }, [1, 2], "current value is 9"],
  [{ stride: 1.5 }, [1, 2], "current value is 1.5"],
  [{}, [1], "the text must have at least 2 tokens: it has 1"],
  [{}, [1, 2048], "tokens must be whole numbers from 0 to 2047: current value is 2048"],
];
for (const [options, ids, message] of REFUSED) {
  Deno.test(`perplexity() refuses ${JSON.stringify(options)} of ${ids.length} tokens: ${message}`, async () => {
    await assertRejects(() => perplexity(bundled, noTokenizer, ids, options), ValueError, message);
  });
}

Deno.test("perplexity() refuses masked models and broken logits, stops at an abort, and leaks nothing", async () => {
  const before = device.pool.stats.bytesInUse, ids = Array.from({ length: 40 }, (_, i) => i);
  using encoder = await loadModel(embedded("tensaur-draft"), { device, task: "base" });
  await assertRejects(() => perplexity(encoder, noTokenizer, ids), ValueError, 'its task is "base"');
  encoder.dispose();
  await assertRejects(() => perplexity(uniform(NaN), noTokenizer, ids), NumericError, "must be finite");
  const abort = new AbortController();
  const onProgress = () => abort.abort();
  const options = { maxLength: 8, onProgress, signal: abort.signal };
  await assertRejects(() => perplexity(bundled, noTokenizer, ids, options), AbortError);
  assertEquals(device.pool.stats.bytesInUse, before);
});
