import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/transpose.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";
import { extent } from "./launching.ts";

const launch = kernel("transpose", wgsl);
const TILE = 32;

/**
 * A transposed copy: `y[n, m] = x[m, n]`.
 *
 * @param x [M, N] float32, int32 or uint32
 * @returns [N, M] in the dtype of `x`
 * @throws {ShapeError} if `x` has not two dimensions
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { transpose } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = transpose(tensor(device, [1, 2, 3, 4, 5, 6], [2, 3]));
 * console.log(await y.read()); // Float32Array(6) [ 1, 4, 2, 5, 3, 6 ]
 * ```
 */
export function transpose(x: Tensor): Tensor {
  const [M = 0, N = 0] = expectShape("transpose", "x", x, ["M", "N"]);
  expectDtype("transpose", "x", x, "float32", "int32", "uint32");
  const y = empty(x.device, [N, M], x.dtype);
  if (y.size === 0) return y;
  launch(x.device, {
    bindings: { x, columns: extent(x, N), y },
    grid: [Math.ceil(M / TILE) * Math.ceil(N / TILE)],
  });
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function transposeReference(x: Float32Array, M: number, N: number): Float32Array {
  const y = new Float32Array(x.length);
  for (let m = 0; m < M; m++) {
    for (let n = 0; n < N; n++) y[n * M + m] = x[m * N + n]!;
  }
  return y;
}
