import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/normalize.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";
import { extent, rowVariant } from "./launching.ts";

const launch = kernel("normalize", wgsl);

/**
 * Rows of length 1: `y = x / max(‖x‖₂, eps)`, so that the product of two embeddings is their cosine.
 *
 * @param x [..., dim] float32
 * @param eps least length to divide by; a row of zeros stays one
 * @returns [..., dim] float32
 * @throws {ShapeError} if `x` has no dimension
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { normalize } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = normalize(tensor(device, [3, 4], [1, 2]));
 * console.log(await y.read()); // 0.6, 0.8
 * ```
 */
export function normalize(x: Tensor, eps = 1e-12): Tensor {
  const dim = expectShape("normalize", "x", x, ["…", "dim"]).at(-1)!;
  expectDtype("normalize", "x", x, "float32");
  const y = empty(x.device, x.shape);
  if (y.size === 0) return y;
  const { consts, flags } = rowVariant(x.device, dim);
  launch(x.device, {
    overrides: { EPS: eps },
    consts,
    flags,
    bindings: { x, width: extent(x, dim), y },
    grid: [x.size / dim],
  });
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function normalizeReference(x: Float32Array, dim: number, eps = 1e-12): Float32Array {
  const y = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += dim) {
    let sum = 0;
    for (let i = 0; i < dim; i++) sum += x[row + i]! ** 2;
    for (let i = 0; i < dim; i++) y[row + i] = x[row + i]! / Math.max(Math.sqrt(sum), eps);
  }
  return y;
}
