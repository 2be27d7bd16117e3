import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/gather_rows.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, floatFlags, type Tensor } from "../tensor/mod.ts";
import { elementThreads, rowBlocks, wordsPerRow } from "./launching.ts";

const launch = kernel("gather_rows", wgsl);

/**
 * Chosen rows: `y[m] = x[index[m]]`. An index past the last row gives a row of zeros: a kernel cannot raise an error.
 *
 * @param x [N, ...] any dtype; rows of 16-bit elements must have an even number of them
 * @param index [M] uint32
 * @returns [M, ...] in the dtype of `x`
 * @throws {ShapeError} if `x` has no dimension, or `index` not one
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { gatherRows } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = gatherRows(tensor(device, [1, 2, 3, 4], [2, 2]), tensor(device, [1, 1], [2], "uint32"));
 * console.log(await y.read()); // Float32Array(4) [ 3, 4, 3, 4 ]
 * ```
 */
export function gatherRows(x: Tensor, index: Tensor): Tensor {
  const width = wordsPerRow("gatherRows", "x", x);
  const [M = 0] = expectShape("gatherRows", "index", index, ["M"]);
  expectDtype("gatherRows", "index", index, "uint32");
  const y = empty(x.device, [M, ...x.shape.slice(1)], x.dtype);
  const BY_4 = width % 4 === 0;
  launch(x.device, {
    consts: { WG: elementThreads(x.device) },
    flags: { WORDS: true, BY_4 },
    bindings: { x, index, y },
    grid: rowBlocks(M, BY_4 ? width / 4 : width),
  });
  return y;
}

/**
 * Rows of an embedding table: `y[t] = weight[tokens[t]]`. A token past the last row gives a row of zeros: a kernel cannot
 * raise an error.
 *
 * @param tokens [T...] uint32
 * @param weight [V, D] float32, float16 or bfloat16
 * @returns [T..., D] float32
 * @throws {ShapeError} if `weight` has not two dimensions
 * @throws {DtypeError} if `tokens` are not uint32
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { embedding } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using tokens = tensor(device, [2, 0], [2], "uint32");
 * using y = embedding(tokens, tensor(device, [1, 2, 3, 4, 5, 6], [3, 2], "bfloat16"));
 * console.log(await y.read()); // Float32Array(4) [ 5, 6, 1, 2 ]
 * ```
 */
export function embedding(tokens: Tensor, weight: Tensor): Tensor {
  const [, D = 0] = expectShape("embedding", "weight", weight, ["V", "D"]);
  expectDtype("embedding", "tokens", tokens, "uint32");
  expectDtype("embedding", "weight", weight, "float32", "float16", "bfloat16");
  const y = empty(tokens.device, [...tokens.shape, D]);
  const BY_4 = D % 4 === 0;
  launch(tokens.device, {
    consts: { WG: elementThreads(tokens.device) },
    flags: { WORDS: weight.dtype === "float32", ...floatFlags(weight.dtype), BY_4 },
    bindings: { x: weight, index: tokens, y },
    grid: rowBlocks(tokens.size, BY_4 ? D / 4 : D),
  });
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function gatherRowsReference(x: Float32Array, width: number, index: ArrayLike<number>): Float32Array {
  const y = new Float32Array(index.length * width);
  for (let m = 0; m < index.length; m++) {
    for (let i = 0; i < width; i++) y[m * width + i] = x[index[m]! * width + i] ?? 0;
  }
  return y;
}
