import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/rms_norm.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";
import { rowVariant } from "./launching.ts";

const launch = kernel("rms_norm", wgsl);

/**
 * Root mean square norm: `y = x / sqrt(mean(x²) + eps) * weight`.
 *
 * Source: https://arxiv.org/abs/1910.07467
 *
 * @param x [..., dim] float32
 * @param weight [dim] float32
 * @param eps added to the mean square
 * @param residual added to the result, of the shape of `x`
 * @returns [..., dim] float32
 * @throws {ShapeError} if the last dimension of `x` is not that of `weight`
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { rmsNorm } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using x = tensor(device, [3, 4], [1, 2]);
 * using y = rmsNorm(x, tensor(device, [1, 1], [2]));
 * console.log(await y.read()); // 0.8485281…, 1.1313708…
 * ```
 */
export function rmsNorm(x: Tensor, weight: Tensor, eps = 1e-6, residual?: Tensor): Tensor {
  const [dim = 0] = expectShape("rmsNorm", "weight", weight, ["dim"]);
  expectShape("rmsNorm", "x", x, ["…", dim]);
  for (const [name, t] of Object.entries({ x, weight })) expectDtype("rmsNorm", name, t, "float32");
  if (residual) {
    expectShape("rmsNorm", "residual", residual, x.shape);
    expectDtype("rmsNorm", "residual", residual, "float32");
  }
  const y = empty(x.device, x.shape);
  if (y.size === 0) return y;
  const { consts, flags } = rowVariant(x.device, dim);
  launch(x.device, {
    overrides: { EPS: eps },
    consts,
    flags: { ...flags, RESIDUAL: residual !== undefined },
    bindings: { x, weight, y, residual },
    grid: [x.size / dim],
  });
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function rmsNormReference(x: Float32Array, weight: Float32Array, eps = 1e-6): Float32Array {
  const dim = weight.length;
  const y = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += dim) {
    let sum = 0;
    for (let i = 0; i < dim; i++) sum += x[row + i]! ** 2;
    const scale = 1 / Math.sqrt(sum / dim + eps);
    for (let i = 0; i < dim; i++) y[row + i] = x[row + i]! * scale * weight[i]!;
  }
  return y;
}
