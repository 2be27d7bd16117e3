import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/selective_scan.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";
import { mul } from "./binary.ts";
import { sliceColumns } from "./slice_columns.ts";
import { silu } from "./unary.ts";

const launch = kernel("selective_scan", wgsl);
const BUFFERS = 9; // of the gated kernel; every device binds 8

/** What {@linkcode selectiveScan} scans with. */
export interface SelectiveScan {
  /** [T, I] float32: step sizes, before the softplus. */
  dt: Tensor;
  /** [I, N] float32: A is `-exp(aLog)`. */
  aLog: Tensor;
  /** [T, W] float32, whose last 2·N columns are B and C. */
  bc: Tensor;
  /** [I] float32. */
  d: Tensor;
  /** [T, V] float32, whose last I columns gate the result: it is multiplied by their SiLU. */
  z?: Tensor;
  /** [B, I, N] float32: the states before this call, zeros at first; replaced by the last. */
  states: Tensor;
  /** [B + 1] uint32: sequence b is the tokens from `cuSeqlens[b]` to `cuSeqlens[b + 1]`. */
  cuSeqlens: Tensor;
}

/**
 * The selective scan of a state-space model over packed sequences: `h = exp(δ A) h + δ B u` and `y = C h + D u` for each
 * channel, token by token, with `δ = softplus(dt)`.
 *
 * Source: https://arxiv.org/abs/2312.00752
 *
 * @param u [T, I] float32
 * @returns [T, I] float32; `states` is changed
 * @throws {ShapeError} if anything does not fit
 */
export function selectiveScan(u: Tensor, { dt, aLog, bc, d, z, states, cuSeqlens }: SelectiveScan): Tensor {
  const [T = 0, I = 0] = expectShape("selectiveScan", "u", u, ["T", "I"]);
  const [, N = 0] = expectShape("selectiveScan", "aLog", aLog, [I, "N"]);
  expectShape("selectiveScan", "dt", dt, [T, I]);
  expectShape("selectiveScan", "bc", bc, [T, "W"]);
  expectShape("selectiveScan", "d", d, [I]);
  const [B = 0] = expectShape("selectiveScan", "states", states, ["B", I, N]);
  expectShape("selectiveScan", "cuSeqlens", cuSeqlens, [B + 1]);
  for (const [name, t] of Object.entries({ u, dt, aLog, bc, d, states })) {
    expectDtype("selectiveScan", name, t, "float32");
  }
  const width = z && expectShape("selectiveScan", "z", z, [T, "V"])[1]!;
  const gated = z && u.device.limits.maxStorageBuffersPerShaderStage >= BUFFERS ? z : undefined;
  const y = empty(u.device, [T, I]);
  launch(u.device, {
    flags: { GATED: gated !== undefined },
    consts: { N },
    bindings: { u, dt, aLog, bc, d, states, cuSeqlens, y, z: gated },
    grid: [Math.ceil(B * I / 64)],
  });
  if (!z || gated) return y;
  using plain = y;
  using gate = sliceColumns(z, width! - I, width!);
  using factor = silu(gate);
  return mul(plain, factor);
}

/** The same for one sequence in plain loops, after `state` [I, N], which is changed: what the kernel must equal. */
export function selectiveScanReference(
  u: Float32Array,
  { dt, a, b, c, d, state }: Record<"dt" | "a" | "b" | "c" | "d" | "state", Float32Array>,
): Float32Array {
  const I = d.length, N = a.length / I;
  return u.map((x, at) => {
    const i = at % I, t = Math.floor(at / I), step = Math.log1p(Math.exp(dt[at]!));
    let sum = d[i]! * x;
    for (let n = 0; n < N; n++) {
      const h = Math.exp(step * a[i * N + n]!) * state[i * N + n]! + step * b[t * N + n]! * x;
      state[i * N + n] = h;
      sum += c[t * N + n]! * h;
    }
    return sum;
  });
}
