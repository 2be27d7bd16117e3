import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/layer_norm.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";
import { extent, rowVariant } from "./launching.ts";

const launch = kernel("layer_norm", wgsl);

/**
 * Layer norm: `y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias`, the variance being the mean of the squared
 * differences, taken so that a large mean costs no digits.
 *
 * Source: https://arxiv.org/abs/1607.06450
 *
 * @param x [..., dim] float32
 * @param weight [dim] float32; undefined for none
 * @param bias [dim] float32; undefined for none
 * @param eps added to the variance
 * @returns [..., dim] float32
 * @throws {ShapeError} if the last dimension of `x` is not that of `weight` or `bias`
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { layerNorm } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using x = tensor(device, [1, 3], [1, 2]);
 * using y = layerNorm(x, tensor(device, [1, 1], [2]), tensor(device, [0, 10], [2]), 0);
 * console.log(await y.read()); // Float32Array(2) [ -1, 11 ]
 * ```
 */
export function layerNorm(x: Tensor, weight?: Tensor, bias?: Tensor, eps = 1e-5): Tensor {
  const dim = expectShape("layerNorm", "x", x, ["…", "dim"]).at(-1)!;
  expectDtype("layerNorm", "x", x, "float32");
  for (const [name, t] of Object.entries({ weight, bias })) {
    if (!t) continue;
    expectShape("layerNorm", name, t, [dim]);
    expectDtype("layerNorm", name, t, "float32");
  }
  const y = empty(x.device, x.shape);
  if (y.size === 0) return y;
  const { consts, flags } = rowVariant(x.device, dim);
  const rows = x.size / dim, ROWS = x.device.isCpu && rows >= 16 ? 4 : 1; // a CPU pays for each load of the weights
  launch(x.device, {
    overrides: { EPS: eps },
    consts: { ...consts, ROWS },
    flags: { WEIGHT: weight !== undefined, BIAS: bias !== undefined, ...flags },
    bindings: { x, width: extent(x, dim), weight, bias, y },
    grid: [Math.ceil(rows / ROWS)],
  });
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function layerNormReference(
  x: Float32Array,
  dim: number,
  weight?: Float32Array,
  bias?: Float32Array,
  eps = 1e-5,
): Float32Array {
  const y = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += dim) {
    let sum = 0, squares = 0;
    for (let i = 0; i < dim; i++) sum += x[row + i]!;
    for (let i = 0; i < dim; i++) squares += (x[row + i]! - sum / dim) ** 2;
    const scale = 1 / Math.sqrt(squares / dim + eps);
    for (let i = 0; i < dim; i++) {
      y[row + i] = (x[row + i]! - sum / dim) * scale * (weight?.[i] ?? 1) + (bias?.[i] ?? 0);
    }
  }
  return y;
}
