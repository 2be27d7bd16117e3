import { OutOfMemoryError } from "../errors.ts";
import type { Model } from "../models/mod.ts";
import { warn } from "../warn.ts";
import { generate } from "./generate.ts";
import type { GenerationOptions } from "./options.ts";
import type { GenerateOutput } from "./outputs.ts";
import type { GenerationInputs } from "./prompts.ts";

/**
 * Generates as {@linkcode generate} does; if memory runs out, once more with a cache in host memory.
 *
 * Source: the recipe of Transformers' documents for `OffloadedCache`.
 *
 * @throws {OutOfMemoryError} if memory runs out again, or a cache was passed
 *
 * @example
 * ```ts
 * import { loadModel, loadTokenizer, resilientGenerate } from "@tensaur/tensaur";
 * using model = await loadModel("models/tensaur-tiny");
 * const tokenizer = await loadTokenizer("models/tensaur-tiny");
 * const { sequences } = await resilientGenerate(model, tokenizer("The cat"), { maxNewTokens: 8 });
 * console.log(tokenizer.decode(sequences[0]!));
 * ```
 */
export async function resilientGenerate(
  model: Model,
  inputs: GenerationInputs,
  options: GenerationOptions = {},
): Promise<GenerateOutput> {
  try {
    return await generate(model, inputs, options);
  } catch (error) {
    if (!(error instanceof OutOfMemoryError) || options.cache || model.device.guard.error) throw error;
    warn("UserWarning", `${error.message}. Trying again with cacheImplementation: "offloaded".`);
  }
  model.device.pool.trim();
  return await generate(model, inputs, { ...options, cacheImplementation: "offloaded", cacheConfig: undefined });
}
