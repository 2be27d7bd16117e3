/** Laws of encoder-decoders on random models, and what Transformers 5.23 gives of two, which need no reference. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { LimitError, ModelFormatError, NotSupportedError, ShapeError, ValueError } from "../../src/errors.ts";
import { DynamicCache } from "../../src/cache/mod.ts";
import { generate } from "../../src/generation/mod.ts";
import type { ConfigJson } from "../../src/models/config.ts";
import { type EncoderDecoderInputs, loadModel, planModel } from "../../src/models/mod.ts";
import { familyOf } from "../../src/models/registry.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { randn, testDevice } from "../helpers.ts";
import { TemporaryFolder } from "../weights/fixture.ts";
import { assertWithin } from "./fixture.ts";
import { PAIR_CASES, PAIR_FIELDS, PAIR_TENSORS, pairModel } from "./pair_goldens.ts";
import { TINY_ENCODER_DECODERS, writeModel } from "./tiny_model.ts";

const device = await testDevice();
type Kind = keyof typeof TINY_ENCODER_DECODERS;
const read = (kind: Kind, change: ConfigJson) => {
  const json = { ...TINY_ENCODER_DECODERS[kind], ...change };
  return familyOf(json).config(json);
};

for (const kind of Object.keys(TINY_ENCODER_DECODERS) as Kind[]) {
  Deno.test(`an encoder-decoder gives the same cached and not, padded and not, alone and in a batch: ${kind}`, async () => {
    using folder = new TemporaryFolder();
    await writeModel(folder, TINY_ENCODER_DECODERS[kind]);
    const before = device.pool.stats.bytesInUse;
    {
      const plan = await planModel(folder.path, { dtype: "float32" });
      using model = await loadModel(folder.path, { device, dtype: "float32" });
      assertEquals(device.pool.stats.bytesInUse - before, plan.byteLength);
      const mel = randn(2 * 5 * 12), speech = kind === "whisper";
      using features = tensor(device, mel, [2, 5, 12]);
      const rows = [[4, 5, 6, 7, 8, 9, 10, 11, 12, 13], [14, 15, 16]];
      const both: EncoderDecoderInputs = speech ? { inputFeatures: features } : { inputIds: rows };
      const padded: EncoderDecoderInputs = speech ? { inputFeatures: features } : {
        inputIds: [rows[0]!, [...Array(7).fill(1), ...rows[1]!]],
        attentionMask: [Array(10).fill(1), [...Array(7).fill(0), 1, 1, 1]],
      };
      const decoderInputIds = [[2, 20, 21, 22, 23], [2, 30, 31, 32, 33]];
      using whole = await model.forward({ ...both, decoderInputIds });
      const want = await whole.logits!.read();
      using other = await model.forward({ ...padded, decoderInputIds });
      assertWithin("padded", await other.logits!.read(), want, 1e-5);
      using cache = model.newCache();
      const got: Float32Array[] = [];
      for (const [from, to] of [[0, 2], [2, 3], [3, 5]]) {
        const ids = decoderInputIds.map((row) => row.slice(from, to));
        using part = await model.forward({ ...both, decoderInputIds: ids }, { cache });
        got.push(await part.logits!.read() as Float32Array);
      }
      const V = 61, at = (b: number, from: number, n: number) => want.slice((b * 5 + from) * V, (b * 5 + from + n) * V);
      const parts = [[0, 2], [2, 1], [3, 2]].map(([from, n]) => [...at(0, from!, n!), ...at(1, from!, n!)]);
      for (const [i, part] of parts.entries()) assertWithin(`call ${i}`, got[i]!, part, 1e-5);
      const second = speech ? tensor(device, mel.subarray(60), [1, 5, 12]) : undefined;
      const alone: EncoderDecoderInputs = second ? { inputFeatures: second } : { inputIds: [rows[1]!] };
      const options = { maxNewTokens: 6, eosTokenId: null, doSample: false, numBeams: 2 };
      const all = await generate(model, both, options), one = await generate(model, alone, options);
      assertEquals(one.sequences[0], all.sequences[1]);
      second?.dispose();
    }
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}

Deno.test("encoder-decoders refuse inputs that do not fit", async () => {
  using folder = new TemporaryFolder();
  await writeModel(folder, TINY_ENCODER_DECODERS.whisper);
  using model = await loadModel(folder.path, { device, dtype: "float32" });
  using short = tensor(device, randn(50), [1, 5, 10]);
  const decoderInputIds = [[2]];
  await assertRejects(() => model.forward({ inputFeatures: short, decoderInputIds }), ShapeError, "[B, 5, 12]");
  await assertRejects(() => model.forward({ inputIds: [[1]], decoderInputIds }), ShapeError, "inputFeatures");
  await assertRejects(() => model.forward({ inputFeatures: short }), ValueError, "decoderInputIds");
  using cache = new DynamicCache();
  await assertRejects(
    () => model.forward({ inputFeatures: short, decoderInputIds }, { cache }),
    ValueError,
    "two parts",
  );
  using right = tensor(device, randn(60), [1, 5, 12]);
  const long = { inputFeatures: right, decoderInputIds: [Array(41).fill(3)] };
  await assertRejects(() => model.forward(long), LimitError, "at most 40");
});

Deno.test("configs of encoder-decoders are read or refused, never guessed", () => {
  assertEquals(read("t5", {}).headDim, 10);
  assertEquals(read("whisper", {}).features, { channels: 5, frames: 12, states: 6 });
  assert(read("bart", {}).maxEncoderPositions === 40);
  assertThrows(() => read("t5", { feed_forward_proj: "gated-swish" }), NotSupportedError, "feed_forward_proj");
  assertThrows(() => read("t5", { relative_attention_num_buckets: 0 }), ModelFormatError, "buckets");
  assertThrows(() => read("bart", { normalize_before: true }), NotSupportedError, "normalize_before");
  assertThrows(() => read("bart", { encoder_attention_heads: 5 }), ModelFormatError, "encoder_attention_heads");
  assertThrows(() => read("bart", { activation_function: "snake" }), NotSupportedError, "activation_function");
  assertThrows(() => read("whisper", { max_source_positions: "x" }), ModelFormatError, "max_source_positions");
});

const WATCHED = { outputAttentions: true, outputHiddenStates: true } as const;

for (const c of PAIR_CASES.filter(({ generation }) => generation === null)) {
  const { name, inputs } = c;
  Deno.test(`Model.forward() gives hidden states and attentions of both stacks as transformers does: ${name}`, async () => {
    const before = device.pool.stats.bytesInUse;
    {
      using model = await loadModel(pairModel(c), { device, dtype: "float32" });
      const { input_ids: inputIds, attention_mask: attentionMask, decoder_input_ids: decoderInputIds } = inputs;
      using output = await model.forward({ inputIds, attentionMask, decoderInputIds }, WATCHED);
      for (const [theirs, ours] of PAIR_FIELDS) {
        const layers = output[ours]!,
          ofField = [...PAIR_TENSORS.keys()].filter((key) => key.startsWith(`${name}.${theirs}.`));
        assertEquals(layers.length, ofField.length);
        for (const [i, layer] of layers.entries()) {
          const want = PAIR_TENSORS.get(`${name}.${theirs}.0.${i}`)!;
          assertEquals([...layer.shape], [...want.shape]);
          assertWithin(`${theirs} ${i}`, await layer.read(), want.data as Float32Array, 1e-4);
        }
      }
    }
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}

Deno.test("Model.forward() gives a speech model's attentions too, and after a cache those that a whole pass gives", async () => {
  using folder = new TemporaryFolder();
  await writeModel(folder, TINY_ENCODER_DECODERS.whisper);
  using model = await loadModel(folder.path, { device, dtype: "float32" });
  using inputFeatures = tensor(device, randn(60), [1, 5, 12]);
  const ids = [2, 20, 21];
  using whole = await model.forward({ inputFeatures, decoderInputIds: [ids] }, WATCHED);
  const { encoderHiddenStates: states, encoderLastHiddenState: last, encoderAttentions: own } = whole;
  assertEquals(states!.map(({ shape }) => [...shape]), Array(3).fill([1, 6, 24]));
  assertEquals(await states![2]!.read(), await last!.read());
  assertEquals(own!.map(({ shape }) => [...shape]), Array(2).fill([1, 2, 6, 6]));
  const [cross] = whole.crossAttentions!, want = await cross!.read() as Float32Array;
  assertEquals([...cross!.shape], [1, 4, 3, 6]);
  for (const probabilities of [want, await own![0]!.read() as Float32Array]) {
    for (let at = 0; at < probabilities.length; at += 6) {
      assertWithin("sum", [probabilities.subarray(at, at + 6).reduce((sum, p) => sum + p, 0)], [1], 1e-5);
    }
  }
  using cache = model.newCache();
  for (const [i, id] of ids.entries()) {
    using output = await model.forward({ ...i === 0 && { inputFeatures }, decoderInputIds: [[id]] }, {
      cache,
      ...WATCHED,
    });
    assertEquals("encoderAttentions" in output, i === 0);
    const rows = Array.from({ length: 4 }, (_, h) => [...want.subarray((h * 3 + i) * 6, (h * 3 + i + 1) * 6)]);
    assertWithin(`token ${i}`, await output.crossAttentions![0]!.read(), rows.flat(), 1e-5);
  }
});

Deno.test("Model.forward() places attention to an encoder where its tokens stood, and refuses other rows", async () => {
  using folder = new TemporaryFolder();
  await writeModel(folder, TINY_ENCODER_DECODERS.t5);
  using model = await loadModel(folder.path, { device, dtype: "float32" });
  using cache = model.newCache();
  const inputs = { inputIds: [[9, 4, 9, 5, 6]], attentionMask: [[0, 1, 0, 1, 1]] }, decoderInputIds = [[3]];
  using first = await model.forward({ ...inputs, decoderInputIds }, { cache, outputAttentions: true });
  using known = await model.forward({ ...inputs, decoderInputIds }, { cache, outputAttentions: true });
  using alone = await model.forward({ decoderInputIds }, { cache, outputAttentions: true });
  for (const { crossAttentions: [placed] = [] } of [first, known]) {
    assertEquals([...placed!.shape], [1, 3, 1, 5]);
    assertEquals([...await placed!.read()].map((p) => p > 0), Array(3).fill([false, true, false, true, true]).flat());
  }
  assertEquals([...alone.crossAttentions![0]!.shape], [1, 3, 1, 3]); // only the cache knows of them
  const other = { inputIds: [[4, 5]], decoderInputIds };
  await assertRejects(() => model.forward(other, { cache, outputAttentions: true }), ShapeError, "filled with");
  assertEquals([...cache.lengths], [3]); // the refused call left nothing behind
  const options = { cache, maxNewTokens: 1, outputHiddenStates: true };
  await assertRejects(() => generate(model, { inputIds: [[4, 5]] }, options), ShapeError, "filled with");
});
