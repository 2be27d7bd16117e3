/**
 * The ops, each under its PyTorch name in camelCase, on {@linkcode Tensor}s.
 *
 * Activations are float32 on every device; weights may be float32, float16 or bfloat16. Ops never change or consume
 * their arguments (but `countTokens` adds to its counts), and check shapes and dtypes before anything is allocated.
 *
 * @module
 */
export { rmsNorm } from "./rms_norm.ts";
export { linear, matmul } from "./matmul.ts";
export {
  attention,
  type AttentionBackend,
  type AttentionCall,
  type AttentionCase,
  type AttentionChoice,
  attentionWeights,
  chooseAttention,
  type KeyValues,
  type KvLayout,
  kvLayout,
  type Strides,
} from "./attention.ts";
export type { AttentionTraits } from "./sdpa_choice.ts";
export { scaledDotProductAttention, type SdpaOptions } from "./scaled_dot_product_attention.ts";
export {
  sdpaKernel,
  SDPBackend,
  type SdpBackendName,
  type SdpBackends,
  sdpKernel,
  type SdpKernelOptions,
} from "./sdpa_kernel.ts";
export { rotaryEmbedding, type RotaryOptions } from "./rotary_embedding.ts";
export { qkvRope, type QkvRopeOptions, type QueryKeyValue } from "./qkv_rope.ts";
export { argmax } from "./argmax.ts";
export { add, mul } from "./binary.ts";
export { cast } from "./cast.ts";
export { type GateActivation, gatedActivation, geglu, swiglu } from "./gated_activation.ts";
export { embedding, gatherRows } from "./gather_rows.ts";
export { layerNorm } from "./layer_norm.ts";
export { normalize } from "./normalize.ts";
export { type PoolMode, poolRows } from "./pool_rows.ts";
export { crossEntropy } from "./cross_entropy.ts";
export { concatRows, sliceRows } from "./rows.ts";
export { scatterRows } from "./scatter_rows.ts";
export { sliceColumns } from "./slice_columns.ts";
export { type CausalConv1d, causalConv1d } from "./causal_conv1d.ts";
export { type SelectiveScan, selectiveScan } from "./selective_scan.ts";
export { logSoftmax, softmax } from "./softmax.ts";
export { transpose } from "./transpose.ts";
export { gelu, type GeluOptions, quickGelu, relu, sigmoid, silu, softcap, tanh } from "./unary.ts";
export { unfold, type UnfoldOptions } from "./unfold.ts";
export { zeros } from "./zeros.ts";
export { sampleLogits } from "./sample_logits.ts";
export { samplingParams, type SamplingSettings, samplingWords } from "./sampling_params.ts";
export { warpLogits } from "./warp_logits.ts";
export { NO_INDEX, type TopK, topK } from "./top_k.ts";
export { countTokens } from "./count_tokens.ts";
export { repetitionPenalty } from "./repetition_penalty.ts";
export { occurrencePenalty } from "./occurrence_penalty.ts";
export { biasTable, biasTokens, type TokenBias } from "./bias_tokens.ts";
export { banNgrams } from "./ban_ngrams.ts";
export { forceTokens } from "./force_tokens.ts";
export { lengthDecay } from "./length_decay.ts";
export { finiteLogits } from "./finite_logits.ts";
export { guideLogits } from "./guide_logits.ts";
export { cutoffLogits } from "./cutoff_logits.ts";
export { typicalLogits } from "./typical_logits.ts";
export { topHLogits } from "./top_h_logits.ts";
export { type Watermark, watermarkLogits, watermarkWords } from "./watermark_logits.ts";
export type { TokenHistory } from "./logits.ts";
export { appendTokens } from "./append_tokens.ts";
export { type SynthId, synthIdLogits, synthIdWords } from "./synthid_logits.ts";
