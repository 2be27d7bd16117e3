import { assert, assertEquals } from "@std/assert";
import { generate } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { testDevice } from "../helpers.ts";
import { assertWithin, forwardCases, inputsOf, modelPath, realRows } from "../models/fixture.ts";
import { type GoldenCase, hasReference, loadGoldens } from "../reference.ts";

const device = await testDevice();

interface GreedyCase extends GoldenCase {
  inputs: { input_ids: number[][]; attention_mask: number[][] };
  generation: { max_new_tokens: number };
  outputs: { sequences: number[][] };
}

const models: [name: string, method: string, bits: number, bound: number][] = [
  ["llama-bnb-nf4", "bitsandbytes", 4, 1e-4],
  ["llama-bnb-fp4", "bitsandbytes", 4, 1e-4],
  ["llama-bnb-int8", "bitsandbytes", 8, 2e-2], // a rounding difference can flip a code: the data's own bound
  ["llama-gptq4", "gptq", 4, 1e-4],
  ["llama-awq4", "awq", 4, 1e-4],
];

for (const [name, method, bits, bound] of models) {
  const path = modelPath(name);
  if (!hasReference(`data/models/${name}`)) {
    Deno.test({ name: `skipped: ${name} of the reference data is not there`, ignore: true, fn() {} });
    continue;
  }
  Deno.test(`loadModel() gives the logits and greedy tokens of ${name}`, async () => {
    using model = await loadModel(path, { device, dtype: "float32" });
    assertEquals(model.quantization, { method, bits });
    for (const c of await forwardCases(name)) {
      using result = await model.forward(inputsOf(c));
      const logits = await result.logits!.read() as Float32Array, V = model.sizes.vocabSize;
      const { logits: all, last_logits: last } = c.outputs, mask = c.inputs.attention_mask;
      if (all) assertWithin(c.name, realRows(logits, mask), realRows(all.data as Float32Array, mask), bound);
      const rows = mask.map((row, i) =>
        logits.subarray((i * row.length + row.length - 1) * V, (i + 1) * row.length * V)
      );
      if (last) assertWithin(c.name, rows.flatMap((row) => [...row]), last.data as Float32Array, bound);
    }
    const goldens = (await loadGoldens<GreedyCase>(`data/models/${name}/goldens`))!;
    const greedy = goldens.cases.find((c) => c.name === "greedy")!;
    const { sequences } = await generate(model, {
      inputIds: greedy.inputs.input_ids,
      attentionMask: greedy.inputs.attention_mask,
    }, { maxNewTokens: greedy.generation.max_new_tokens, doSample: false, eosTokenId: null });
    assert(sequences.length === greedy.outputs.sequences.length);
    assertEquals(sequences.map((row) => [...row]), greedy.outputs.sequences);
  });
}

const nf4 = "llama-bnb-nf4";
for (const attnImplementation of hasReference(`data/models/${nf4}`) ? ["flash_attention_2", "eager"] as const : []) {
  Deno.test(`a 4-bit model gives the same logits with ${attnImplementation}, within float16`, async () => {
    const [c] = (await forwardCases(nf4)).filter((c) => c.outputs.logits);
    using model = await loadModel(modelPath(nf4), { device, dtype: "float16", attnImplementation });
    using result = await model.forward(inputsOf(c!));
    assertWithin(nf4, await result.logits!.read() as Float32Array, c!.outputs.logits!.data as Float32Array, 1e-2);
  });
}
