/**
 * BetterTransformer by the names that the Hugging Face documents give it. What it does elsewhere, fused projections,
 * batches without padding and fused attention, is how every model here runs; converting one only changes how an eager
 * model attends.
 *
 * @module
 */
import { NotImplementedError, RuntimeError, ValueError } from "../errors.ts";
import type { AttnImplementation } from "./attention_implementation.ts";
import type { Model } from "./model.ts";

const NATIVE = ["falcon", "gpt_bigcode", "llama", "whisper"];
const IMPOSSIBLE = ["deberta-v2", "glpn"];
const ENCODERS = ["albert", "bert", "bert-generation", "camembert", "distilbert", "electra", "ernie", "roberta"];
const SUPPORTED = [
  ...ENCODERS,
  ...["bark", "bart", "blenderbot", "blip-2", "bloom", "clip", "codegen", "data2vec-text", "deit", "fsmt", "gpt2"],
  ...["gpt_neo", "gpt_neox", "gptj", "hubert", "layoutlm", "m2m_100", "marian", "markuplm", "mbart", "opt", "pegasus"],
  ...["prophetnet", "rembert", "roc_bert", "roformer", "splinter", "t5", "tapas", "vilt", "vit", "vit_mae", "vit_msn"],
  ...["wav2vec2", "xlm-roberta", "yolos"],
];

const converted = new WeakMap<Model, AttnImplementation>();

/** Whether {@linkcode toBetterTransformer} has converted the model. */
export function isBetterTransformer(model: Model): boolean {
  return converted.has(model);
}

/**
 * Converts a model as `model.to_bettertransformer()` does: an eager model attends with fused kernels from then on. The
 * results are the same, and no weight changes: an activation other than relu and gelu, which BetterTransformer replaces by
 * gelu with a warning, stays what the model was trained with. (The fused layer there knows two activations and one epsilon;
 * here each op has its own kernel. Positions that are not absolute are refused by {@linkcode loadModel} already.)
 *
 * @returns the model itself
 * @throws {RuntimeError} if it is converted already
 * @throws {ValueError} if it runs with "sdpa" because it was asked to, if Transformers itself does all this for its
 *   architecture, or if its architecture cannot be converted
 * @throws {NotImplementedError} if BetterTransformer does not know its architecture
 *
 * @example
 * ```ts
 * import { loadModel, reverseBetterTransformer, toBetterTransformer } from "@tensaur/tensaur";
 * using model = await loadModel("models/tensaur-tiny");
 * try {
 *   reverseBetterTransformer(toBetterTransformer(model));
 * } catch (error) {
 *   console.log((error as Error).name); // ValueError: Llama models are as fast without
 * }
 * ```
 */
export function toBetterTransformer(model: Model): Model {
  const type = String(model.config.model_type);
  if (NATIVE.includes(type)) {
    throw new ValueError(
      "Transformers now supports natively BetterTransformer optimizations " +
        `(torch.nn.functional.scaled_dot_product_attention) for the model type ${type}.`,
      { hint: "Leave the conversion out: the model has all that it brings." },
    );
  }
  if (isBetterTransformer(model)) {
    throw new RuntimeError(
      "Cannot convert the model as it must not be converted yet: toBetterTransformer() was called on it before",
      { hint: "Call reverseBetterTransformer() first." },
    );
  }
  if (model.attnImplementationGiven && model.attnImplementation === "sdpa") {
    throw new ValueError(
      "This model already uses BetterTransformer optimizations from Transformers " +
        "(torch.nn.functional.scaled_dot_product_attention): it was loaded with attnImplementation sdpa.",
      { hint: "Leave the conversion out: the model has all that it brings." },
    );
  }
  if (IMPOSSIBLE.includes(type)) {
    throw new ValueError(`Cannot convert the model as its attention must be plain: that of ${type} is not`);
  }
  if (!SUPPORTED.includes(type)) {
    throw new NotImplementedError(
      `Cannot convert the model as its model_type must be one of ${SUPPORTED.join(", ")}: current value is "${type}"`,
      { hint: "Leave the conversion out: every model here runs without padding and with fused attention." },
    );
  }
  const { heads } = model.sizes;
  if (ENCODERS.includes(type) && heads % 2 !== 0) {
    throw new ValueError(`Cannot convert the model as it must have an even number of heads: it has ${heads}`);
  }
  const before = model.attnImplementation;
  if (before === "eager") model.setAttnImplementation("sdpa");
  converted.set(model, before);
  return model;
}

/**
 * Takes back {@linkcode toBetterTransformer}: the model attends as it did before.
 *
 * @returns the model itself
 * @throws {ValueError} if it is not converted
 */
export function reverseBetterTransformer(model: Model): Model {
  const before = converted.get(model);
  if (before === undefined) {
    throw new ValueError(
      "Cannot reverse the conversion as the model must be a BetterTransformer: toBetterTransformer() was not called on it",
    );
  }
  converted.delete(model);
  model.setAttnImplementation(before);
  return model;
}

/**
 * Checks that a model may be saved: what is saved are its own modules, not the converted ones.
 *
 * @throws {ValueError} while it is converted
 */
export function checkMaySave(model: Model): void {
  if (!isBetterTransformer(model)) return;
  throw new ValueError("Cannot save the model as it must not be converted: toBetterTransformer() was called on it", {
    hint: "Call reverseBetterTransformer() first.",
  });
}
