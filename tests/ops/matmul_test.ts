import { assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import { linear, matmul, matmulReference } from "../../src/ops/matmul.ts";
import { decode, type Dtype, encode, tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";

const device = await testDevice();

/** `x` as it comes back from `dtype`. */
function rounded(x: Float32Array, dtype: Dtype): Float32Array {
  return Float32Array.from(decode(encode(x, dtype).slice().buffer, dtype));
}

const shapes = [
  // M, K, N: one element, odd everywhere, K not a multiple of 4, N not a multiple of 4, one row, rows of each tile, wide
  [1, 1, 1],
  [3, 5, 7],
  [2, 66, 130],
  [1, 64, 2048],
  [4, 256, 3],
  [5, 128, 64],
  [17, 96, 100],
  [70, 32, 36],
] as const;

for (const dtype of ["float32", "float16", "bfloat16"] as const) {
  for (const [M, K, N] of shapes) {
    Deno.test(`matmul() and linear() equal the reference at [${M}, ${K}] x [${K}, ${N}] ${dtype}`, async () => {
      const x = randn(M * K), w = rounded(randn(K * N, 2), dtype), bias = randn(N, 3);
      const wT = Float32Array.from({ length: K * N }, (_, i) => w[(i % K) * N + Math.floor(i / K)]!);
      const want = matmulReference(x, w, M, K, N);
      using a = tensor(device, x, [M, K]);
      using y = matmul(a, tensor(device, w, [K, N], dtype));
      using z = linear(a, tensor(device, wT, [N, K], dtype), tensor(device, bias, [N]));
      const near = device.features.subgroupMatrix && dtype !== "float32" ? 1e-3 : 1e-5; // x is rounded to float16
      const tolerance = { rtol: near, atol: near * Math.sqrt(K) };
      assertClose("matmul", await y.read(), want, tolerance);
      assertClose("linear", await z.read(), want.map((v, i) => v + bias[i % N]!), tolerance);
    });
  }
}

Deno.test("matmul() multiplies batches", async () => {
  const [Z, M, K, N] = [3, 5, 8, 6];
  const x = randn(Z * M * K), w = randn(Z * K * N, 2);
  using y = matmul(tensor(device, x, [Z, M, K]), tensor(device, w, [Z, K, N]));
  const want = Array.from(
    { length: Z },
    (_, z) => matmulReference(x.subarray(z * M * K, (z + 1) * M * K), w.subarray(z * K * N, (z + 1) * K * N), M, K, N),
  );
  assertClose("y", await y.read(), Float32Array.from(want.flatMap((a) => [...a])), { atol: 1e-5 });
});

Deno.test("linear() takes any leading dimensions, and none at all", async () => {
  const w = tensor(device, randn(6 * 4), [6, 4]);
  using one = linear(tensor(device, randn(4), [4]), w);
  using many = linear(tensor(device, randn(2 * 3 * 4), [2, 3, 4]), w);
  using none = linear(tensor(device, [], [0, 4]), w);
  assertClose("shapes", [...one.shape, ...many.shape, ...none.shape], [6, 2, 3, 6, 0, 6]);
  assertClose("none", await none.read(), []);
});

Deno.test("matmul() and linear() refuse what does not fit", () => {
  const a = tensor(device, randn(6), [2, 3]), b = tensor(device, randn(8), [4, 2]);
  assertThrows(() => matmul(a, b), ShapeError, "Cannot run matmul as a must be […, M, 4]: current shape is [2, 3]");
  assertThrows(() => linear(a, b), ShapeError, "linear");
  assertThrows(() => linear(a, tensor(device, randn(6), [2, 3]), tensor(device, [1], [1])), ShapeError, "bias");
  assertThrows(() => matmul(a, tensor(device, [1, 2, 3], [3, 1], "int32")), DtypeError, "int32");
});
