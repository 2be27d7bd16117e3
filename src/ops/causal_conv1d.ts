import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/causal_conv1d.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";

const launch = kernel("causal_conv1d", wgsl);

/** What {@linkcode causalConv1d} convolves. */
export interface CausalConv1d {
  /** [I, K] float32: K weights of each channel, the newest token's last. */
  weight: Tensor;
  /** [I] float32. */
  bias?: Tensor;
  /** [B, I, K] float32: the last K inputs of each sequence before this call, zeros at first; replaced by the newest. */
  states: Tensor;
  /** [B + 1] uint32: sequence b is the tokens from `cuSeqlens[b]` to `cuSeqlens[b + 1]`. */
  cuSeqlens: Tensor;
}

/**
 * A convolution of each channel by itself over packed sequences, which sees no later token, and SiLU:
 * `y[t,i] = silu(bias[i] + Σ weight[i,k] x[t - K + 1 + k, i])`.
 *
 * Source: https://arxiv.org/abs/2312.00752
 *
 * @param x [T, W] float32, of which the first I columns are read
 * @returns [T, I] float32; `states` is changed
 * @throws {ShapeError} if anything does not fit
 */
export function causalConv1d(x: Tensor, { weight, bias, states, cuSeqlens }: CausalConv1d): Tensor {
  const [T = 0] = expectShape("causalConv1d", "x", x, ["T", "W"]);
  const [I = 0, K = 0] = expectShape("causalConv1d", "weight", weight, ["I", "K"]);
  if (bias) expectShape("causalConv1d", "bias", bias, [I]);
  const [B = 0] = expectShape("causalConv1d", "states", states, ["B", I, K]);
  expectShape("causalConv1d", "cuSeqlens", cuSeqlens, [B + 1]);
  for (const [name, t] of Object.entries({ x, weight, states })) expectDtype("causalConv1d", name, t, "float32");
  const y = empty(x.device, [T, I]);
  launch(x.device, {
    flags: { BIAS: bias !== undefined },
    consts: { K },
    bindings: { x, weight, states, cuSeqlens, y, bias },
    grid: [Math.ceil(B * I / 64)],
  });
  return y;
}

/** The same for one sequence in plain loops: x [T, I] after `state` [I, K], which is changed. What the kernel must equal. */
export function causalConv1dReference(
  x: Float32Array,
  weight: Float32Array,
  bias: Float32Array | undefined,
  state: Float32Array,
  K: number,
): Float32Array {
  const I = weight.length / K, y = new Float32Array(x.length);
  for (let at = 0; at < x.length; at++) {
    const i = at % I, window = state.subarray(i * K, (i + 1) * K);
    window.copyWithin(0, 1);
    window[K - 1] = x[at]!;
    const sum = window.reduce((sum, v, k) => sum + v * weight[i * K + k]!, bias?.[i] ?? 0);
    y[at] = sum / (1 + Math.exp(-sum));
  }
  return y;
}
