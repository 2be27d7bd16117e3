/** Sentence embeddings: what sentence-transformers gives, in batches of any shape. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { LimitError, ValueError } from "../../src/errors.ts";
import { loadModel, type LoadOptions, type Model } from "../../src/models/mod.ts";
import { embed, type TextEncoderLike } from "../../src/pipelines/mod.ts";
import { loadTokenizer } from "../../src/tokenizer/mod.ts";
import { assertClose, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor, hasReference, readSafetensors, referencePath } from "../reference.ts";
import { chunked } from "../models/fixture.ts";
import { tinyModel } from "../models/tiny_model.ts";
import { minilm } from "./minilm.ts";

interface Sentences {
  texts: string[];
  max_length: number;
  input_ids: number[][];
  outputs: { embeddings: GoldenTensor; cosine_similarity: GoldenTensor };
}

const device = await testDevice();
const full = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const cosine = (a: readonly number[], b: readonly number[]) =>
  a.reduce((sum, x, i) => sum + x * b[i]!, 0) / (Math.hypot(...a) * Math.hypot(...b));

function assertNear(got: readonly number[][], want: readonly number[][], least: number): void {
  assertEquals(got.length, want.length);
  for (const [i, row] of got.entries()) {
    assert(cosine(row, want[i]!) >= least, `text ${i}: cosine ${cosine(row, want[i]!)}`);
    assert(Math.abs(Math.hypot(...row) - 1) < 1e-5, `text ${i} has length ${Math.hypot(...row)}`);
  }
}

for (const c of await goldenCases<Sentences>("data/models/bert-sentence/goldens", "sentence_embeddings")) {
  Deno.test(`embed() gives sentence-transformers' vectors: bert-sentence ${c.name}`, async () => {
    const path = referencePath("data/models/bert-sentence");
    using model = await loadModel(path, { device, dtype: "float32" });
    const tokenizer = await loadTokenizer(path);
    const { data, shape } = c.outputs.embeddings;
    const want = chunked(data as Float32Array, shape[1]!);
    assertEquals(tokenizer(c.texts, { truncation: true, maxLength: c.max_length }).inputIds, c.input_ids);
    for (const batchTokens of [8192, 64, 1]) {
      const got = await embed(model, tokenizer, c.texts, { maxLength: c.max_length, batchTokens });
      assertNear(got, want, 1 - 1e-6);
      const similarity = got.flatMap((a) => got.map((b) => cosine(a, b)));
      assertClose("cosines", similarity, c.outputs.cosine_similarity.data as Float32Array, { atol: 1e-5 });
    }
  });
}

const sentences = "minilm/sentences.txt";
const found = hasReference(sentences) ? await minilm() : { missing: "its reference is not there" };
if ("missing" in found) {
  Deno.test({ name: `skipped: all-MiniLM-L6-v2 cannot be had: ${found.missing}`, ignore: true, fn() {} });
} else {
  const texts = (await Deno.readTextFile(referencePath(sentences))).split("\n").filter((line) => line.trim());
  const reference = await readSafetensors(referencePath("minilm/embeddings.safetensors"));
  const want = chunked(reference.get("embeddings")!.data as Float32Array, 384);
  const load = (options: LoadOptions) => loadModel(found.path, { device, ...options });

  Deno.test("embed() gives transformers' vectors: all-MiniLM-L6-v2, in one ragged batch and one by one", async () => {
    using model = await load({ dtype: "float32" });
    const tokenizer = await loadTokenizer(found.path);
    const counts = [...reference.get("token_counts")!.data as BigInt64Array].map(Number);
    assertEquals(tokenizer(texts, { truncation: true, maxLength: 256 }).inputIds.map((ids) => ids.length), counts);

    const options = { maxLength: 256 };
    await embed(model, tokenizer, texts.slice(0, 1), options); // compiles the kernels
    const start = performance.now();
    const single: number[][] = [];
    for (const text of texts) single.push(...await embed(model, tokenizer, [text], options));
    const middle = performance.now();
    const batch = await embed(model, tokenizer, texts, options);
    const [alone, together] = [middle - start, performance.now() - middle].map((ms) => (ms / texts.length).toFixed(0));
    console.log(`a sentence takes ${alone} ms alone, ${together} ms in a batch of ${texts.length}`);
    assertNear(batch, want, 0.9999);
    assertNear(single, want, 0.9999);
  });

  const rounded = [["float16", 0.9999], ["bfloat16", 0.999]] as const;
  for (const [dtype, least] of full ? rounded : []) {
    Deno.test(`embed() in ${dtype} stays near: all-MiniLM-L6-v2`, async () => {
      using model = await load({ dtype });
      const tokenizer = await loadTokenizer(found.path);
      assertNear(await embed(model, tokenizer, texts, { maxLength: 256 }), want, least);
    });
  }
}

/** Ids of characters; a text has as many tokens as characters. */
const letters: TextEncoderLike = (texts, { maxLength }) => ({
  inputIds: texts.map((text) => [...text].map((c) => c.charCodeAt(0) % 61).slice(0, maxLength)),
});
const texts = ["a", "some words", "a much longer text than the others", "xyz"];

Deno.test("embed() gives each text the same vector in any batch, in order", async () => {
  using model = await base();
  const want = await embed(model, letters, texts);
  for (const batchTokens of [1, 10, 12, 40, Infinity]) {
    const got = await embed(model, letters, texts, { batchTokens });
    assertNear(got, want, 1 - 1e-6);
  }
  assertNear(await embed(model, letters, texts.toReversed()), want.toReversed(), 1 - 1e-6);
});

Deno.test("embed() takes no notice of padding that the tokenizer adds", async () => {
  using model = await base();
  const padding: TextEncoderLike = (texts, options) => {
    const { inputIds } = letters(texts, options);
    const pad = (rows: number[][]) => rows.map((row) => [...row, ...Array(40 - row.length).fill(0)]);
    return { inputIds: pad(inputIds), attentionMask: pad(inputIds.map((row) => row.map(() => 1))) };
  };
  assertEquals(await embed(model, padding, texts), await embed(model, letters, texts));
});

Deno.test("embed() pools the mean, the first or the last token, and scales on demand", async () => {
  using model = await base();
  using output = await model.forward({ inputIds: letters(["abcd"], { truncation: true, maxLength: 9 }).inputIds });
  const rows = chunked(await output.lastHiddenState!.read(), 24);
  const mean = rows[0]!.map((_, d) => rows.reduce((sum, row) => sum + row[d]!, 0) / rows.length);
  for (const [pooling, want] of [["mean", mean], ["cls", rows[0]!], ["last", rows[3]!]] as const) {
    const [raw] = await embed(model, letters, ["abcd"], { pooling, normalize: false });
    const [unit] = await embed(model, letters, ["abcd"], { pooling });
    assert(cosine(raw!, want) > 1 - 1e-6 && cosine(unit!, want) > 1 - 1e-6);
    assert(Math.abs(Math.hypot(...raw!) / Math.hypot(...want) - 1) < 1e-5);
    assert(Math.abs(Math.hypot(...unit!) - 1) < 1e-5);
  }
});

Deno.test("embed() cuts texts to maxLength, and to what the model allows", async () => {
  using model = await base();
  const long = "z".repeat(500);
  assertEquals(await embed(model, letters, [long]), await embed(model, letters, ["z".repeat(96)]));
  assertEquals(await embed(model, letters, [long], { maxLength: 5 }), await embed(model, letters, ["zzzzz"]));
});

Deno.test("embed() refuses what it cannot do by name, and leaves no byte in use", async () => {
  using model = await base();
  assertEquals(await embed(model, letters, []), []);
  const before = device.pool.stats.bytesInUse;
  await assertRejects(() => embed(model, letters, ["a", ""]), ValueError, "text 1 as it must have a token");
  await assertRejects(() => embed(model, letters, [""]), ValueError, "text 0");
  for (const batchTokens of [0, -1, NaN]) {
    await assertRejects(() => embed(model, letters, ["a"], { batchTokens }), ValueError, "batchTokens");
  }
  const foreign: TextEncoderLike = () => ({ inputIds: [[61]] });
  await assertRejects(() => embed(model, foreign, ["a"]), ValueError, "from 0 to 60: current value is 61");
  const endless: TextEncoderLike = () => ({ inputIds: [Array(97).fill(1)] });
  await assertRejects(() => embed(model, endless, ["a"]), LimitError, "at most 96 tokens");
  assertEquals(device.pool.stats.bytesInUse, before);
});

function base(): Promise<Model> {
  return tinyModel(device, "bert", { task: "base" });
}
