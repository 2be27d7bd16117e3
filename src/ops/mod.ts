/**
 * The ops, each under its PyTorch name in camelCase, on {@linkcode Tensor}s.
 *
 * Activations are float32 on every device; weights may be float32, float16 or bfloat16. Ops never change or consume
 * their arguments, and check shapes and dtypes before anything is allocated.
 *
 * @module
 */
export { rmsNorm } from "./rms_norm.ts";
export { linear, matmul } from "./matmul.ts";
export { attention, attentionWeights, type KeyValues, type KvLayout, kvLayout } from "./attention.ts";
export { rotaryEmbedding, type RotaryOptions } from "./rotary_embedding.ts";
export { qkvRope, type QkvRopeOptions, type QueryKeyValue } from "./qkv_rope.ts";
