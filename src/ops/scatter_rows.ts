import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/scatter_rows.wgsl" with { type: "text" };
import { expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";
import { rowBlocks, wordsPerRow } from "./launching.ts";
import { zeros } from "./zeros.ts";

const launch = kernel("scatter_rows", wgsl);

/**
 * Rows put in their places among zeros: `y[index[m]] = x[m]`, which is how a packed batch is padded again. An index past
 * the last row is left out; where two are equal, either row may stay.
 *
 * @param x [M, ...] any dtype; rows of 16-bit elements must have an even number of them
 * @param index [M] uint32
 * @param rows N, how many rows the result has
 * @returns [N, ...] in the dtype of `x`
 * @throws {ShapeError} if `index` has not one element per row of `x`
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { scatterRows } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = scatterRows(tensor(device, [1, 2], [2, 1]), tensor(device, [3, 0], [2], "uint32"), 4);
 * console.log(await y.read()); // Float32Array(4) [ 2, 0, 0, 1 ]
 * ```
 */
export function scatterRows(x: Tensor, index: Tensor, rows: number): Tensor {
  const width = wordsPerRow("scatterRows", "x", x);
  expectShape("scatterRows", "index", index, [x.shape[0]!]);
  expectDtype("scatterRows", "index", index, "uint32");
  const y = zeros(x.device, [rows, ...x.shape.slice(1)], x.dtype);
  if (y.size === 0) return y;
  const BY_4 = width % 4 === 0;
  const grid = rowBlocks(x.shape[0]!, BY_4 ? width / 4 : width);
  launch(x.device, { flags: { BY_4 }, bindings: { x, index, y }, grid });
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function scatterRowsReference(x: Float32Array, index: ArrayLike<number>, rows: number): Float32Array {
  const width = x.length / index.length;
  const y = new Float32Array(rows * width);
  for (let m = 0; m < index.length; m++) {
    if (index[m]! < rows) y.set(x.subarray(m * width, (m + 1) * width), index[m]! * width);
  }
  return y;
}
