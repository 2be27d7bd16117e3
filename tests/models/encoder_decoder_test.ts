/** Encoder-decoders of the reference give in float32 what transformers gives, and in float16 nearly. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { CrossCache, DynamicCache, EncoderDecoderCache, StaticCache } from "../../src/cache/mod.ts";
import { ValueError } from "../../src/errors.ts";
import { type EncoderDecoderInputs, loadModel } from "../../src/models/mod.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { testDevice } from "../helpers.ts";
import { type GoldenTensor, hasReference, loadGoldens } from "../reference.ts";
import { assertWithin, modelPath } from "./fixture.ts";

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
const MODELS = ["t5", "t5-gated"];
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
    for (const [dtype, bound] of [["float32", 1e-4], ["float16", 5e-3]] as const) {
      Deno.test(`Model.forward() gives transformers' values in ${dtype}: ${name} ${c.name}`, async () => {
        const before = device.pool.stats.bytesInUse;
        {
          using model = await loadModel(modelPath(name), { device, dtype });
          const inputs = inputsOf(c);
          using output = await model.forward(inputs, { outputHiddenStates: true });
          const { logits, encoder_last_hidden_state: encoded, decoder_hidden_states: states } = c.outputs;
          assertEquals(output.encoderLastHiddenState!.shape, encoded.shape);
          assertWithin("encoder", await output.encoderLastHiddenState!.read(), floats(encoded), bound);
          for (const [i, want] of Object.entries(states)) {
            assertWithin(`hidden state ${i}`, await output.hiddenStates![Number(i)]!.read(), floats(want), bound);
          }
          assertEquals(output.logits!.shape, logits.shape);
          assertWithin("logits", await output.logits!.read(), floats(logits), bound);
          inputs.inputFeatures?.dispose();
        }
        assertEquals(device.pool.stats.bytesInUse, before, "bytes that were not returned");
      });
    }
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
