/**
 * Tensaur runs transformer models on WebGPU, from their Hugging Face checkpoints, in plain TypeScript and WGSL.
 *
 * ```ts
 * import { generate, loadModel, loadTokenizer } from "@tensaur/tensaur";
 * using model = await loadModel("models/tensaur-tiny");
 * const tokenizer = await loadTokenizer("models/tensaur-tiny");
 * const { sequences } = await generate(model, tokenizer("Once upon a time"), { maxNewTokens: 20 });
 * console.log(tokenizer.decode(sequences[0]!, { skipSpecialTokens: true }));
 * ```
 *
 * The ops that models are made of are in `@tensaur/tensaur/ops`.
 *
 * @module
 */
export * from "./src/cache/mod.ts";
export * from "./src/errors.ts";
export * from "./src/generation/mod.ts";
export * from "./src/gpu/mod.ts";
export * from "./src/models/mod.ts";
export * from "./src/pipelines/mod.ts";
export type { Progress } from "./src/progress.ts";
export { setWarningHook, type WarningHook } from "./src/warn.ts";
export * from "./src/quantization/mod.ts";
export * from "./src/tensor/mod.ts";
export * from "./src/tokenizer/mod.ts";
export { type HubOverrides, type ResolvedModel, resolveModel, type ResolveOptions } from "./src/weights/hub.ts";
export type { GgufOption } from "./src/weights/gguf_files.ts";
export type { LinearOptions, PlannedWeight, VectorOptions, WeightDtype, WeightSource } from "./src/weights/source.ts";
export type { Activation, Epilogue } from "./src/ops/matmul.ts";
