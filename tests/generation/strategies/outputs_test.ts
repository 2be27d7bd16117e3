/**
 * Scores, logits, attentions and hidden states of every strategy, step by step, against what transformers gives (G-72,
 * G-73): 5.23, and 4.44 for the strategies that 5 has no more. `tests/data/outputs/make_outputs.py` wrote them.
 */
import { assertEquals } from "@std/assert";
import { generate } from "../../../src/generation/mod.ts";
import { loadModel } from "../../../src/models/mod.ts";
import { assertClose, testDevice } from "../../helpers.ts";
import { type GoldenTensor, readSafetensors } from "../../reference.ts";
import { optionsOf } from "./options.ts";

/** Shapes of each step and layer. */
type Shapes = number[][][];

interface OutputCase {
  name: string;
  inputs: { input_ids: number[][]; attention_mask: number[][] };
  generation: Record<string, unknown>;
  sequences: number[][];
  scores: Shapes;
  logits: Shapes;
  attentions: Shapes;
  hidden_states: Shapes;
}

const CLOSE = { rtol: 1e-4, atol: 1e-4 };
const device = await testDevice();
const folder = new URL("../../data/outputs/", import.meta.url).pathname;
const model = await loadModel(`${folder}model`, { device, dtype: "float32" });

/** What is excluded is -infinity or -1e30. */
const bounded = (x: Float32Array) => x.map((v) => Math.max(v, -1e30));

for (const [release, profile] of [["5.23", "hf5"], ["4.44", "hf4"]] as const) {
  const { cases } = JSON.parse(await Deno.readTextFile(`${folder}outputs-${release}.json`)) as { cases: OutputCase[] };
  const tensors = await readSafetensors(`${folder}outputs-${release}.safetensors`);
  for (const c of cases) {
    Deno.test(`generate() gives the scores, logits, attentions and hidden states of transformers ${release}: ${c.name}`, async () => {
      const { assistant, ...given } = c.generation;
      const options = { ...optionsOf(given), ...assistant === true && { assistantModel: model } };
      const output = await generate(model, { inputIds: c.inputs.input_ids, attentionMask: c.inputs.attention_mask }, {
        ...{ doSample: false, maxNewTokens: 4, eosTokenId: null, padTokenId: 0, profile, returnDictInGenerate: true },
        ...{ outputScores: true, outputLogits: true, outputAttentions: true, outputHiddenStates: true },
        ...options,
      });
      using _ = output.cache;
      assertEquals(output.sequences, c.sequences);
      const want = (field: string, step: number, layer: number): GoldenTensor =>
        tensors.get(`${c.name}.${field}.${step}.${layer}`)!;
      for (const name of ["scores", "logits"] as const) {
        const got = output[name]!;
        assertEquals(got.map(({ length }) => [[length / output.vocabSize, output.vocabSize]]), c[name]);
        got.forEach((data, step) =>
          assertClose(`${name} ${step}`, bounded(data), want(name, step, 0).data as Float32Array, CLOSE)
        );
      }
      for (const [name, field] of [["attentions", "attentions"], ["hiddenStates", "hidden_states"]] as const) {
        const got = output[name]!;
        assertEquals(got.map((layers) => layers.map(({ shape }) => [...shape])), c[field]);
        got.forEach((layers, step) =>
          layers.forEach(({ data }, layer) =>
            assertClose(`${name} ${step} ${layer}`, data, want(field, step, layer).data as Float32Array, CLOSE)
          )
        );
      }
    });
  }
}
