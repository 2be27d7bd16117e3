import { ShapeError } from "../errors.ts";
import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/pool_rows.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, formatShape, type Tensor } from "../tensor/mod.ts";
import { rowBlocks } from "./launching.ts";

const launch = kernel("pool_rows", wgsl);

/** What {@linkcode poolRows} takes of a sequence: the mean of its tokens, its first token, or its last. */
export type PoolMode = "mean" | "cls" | "last";

/**
 * One row for each sequence of a packed batch. An empty sequence gives zeros.
 *
 * @param x [T, D] float32, sequences end to end
 * @param cuSeqlens [B + 1] uint32: sequence b is `x[cuSeqlens[b] .. cuSeqlens[b + 1]]`
 * @param mode which row
 * @returns [B, D] float32
 * @throws {ShapeError} if `x` has not two dimensions, or `cuSeqlens` no element
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { poolRows } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using x = tensor(device, [1, 2, 3, 4, 5, 6], [3, 2]);
 * using y = poolRows(x, tensor(device, [0, 1, 3], [3], "uint32"), "mean");
 * console.log(await y.read()); // Float32Array(4) [ 1, 2, 4, 5 ]
 * ```
 */
export function poolRows(x: Tensor, cuSeqlens: Tensor, mode: PoolMode): Tensor {
  const [, D = 0] = expectShape("poolRows", "x", x, ["T", "D"]);
  const [ends = 0] = expectShape("poolRows", "cuSeqlens", cuSeqlens, ["B + 1"]);
  if (ends === 0) {
    throw new ShapeError(`Cannot run poolRows as cuSeqlens must be [B + 1]: current shape is ${formatShape([0])}`);
  }
  expectDtype("poolRows", "x", x, "float32");
  expectDtype("poolRows", "cuSeqlens", cuSeqlens, "uint32");
  const y = empty(x.device, [ends - 1, D]);
  launch(x.device, {
    flags: { [mode.toUpperCase()]: true },
    bindings: { x, cuSeqlens, y },
    grid: rowBlocks(ends - 1, D),
  });
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function poolRowsReference(
  x: Float32Array,
  D: number,
  cuSeqlens: readonly number[],
  mode: PoolMode,
): Float32Array {
  const y = new Float32Array((cuSeqlens.length - 1) * D);
  for (let b = 0; b + 1 < cuSeqlens.length; b++) {
    const [start, end] = [cuSeqlens[b]!, cuSeqlens[b + 1]!];
    for (let i = 0; i < D && start < end; i++) {
      let sum = 0;
      for (let t = start; t < end; t++) sum += x[t * D + i]!;
      y[b * D + i] = { mean: sum / (end - start), cls: x[start * D + i]!, last: x[(end - 1) * D + i]! }[mode];
    }
  }
  return y;
}
