/**
 * Scores, logits, attentions and hidden states of every strategy, step by step, against what transformers gives (G-72,
 * G-73): 5.23, and 4.44 for the strategies that 5 has no more. `tests/data/outputs/make_outputs.py` wrote them. Of
 * encoder-decoders also what the encoder gives, and attention to it.
 */
import { assertEquals } from "@std/assert";
import { generate } from "../../../src/generation/mod.ts";
import { loadModel } from "../../../src/models/mod.ts";
import { assertClose, testDevice } from "../../helpers.ts";
import { PAIR_CASES, PAIR_FIELDS, PAIR_TENSORS, pairModel } from "../../models/pair_goldens.ts";
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

for (const c of PAIR_CASES.filter(({ generation }) => generation)) {
  Deno.test(`generate() gives all fields of transformers' GenerateEncoderDecoderOutput: ${c.name}`, async () => {
    const before = device.pool.stats.bytesInUse;
    {
      using pair = await loadModel(pairModel(c), { device, dtype: "float32" });
      const inputs = { inputIds: c.inputs.input_ids, attentionMask: c.inputs.attention_mask };
      const options = {
        ...{ doSample: false, maxNewTokens: 3, eosTokenId: null, profile: "hf5", returnDictInGenerate: true } as const,
        ...{ outputAttentions: true, outputHiddenStates: true, ...optionsOf(c.generation!) },
      };
      const output = await generate(pair, inputs, options);
      using cache = output.cache!;
      assertEquals(output.sequences, c.sequences);
      for (const [theirs, ours] of PAIR_FIELDS) {
        const once = ours === "encoderAttentions" || ours === "encoderHiddenStates";
        const steps = once ? [output[ours]!] : output[ours]!,
          shapes = steps.map((layers) => layers.map(({ shape }) => [...shape]));
        assertEquals(shapes, c[theirs]);
        for (const [step, layers] of steps.entries()) {
          for (const [layer, { data }] of layers.entries()) {
            const want = PAIR_TENSORS.get(`${c.name}.${theirs}.${step}.${layer}`)!.data as Float32Array;
            assertClose(`${theirs} ${step} ${layer}`, data, want, CLOSE);
          }
        }
      }
      // where the cache holds the encoder's keys, its outputs still come; where nobody asks for them, they do not
      const again = await generate(pair, inputs, { ...options, cache });
      assertEquals(again.encoderHiddenStates, output.encoderHiddenStates);
      const plain = await generate(pair, inputs, {
        ...options,
        ...{ outputAttentions: false, outputHiddenStates: false },
      });
      plain.cache?.[Symbol.dispose]();
      for (const [, ours] of PAIR_FIELDS) assertEquals(ours in plain, false);
    }
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}

for (
  const [name, change] of [["prompt lookup", { promptLookupNumTokens: 2 }], ["little memory", {
    lowMemory: true,
  }]] as const
) {
  Deno.test(`generate() gives the same attention to an encoder with ${name} as without`, async () => {
    using pair = await loadModel(`${folder}encoder-decoder/t5`, { device, dtype: "float32" });
    const inputs = { inputIds: [[1, 7, 30, 7, 12]], decoderInputIds: [[0, 9, 30, 30, 9]] };
    const numBeams = name === "prompt lookup" ? 1 : 3;
    const options = { numBeams, doSample: false, maxNewTokens: 6, eosTokenId: null, outputAttentions: true };
    const want = await generate(pair, inputs, options), got = await generate(pair, inputs, { ...options, ...change });
    assertEquals(got.sequences, want.sequences);
    for (const field of ["attentions", "crossAttentions"] as const) {
      const steps = got[field]!,
        shapes = (all: typeof steps) => all.map((layers) => layers.map(({ shape }) => [...shape]));
      assertEquals(shapes(steps), shapes(want[field]!));
      steps.forEach((layers, step) =>
        layers.forEach(({ data }, i) => assertClose(`${field} ${step} ${i}`, data, want[field]![step]![i]!.data, CLOSE))
      );
    }
  });
}
