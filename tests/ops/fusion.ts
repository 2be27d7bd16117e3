/** What stands around a product, in plain loops: for the tests of all kernels that multiply by a matrix. */
import { decode, type Dtype, encode } from "../../src/tensor/mod.ts";
import { gatedActivationReference } from "../../src/ops/gated_activation.ts";
import { matmulReference } from "../../src/ops/matmul.ts";
import type { Fusion } from "../../src/ops/matmul_packed.ts";
import { rmsNormReference } from "../../src/ops/rms_norm.ts";
import { unaryReference } from "../../src/ops/unary.ts";

/** What stands around a product in a test. */
export interface Around {
  bias?: true;
  norm?: true;
  residual?: true;
  activation?: Fusion["activation"];
  gate?: Fusion["gate"];
  parts?: number;
}
/** What `around` makes of x [M, K] and w [K, N], in plain loops; `met` is what the product makes of x, normed. */
export function aroundReference(
  x: Float32Array,
  w: Float32Array,
  N: number,
  around: Around,
  d: AroundData,
  met: (h: Float32Array) => Float32Array = (h) => h,
): Float32Array {
  const h = met(around.norm ? rmsNormReference(x, d.norm, 1e-5) : x);
  const M = x.length / d.norm.length;
  let y: Float32Array = matmulReference(h, w, M, d.norm.length, N).map((v, i) =>
    v + (around.bias ? d.bias[i % N]! : 0)
  );
  if (around.activation) y = y.map(unaryReference[around.activation.toUpperCase()]!);
  if (around.gate) y = gatedActivationReference(y, N / 2, around.gate);
  if (around.parts) {
    const width = N / around.parts;
    const blocks = Array.from({ length: around.parts }, (_, p) => y.filter((_, i) => Math.floor(i % N / width) === p));
    y = Float32Array.from(blocks.flatMap((block) => [...block]));
  }
  return around.residual ? y.map((v, i) => v + d.residual[i]!) : y;
}

/** Its vectors: [K], [N], and one of the shape of the result. */
export interface AroundData {
  norm: Float32Array;
  bias: Float32Array;
  residual: Float32Array;
}

/** `x` as it comes back from `dtype`. */
export function rounded(x: Float32Array, dtype: Dtype): Float32Array {
  return Float32Array.from(decode(encode(x, dtype).slice().buffer, dtype));
}
