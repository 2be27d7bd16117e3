import { ShapeError } from "../errors.ts";
import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/argmax.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, formatShape, type Tensor } from "../tensor/mod.ts";
import { rowVariant } from "./launching.ts";

const launch = kernel("argmax", wgsl);

/**
 * Index of the largest element along the last dimension; the lowest one of several. A NaN counts as the largest, as in
 * PyTorch.
 *
 * @param x [..., n] float32, `n` at least 1
 * @returns [...] uint32
 * @throws {ShapeError} if the last dimension is empty
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { argmax } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = argmax(tensor(device, [1, 9, 9, 2, 1, 0], [2, 3]));
 * console.log(await y.read()); // Uint32Array(2) [ 1, 0 ]
 * ```
 */
export function argmax(x: Tensor): Tensor {
  const n = expectShape("argmax", "x", x, ["…", "n"]).at(-1)!;
  expectDtype("argmax", "x", x, "float32");
  if (n === 0) {
    throw new ShapeError(
      `Cannot run argmax as the last dimension of x must have an element: current shape is ${formatShape(x.shape)}`,
    );
  }
  const y = empty(x.device, x.shape.slice(0, -1), "uint32");
  const { consts, flags: { BY_4 } } = rowVariant(x.device, n);
  launch(x.device, { consts, flags: { BY_4 }, bindings: { x, y }, grid: [x.size / n] });
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function argmaxReference(x: Float32Array, n: number): Uint32Array {
  const y = new Uint32Array(x.length / n);
  for (let row = 0; row < y.length; row++) {
    let best = 0;
    for (let i = 1; i < n; i++) {
      const value = x[row * n + i]!, most = x[row * n + best]!;
      if (value > most || (Number.isNaN(value) && !Number.isNaN(most))) best = i;
    }
    y[row] = best;
  }
  return y;
}
