/** The embedded model reads a book that it was not trained on, with caches that forget and caches that round. */
import { assert } from "@std/assert";
import {
  type Cache,
  DynamicCache,
  packBatch,
  QuantizedCache,
  SinkCache,
  SlidingWindowCache,
} from "../../src/cache/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { tidy } from "../../src/tensor/mod.ts";
import { loadTokenizer } from "../../src/tokenizer/mod.ts";
import { embedded } from "../generation/models.ts";
import { testDevice } from "../helpers.ts";

const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const TOKENS = Number(Deno.env.get("TENSAUR_TEST_BOOK_TOKENS") ?? 3000), WINDOW = 256, EVERY = 16;
const STREAM = 20_000, STEP = 20, PART = 1000;

if (!FULL) Deno.test({ name: "skipped: perplexity on held-out books runs in the full suite", ignore: true, fn() {} });
else {
  const device = await testDevice();
  const model = await loadModel(embedded("tensaur-tiny"), { device, dtype: "float32" });
  const tokenizer = await loadTokenizer(embedded("tensaur-tiny"));
  const recipe = new URL("../../models/recipe/", import.meta.url);
  const books = await Promise.all([1, 2].map((i) => Deno.readTextFile(new URL(`held_out_book_${i}.txt`, recipe))));
  const [ids = []] = tokenizer(books.join("\n\n")).inputIds;
  const tokens = ids.slice(0, TOKENS);

  /** Negative log-likelihoods of the tokens of `text` from 1 on, read `step` at a time. */
  const read = async (cache: Cache, text: readonly number[] = tokens, step = 1): Promise<Float64Array> => {
    using owned = cache;
    const losses = new Float64Array(text.length);
    for (let i = 0; i < text.length; i += step) {
      const piece = text.slice(i, i + step);
      using output = await model.forward({ inputIds: [piece] }, { cache: owned });
      const logits = await output.logits!.read({ early: true }) as Float32Array;
      for (const j of piece.keys()) {
        const next = text[i + j + 1];
        if (next !== undefined) losses[i + j + 1] = loss(logits.subarray(0, (j + 1) * 2048), next);
      }
    }
    await device.stream.settled();
    return losses;
  };
  const perplexity = (losses: ArrayLike<number>, at: readonly number[]) =>
    Math.exp(at.reduce((sum, i) => sum + losses[i]!, 0) / at.length);

  Deno.test(`SinkCache keeps the perplexity of re-computation over its window, ${tokens.length} tokens`, async () => {
    const at = tokens.map((_, i) => i).filter((i) => i > 2 * WINDOW && i % EVERY === 0);
    const anew = new Float64Array(tokens.length);
    for (const i of at) { // the last tokens of the book so far, as a text of their own
      using batch = packBatch(device, tokens.slice(i - WINDOW, i), Array.from({ length: WINDOW }, (_, p) => p), [
        WINDOW,
      ]);
      using cache = new DynamicCache();
      cache.reserve(1, [WINDOW]);
      using logits = tidy(device, () => model.nextLogits(batch, cache));
      anew[i] = loss(await logits.read() as Float32Array, tokens[i]!);
    }
    const sink = perplexity(await read(new SinkCache({ windowLength: WINDOW, numSinkTokens: 4 })), at);
    const window = perplexity(await read(new SlidingWindowCache({ slidingWindow: WINDOW })), at);
    const want = perplexity(anew, at);
    console.log(
      `perplexity: window anew ${want.toFixed(3)}, sinks ${sink.toFixed(3)}, plain window ${window.toFixed(3)}`,
    );
    assert(sink <= 1.1 * want, `${sink} against ${want}`);
  });

  Deno.test(`SinkCache streams ${STREAM} tokens through ${WINDOW} slots with steady perplexity`, async () => {
    using cache = new SinkCache({ windowLength: WINDOW, numSinkTokens: 4 });
    const text = tokens.slice(0, 2500), rounds: number[] = []; // a text longer than the window, again and again
    let sum = 0;
    for (let i = 0; i < STREAM; i += STEP) {
      const inputIds = [Array.from({ length: STEP }, (_, j) => text[(i + j) % text.length]!)];
      using output = await model.forward({ inputIds }, { cache });
      const logits = await output.logits!.read({ early: true }) as Float32Array;
      for (let j = 0; j < STEP; j++) {
        sum += loss(logits.subarray(0, (j + 1) * 2048), text[(i + j + 1) % text.length]!);
      }
      if ((i + STEP) % text.length === 0) rounds.push(Math.exp(sum / text.length)), sum = 0;
    }
    console.log(`perplexity of each time round: ${rounds.map((x) => x.toFixed(3)).join(" ")}`);
    const [, ...later] = rounds; // the first begins without a window
    for (const x of later) assert(Math.abs(x / later[0]! - 1) < 0.02, `${x} against ${later[0]}`);
    await device.stream.settled();
  });

  Deno.test("QuantizedCache keeps the perplexity within 2 % at 4 bits", async () => {
    // in parts of the model's positions: past them its perplexity is 18, codes or not
    const starts = Array.from({ length: Math.ceil(tokens.length / PART) }, (_, i) => i * PART);
    const readParts = async (make: () => Cache) => {
      const losses: number[] = [];
      for (const start of starts) {
        losses.push(...(await read(make(), tokens.slice(start, start + PART), STEP)).slice(PART / 10));
      }
      return perplexity(losses, [...losses.keys()]);
    };
    const plain = await readParts(() => new DynamicCache()), results: string[] = [];
    for (const nbits of [8, 4, 2]) {
      const ratio = await readParts(() => new QuantizedCache({ nbits, qGroupSize: 32 })) / plain;
      results.push(`${nbits} bits × ${ratio.toFixed(4)}`);
      if (nbits >= 4) assert(ratio <= 1.02, `${nbits} bits: ${ratio}`);
    }
    console.log(`perplexity ${plain.toFixed(3)}: ${results.join(", ")}`);
  });
}

function loss(logits: Float32Array, token: number): number {
  const row = logits.subarray(logits.length - 2048), most = Math.max(...row);
  return Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0)) + most - row[token]!;
}
