import { ShapeError } from "../errors.ts";
import { empty, expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";
import { expectRange, words } from "./launching.ts";

/**
 * A copy of rows `start` to `end` of the first dimension; `Tensor.rows` views them without one where they are aligned.
 *
 * @param x [N, ...] any dtype; the rows of a 16-bit one must begin at a whole word of 4 bytes
 * @returns [end - start, ...] in the dtype of `x`
 * @throws {ShapeError} if the range is not within the first dimension
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { sliceRows } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = sliceRows(tensor(device, [1, 2, 3, 4, 5, 6], [3, 2]), 1, 3);
 * console.log(await y.read()); // Float32Array(4) [ 3, 4, 5, 6 ]
 * ```
 */
export function sliceRows(x: Tensor, start: number, end: number): Tensor {
  const [n = 0, ...rest] = expectShape("sliceRows", "x", x, ["N", ...x.shape.slice(1)]);
  expectRange("sliceRows", x.shape, start, end, n);
  const width = rest.reduce((product, length) => product * length, 1);
  const offset = 4 * words("sliceRows", "x", x, start * width);
  const y = empty(x.device, [end - start, ...rest], x.dtype);
  x.device.stream.copy(x.buffer.gpu, x.byteOffset + offset, y.buffer.gpu, 0, Math.ceil(y.byteLength / 4) * 4);
  return y;
}

/**
 * The rows of several tensors, one after the other.
 *
 * @param list each [Nᵢ, ...], of one dtype, equal in all but the first dimension
 * @returns [Σ Nᵢ, ...]
 * @throws {ShapeError} if the list is empty, or the rows differ in shape
 * @throws {DtypeError} if the dtypes differ
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { concatRows } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = concatRows([tensor(device, [1, 2], [1, 2]), tensor(device, [3, 4], [1, 2])]);
 * console.log(await y.read(), y.shape); // Float32Array(4) [ 1, 2, 3, 4 ] [ 2, 2 ]
 * ```
 */
export function concatRows(list: readonly Tensor[]): Tensor {
  const [first] = list;
  if (!first) throw new ShapeError("Cannot run concatRows as its list must hold a tensor: current length is 0");
  const rest = first.shape.slice(1);
  for (const [i, t] of list.entries()) {
    expectShape("concatRows", `tensor ${i}`, t, ["N", ...rest]);
    expectDtype("concatRows", `tensor ${i}`, t, first.dtype);
    if (i < list.length - 1) words("concatRows", `tensor ${i}`, t, t.size);
  }
  const y = empty(first.device, [list.reduce((sum, t) => sum + t.shape[0]!, 0), ...rest], first.dtype);
  let at = 0;
  for (const t of list) {
    first.device.stream.copy(t.buffer.gpu, t.byteOffset, y.buffer.gpu, at, Math.ceil(t.byteLength / 4) * 4);
    at += t.byteLength;
  }
  return y;
}
