/** `generate` with each processor, against transformers: `data/generate/processors-*` and `stopping` of the reference. */
import { assertEquals } from "@std/assert";
import { generate, type GenerationOptions } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { loadTokenizer } from "../../src/tokenizer/mod.ts";
import { testDevice } from "../helpers.ts";
import { goldenCases, hasReference, referencePath } from "../reference.ts";

interface Case {
  name: string;
  generation: Record<string, unknown>;
  inputs: { input_ids: number[][]; attention_mask: number[][] };
  negative_prompt_ids?: number[][];
  negative_prompt_attention_mask?: number[][];
  prefix_allowed_tokens?: string;
  outputs: { sequences: number[][] };
}

const camel = (name: string) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());

/** What the golden's `generation` says, in our names. */
function optionsOf(c: Case, vocabSize: number): GenerationOptions {
  const options: GenerationOptions = Object.fromEntries(Object.entries(c.generation).map(([k, v]) => [camel(k), v]));
  const allowed = (_: number, ids: readonly number[]) =>
    Array.from({ length: vocabSize }, (_, t) => t).filter((t) => (t + ids.at(-1)!) % 3 === 1);
  return {
    ...options,
    ...c.prefix_allowed_tokens !== undefined && { prefixAllowedTokensFn: allowed },
    ...c.negative_prompt_ids && { negativePromptIds: c.negative_prompt_ids },
    ...c.negative_prompt_attention_mask && { negativePromptAttentionMask: c.negative_prompt_attention_mask },
  };
}

const device = await testDevice();
const cases = await goldenCases<Case>("data/generate/processors-llama");
const stops = await goldenCases<Case>("data/generate/stopping");
if (hasReference("data/models/llama")) {
  const path = referencePath("data/models/llama");
  const model = await loadModel(path, { device, dtype: "float32" });
  const tokenizer = await loadTokenizer(path);
  for (const c of [...cases.filter(({ generation }) => (generation.num_beams ?? 1) === 1), ...stops]) {
    Deno.test(`generate() gives transformers' tokens with ${c.name}`, async () => {
      const options = optionsOf(c, model.sizes.vocabSize);
      const inputs = { inputIds: c.inputs.input_ids, attentionMask: c.inputs.attention_mask };
      const { sequences } = await generate(model, inputs, { ...options, ...options.stopStrings && { tokenizer } });
      assertEquals(sequences, c.outputs.sequences);
    });
  }
}
