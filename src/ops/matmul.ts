import { DtypeError, ShapeError } from "../errors.ts";
import { expectDtype, expectShape, formatShape, type Tensor, tidy } from "../tensor/mod.ts";
import { matmulPacked, packedMatrix } from "./matmul_packed.ts";
import { emptyPacked, packedColumns, packWeight } from "./pack_weight.ts";

export { type Activation, type Epilogue, type Fusion } from "./matmul_packed.ts";

/**
 * Matrix product `a · b`, with sums in float32.
 *
 * @param a [..., M, K] float32
 * @param b [K, N], or [..., K, N] with the leading dimensions of `a`; float32, float16 or bfloat16
 * @returns [..., M, N] float32
 * @throws {ShapeError} if the inner dimensions differ, or the leading ones
 * @throws {DtypeError} if a dtype cannot be multiplied
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { matmul } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using a = tensor(device, [1, 2, 3, 4], [2, 2]);
 * using y = matmul(a, a);
 * console.log(await y.read()); // Float32Array(4) [ 7, 10, 15, 22 ]
 * ```
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  const [K = 0, N = 0] = b.shape.slice(-2);
  const batch = b.shape.slice(0, -2);
  expectShape("matmul", "a", a, batch.length ? [...batch, "M", K] : ["…", "M", K]);
  expectDtype("matmul", "a", a, "float32");
  checkWeightDtype("matmul", b);
  if (b.shape.length < 2) {
    throw new ShapeError(`Cannot run matmul as b must be […, K, N]: current shape is ${formatShape(b.shape)}`);
  }
  return tidy(a.device, () => {
    const w = N % 4 === 0 ? b : repack(b);
    return matmulPacked(a, packedMatrix(w, N));
  });
}

/**
 * PyTorch's linear layer: `y = x · weightᵀ + bias`.
 *
 * Packs `weight` first; a model keeps its weights packed and calls its `Linear` instead.
 *
 * @param x [..., in] float32
 * @param weight [out, in] float32, float16 or bfloat16
 * @param bias [out] float32
 * @returns [..., out] float32
 * @throws {ShapeError} if a dimension does not fit
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { linear } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using x = tensor(device, [1, 2], [1, 2]);
 * using y = linear(x, tensor(device, [1, 1, 1, -1], [2, 2]));
 * console.log(await y.read()); // Float32Array(2) [ 3, -1 ]
 * ```
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  const [N = 0, K = 0] = expectShape("linear", "weight", weight, ["out", "in"]);
  expectShape("linear", "x", x, ["…", K]);
  expectDtype("linear", "x", x, "float32");
  checkWeightDtype("linear", weight);
  if (bias) {
    expectShape("linear", "bias", bias, [N]);
    expectDtype("linear", "bias", bias, "float32");
  }
  return tidy(x.device, () => {
    const w = emptyPacked(x.device, K, N, weight.dtype);
    packWeight(weight, w, { transpose: true });
    return matmulPacked(x, packedMatrix(w, N), { bias });
  });
}

function repack(b: Tensor): Tensor {
  const [K = 0, N = 0] = b.shape.slice(-2);
  const rows = b.size / Math.max(1, N);
  const w = emptyPacked(b.device, rows, N, b.dtype);
  packWeight(b.reshape([rows, N]), w);
  return w.reshape([...b.shape.slice(0, -2), K, packedColumns(N)]);
}

function checkWeightDtype(op: string, { dtype }: Tensor): void {
  if (dtype === "float32" || dtype === "float16" || dtype === "bfloat16") return;
  throw new DtypeError(
    `Cannot run ${op} as its weight must be float32, float16 or bfloat16: current dtype is ${dtype}`,
  );
}

/** The same in plain loops: y [M, N] of x [M, K] and w [K, N], summed in float64. */
export function matmulReference(x: Float32Array, w: Float32Array, M: number, K: number, N: number): Float32Array {
  const y = new Float32Array(M * N);
  for (let m = 0; m < M; m++) {
    for (let n = 0; n < N; n++) {
      let sum = 0;
      for (let k = 0; k < K; k++) sum += x[m * K + k]! * w[k * N + n]!;
      y[m * N + n] = sum;
    }
  }
  return y;
}
