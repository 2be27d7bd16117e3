/**
 * Model families, and loading them.
 *
 * @module
 */
export {
  type AttentionRequest,
  type AttnImplementation,
  supportsFlashAttn2,
  supportsSdpa,
} from "./attention_implementation.ts";
export { isBetterTransformer, reverseBetterTransformer, toBetterTransformer } from "./better_transformer.ts";
export type { ConfigJson } from "./config.ts";
export { estimateMemory, type EstimateOptions, type MemoryEstimate } from "./estimate_memory.ts";
export type { AttentionReport, LayerReport, LinearReport, ModelReport } from "./explain_model.ts";
export type { ApplyHead, Collected, Encoder, Family, FamilyConfig, Head, Pass, Task } from "./family.ts";
export type { HeadMask } from "./head_mask.ts";
export * from "./load_model.ts";
export * from "./model.ts";
export * from "./quantization_errors.ts";
export { MODEL_TYPES } from "./registry.ts";
export * from "./rope.ts";
export { saveModel, type SaveOptions } from "./save_model.ts";
