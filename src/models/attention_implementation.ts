/**
 * `attnImplementation`: which of the three ways of Transformers a model attends.
 *
 * @module
 */
import { RuntimeError, ValueError } from "../errors.ts";
import { sdpaKernel } from "../ops/sdpa_kernel.ts";
import type { WeightDtype } from "../weights/source.ts";
import { warn, warnOnce } from "../warn.ts";
import type { ConfigJson } from "./config.ts";
import type { Pass } from "./family.ts";

/**
 * How a model attends: `"eager"` with the math kernel, `"sdpa"` with the first kernel that can (`sdpaKernel` restricts
 * them), `"flash_attention_2"` with the flash kernel alone.
 */
export type AttnImplementation = "eager" | "sdpa" | "flash_attention_2";

/** The part of `loadModel`'s options that is about attention. */
export interface AttentionRequest {
  /** How the model attends. Default "sdpa" where its architecture supports that, else "eager". */
  attnImplementation?: AttnImplementation;
  /** Deprecated: the same as `attnImplementation: "flash_attention_2"`. */
  useFlashAttention2?: boolean;
}

const IMPLEMENTATIONS: readonly AttnImplementation[] = ["eager", "sdpa", "flash_attention_2"];
const WITHOUT_SDPA = ["bloom", "deberta-v2", "gpt_neo", "gptj", "mamba", "mpnet", "mpt"];
const WITHOUT_FLASH = ["bloom", "deberta-v2", "mamba", "mpnet", "mpt", "t5"];

/** Whether Transformers runs models of this `model_type` with "sdpa". */
export function supportsSdpa(modelType: string): boolean {
  return !WITHOUT_SDPA.includes(modelType);
}

/** Whether Transformers runs models of this `model_type` with "flash_attention_2". */
export function supportsFlashAttn2(modelType: string): boolean {
  return !WITHOUT_FLASH.includes(modelType);
}

/** The class of a model as Transformers names it: "LlamaForCausalLM". */
export function classNameOf(json: ConfigJson): string {
  const [name] = Array.isArray(json.architectures) ? json.architectures : [];
  return typeof name === "string" ? name : String(json.model_type);
}

/**
 * The implementation that is asked for, or the default.
 *
 * @param json the model's config.json
 * @throws {ValueError} if the name is not known, the architecture does not support it, or both options disagree
 */
export function resolveAttention(
  json: ConfigJson,
  { attnImplementation: asked, useFlashAttention2 }: AttentionRequest,
): AttnImplementation {
  const type = String(json.model_type);
  if (useFlashAttention2) {
    if (asked !== undefined && asked !== "flash_attention_2") {
      throw new ValueError(
        `Both attnImplementation="${asked}" and \`useFlashAttention2=true\` were used when loading the model, which are ` +
          "not compatible.",
        { hint: "Leave out useFlashAttention2." },
      );
    }
    warn(
      "FutureWarning",
      "The model was loaded with useFlashAttention2=true, which is deprecated and may be removed in a future release. " +
        'Please use `attnImplementation="flash_attention_2"` instead.',
    );
  }
  const wanted = useFlashAttention2 ? "flash_attention_2" : asked;
  if (wanted === undefined) return supportsSdpa(type) ? "sdpa" : "eager";
  checkSupported(json, wanted);
  return wanted;
}

/** Checks that models of this config can attend so. */
export function checkSupported(json: ConfigJson, wanted: AttnImplementation): void {
  const type = String(json.model_type);
  if (!IMPLEMENTATIONS.includes(wanted)) {
    const arguments_ = IMPLEMENTATIONS.map((name) => `\`attnImplementation="${name}"\``).join(", ");
    throw new ValueError(
      `Specified \`attnImplementation="${wanted}"\` is not supported. The only possible arguments are ${arguments_}.`,
    );
  }
  if (wanted === "sdpa" && !supportsSdpa(type)) {
    throw new ValueError(
      `${classNameOf(json)} does not support an attention implementation through ` +
        "torch.nn.functional.scaled_dot_product_attention yet.",
      { hint: 'Load it with attnImplementation: "eager".' },
    );
  }
  if (wanted === "flash_attention_2" && !supportsFlashAttn2(type)) {
    throw new ValueError(`${classNameOf(json)} does not support Flash Attention 2.0 yet.`, {
      hint: 'Load it with attnImplementation: "sdpa" or "eager".',
    });
  }
}

/** Warns of what flash attention will not like, as Transformers does while loading. */
export function warnAboutFlash(json: ConfigJson, dtype: WeightDtype, dtypeGiven: boolean): void {
  if (!dtypeGiven) {
    warnOnce(
      "UserWarning",
      "You are attempting to use Flash Attention 2.0 without specifying a torch dtype. This might lead to unexpected " +
        "behaviour",
    );
  }
  if (dtype === "float32") {
    warnOnce(
      "UserWarning",
      "Flash Attention 2.0 only supports torch.float16 and torch.bfloat16 dtypes, but the current dype in " +
        `${classNameOf(json)} is ${dtype}. Load the model with dtype: "float16" or "bfloat16".`,
    );
  }
}

/** Runs `fn`, a forward pass of a model of `dtype`, with the kernels that `implementation` stands for. */
export function attending<T>(implementation: AttnImplementation, dtype: WeightDtype, fn: () => T): T {
  if (implementation === "sdpa") return fn();
  if (implementation === "eager") return sdpaKernel("math", fn);
  if (dtype === "float32") {
    throw new RuntimeError(
      "FlashAttention only support fp16 and bf16 data type: current dtype of the model is float32",
      {
        hint: 'Load the model with dtype: "float16" or "bfloat16", or with attnImplementation: "sdpa".',
      },
    );
  }
  return sdpaKernel("flash", fn);
}

/** What attends in a pass that collects this: only the eager kernels give probabilities or take a head mask. */
export function implementationFor(
  json: ConfigJson,
  implementation: AttnImplementation,
  { attentions, headMask }: Pick<Pass, "attentions" | "headMask">,
): AttnImplementation {
  if (implementation === "eager" || !(attentions || headMask)) return implementation;
  warnOfFallback(json, implementation, attentions ? "outputAttentions=true" : "headMask");
  return "eager";
}

/** Warns once that `what` is computed without the fused kernels. */
function warnOfFallback(json: ConfigJson, implementation: AttnImplementation, what: string): void {
  const base = classNameOf(json).replace(/(For[A-Z]\w*|LMHeadModel|Model)$/, "");
  const layer = implementation === "sdpa" ? `${base}SdpaAttention` : `${base}FlashAttention2`;
  const fused = implementation === "sdpa" ? "torch.nn.functional.scaled_dot_product_attention" : "flash_attention_2";
  warnOnce(
    "UserWarning",
    `${base}Model is using ${layer}, but \`${fused}\` does not support \`${what}\`. Falling back to the manual attention ` +
      'implementation, which stores the scores. Load the model with attnImplementation: "eager" to be rid of this warning.',
  );
}

/** The error where a BetterTransformer should use flash attention. */
export function flashAfterConversion(): ValueError {
  return new ValueError(
    "Cannot use Flash Attention 2.0 as the model must not be a BetterTransformer: toBetterTransformer() was called on it",
    { hint: "Call reverseBetterTransformer() first." },
  );
}

/** What a model's own caches keep keys and values as. */
export function cacheDtypeOf(dtype: WeightDtype, headDim: number): "float32" | "float16" {
  return dtype === "float32" || headDim % 2 !== 0 ? "float32" : "float16";
}
