import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/slice_columns.wgsl" with { type: "text" };
import { empty, expectShape, type Tensor } from "../tensor/mod.ts";
import { expectRange, extent, rowBlocks, words } from "./launching.ts";

const launch = kernel("slice_columns", wgsl);

/**
 * A copy of columns `start` to `end` of the last dimension.
 *
 * @param x [..., N] any dtype; 16-bit ones with even `N`, `start` and `end`
 * @returns [..., end - start] in the dtype of `x`
 * @throws {ShapeError} if the range is not within the last dimension
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { sliceColumns } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = sliceColumns(tensor(device, [1, 2, 3, 4, 5, 6], [2, 3]), 1, 3);
 * console.log(await y.read()); // Float32Array(4) [ 2, 3, 5, 6 ]
 * ```
 */
export function sliceColumns(x: Tensor, start: number, end: number): Tensor {
  const n = expectShape("sliceColumns", "x", x, ["…", "N"]).at(-1)!;
  expectRange("sliceColumns", x.shape, start, end, n);
  const [columns = 0, width = 0, offset = 0] = [n, end - start, start].map((k) => words("sliceColumns", "x", x, k));
  const y = empty(x.device, [...x.shape.slice(0, -1), end - start], x.dtype);
  if (y.size === 0) return y;
  launch(x.device, {
    bindings: { x, columns: extent(x, columns), width: extent(x, width), offset: extent(x, offset + 1), y },
    grid: rowBlocks(x.size / n, width),
  });
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function sliceColumnsReference(x: Float32Array, n: number, start: number, end: number): Float32Array {
  return x.filter((_, i) => start <= i % n && i % n < end);
}
