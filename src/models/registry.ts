/**
 * `model_type` of config.json → family.
 *
 * @module
 */
import { ModelFormatError, NotSupportedError } from "../errors.ts";
import { bart } from "./bart.ts";
import { bert } from "./bert.ts";
import type { ConfigJson } from "./config.ts";
import type { Family } from "./family.ts";
import { gemma2 } from "./gemma2.ts";
import { gpt2 } from "./gpt2.ts";
import { llama } from "./llama.ts";
import { mamba } from "./mamba.ts";
import { mistral } from "./mistral.ts";
import { opt } from "./opt.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3 } from "./qwen3.ts";
import { t5 } from "./t5.ts";
import { whisper } from "./whisper.ts";

/** All families. */
export const FAMILIES: readonly Family[] = [
  ...[bart, bert, gemma2, gpt2, llama, mamba, mistral, opt, qwen2, qwen3, t5, whisper],
];

/** `model_type`s that load. */
export const MODEL_TYPES: readonly string[] = FAMILIES.flatMap((family) => family.modelTypes).sort();

/**
 * The family of a config.json.
 *
 * @throws {NotSupportedError} listing what is supported
 */
export function familyOf(json: ConfigJson): Family {
  const type = json.model_type;
  if (typeof type !== "string") {
    throw new ModelFormatError(`Cannot load the model as config.json must have a model_type: it has ${type}`);
  }
  const family = FAMILIES.find(({ modelTypes }) => modelTypes.includes(type));
  if (family) return family;
  throw new NotSupportedError(
    `Cannot load the model as its model_type must be one of ${MODEL_TYPES.join(", ")}: current value is "${type}"`,
  );
}
