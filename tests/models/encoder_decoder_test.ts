/** Encoder-decoders of the reference give in float32 what transformers gives, and in float16 nearly. */
import { assertEquals } from "@std/assert";
import { CrossCache, DynamicCache, EncoderDecoderCache, StaticCache } from "../../src/cache/mod.ts";
import { type EncoderDecoderInputs, loadModel } from "../../src/models/mod.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { testDevice } from "../helpers.ts";
import { type GoldenTensor, hasReference, loadGoldens } from "../reference.ts";
import { TemporaryFolder } from "../weights/fixture.ts";
import { assertWithin, modelPath, roundedCopy } from "./fixture.ts";

interface Case {
  name: string;
  kind: string;
  inputs: {
    input_ids?: number[][];
    attention_mask?: number[][];
    input_features?: GoldenTensor;
    decoder_input_ids: number[][];
    decoder_attention_mask?: number[][];
  };
  outputs: {
    logits: GoldenTensor;
    encoder_last_hidden_state: GoldenTensor;
    decoder_hidden_states: Record<string, GoldenTensor>;
  };
}

const device = await testDevice();
const MODELS = ["t5", "t5-gated", "bart", "whisper"];
const floats = (t: { data: unknown }) => t.data as Float32Array;

if (!hasReference()) Deno.test({ name: "skipped: the reference models are not there", ignore: true, fn() {} });

function inputsOf({ inputs: i }: Case): EncoderDecoderInputs {
  return {
    inputIds: i.input_ids,
    attentionMask: i.attention_mask,
    inputFeatures: i.input_features && tensor(device, floats(i.input_features), i.input_features.shape),
    decoderInputIds: i.decoder_input_ids,
    decoderAttentionMask: i.decoder_attention_mask,
  };
}

for (const name of MODELS) {
  const goldens = await loadGoldens<Case>(`data/models/${name}/goldens`);
  const cases = (goldens?.cases ?? []).filter((c) => c.kind === "forward");
  for (const c of cases) {
    Deno.test(`Model.forward() gives transformers' values: ${name} ${c.name}`, async () => {
      const before = device.pool.stats.bytesInUse;
      {
        using model = await loadModel(modelPath(name), { device, dtype: "float32" });
        const inputs = inputsOf(c);
        using output = await model.forward(inputs, { outputHiddenStates: true });
        const { logits, encoder_last_hidden_state: encoded, decoder_hidden_states: states } = c.outputs;
        assertEquals(output.encoderLastHiddenState!.shape, encoded.shape);
        assertWithin("encoder", await output.encoderLastHiddenState!.read(), floats(encoded), 1e-4);
        for (const [i, want] of Object.entries(states)) {
          assertWithin(`hidden state ${i}`, await output.hiddenStates![Number(i)]!.read(), floats(want), 1e-4);
        }
        assertEquals(output.logits!.shape, logits.shape);
        assertWithin("logits", await output.logits!.read(), floats(logits), 1e-4);
        inputs.inputFeatures?.dispose();
      }
      assertEquals(device.pool.stats.bytesInUse, before, "bytes that were not returned");
    });

    // rounding the weights of these models alone moves the logits by up to 4.1e-2 (T5 does not scale its scores), and
    // transformers' own float16 is off by 5.3e-2 (t5), 7.9e-2 (t5-gated), 3.1e-2 (bart) and 3.0e-3 (whisper)
    Deno.test(`Model.forward() in float16 is float32 arithmetic on rounded weights: ${name} ${c.name}`, async () => {
      using copy = new TemporaryFolder();
      await roundedCopy(modelPath(name), copy.path, "float16");
      using exact = await loadModel(copy.path, { device, dtype: "float32" });
      using half = await loadModel(modelPath(name), { device, dtype: "float16" });
      const inputs = inputsOf(c);
      using want = await exact.forward(inputs);
      using got = await half.forward(inputs);
      const [encoded, states] = [want.encoderLastHiddenState!, got.encoderLastHiddenState!];
      assertWithin("encoder", await states.read(), await encoded.read(), 5e-3); // small tables stay float32
      assertWithin("logits", await got.logits!.read(), await want.logits!.read(), 5e-3); // the cache is rounded too
      inputs.inputFeatures?.dispose();
    });

    Deno.test(`Model.forward() gives them token by token, and runs the encoder once: ${name} ${c.name}`, async () => {
      using model = await loadModel(modelPath(name), { device, dtype: "float32" });
      const { decoderInputIds, decoderAttentionMask, ...encoder } = inputsOf(c), rows = decoderInputIds!;
      const real = rows.map((row, b) => row.filter((_, i) => decoderAttentionMask?.[b]?.[i] ?? 1));
      const width = Math.min(...real.map((row) => row.length)), [, S = 0, V = 0] = c.outputs.logits.shape;
      const want = floats(c.outputs.logits);
      for (const self of [new DynamicCache(), new StaticCache({ maxCacheLen: 64 })]) {
        using cache = new EncoderDecoderCache(self, new CrossCache());
        for (let i = 0; i < width; i++) {
          const ids = real.map((row) => [row[i]!]);
          using output = await model.forward({ ...i === 0 ? encoder : {}, decoderInputIds: ids }, { cache });
          assertEquals(output.encoderLastHiddenState !== undefined, i === 0);
          const at = (b: number) => (b * S + S - real[b]!.length + i) * V; // decoders are padded on the left
          const step = rows.flatMap((_, b) => [...want.subarray(at(b), at(b) + V)]);
          assertWithin(`logits of token ${i}`, await output.logits!.read(), step, 1e-4);
        }
      }
      encoder.inputFeatures?.dispose();
    });
  }
}
