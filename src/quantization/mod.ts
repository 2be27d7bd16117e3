/**
 * How weights are packed: one scheme a file, behind the interfaces {@linkcode Linear} and {@linkcode Embedding}.
 *
 * @module
 */
export * from "./bitsandbytes_config.ts";
export type { Shard } from "./bytes.ts";
export { DenseEmbedding, DenseLinear, type DensePart } from "./dense.ts";
export * from "./linear.ts";
export type { QuantizationOptions } from "./method.ts";
export type { LayerShape, QuantizationState, Slice } from "./scheme.ts";
