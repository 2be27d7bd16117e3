import { assert } from "@std/assert";
import { int8Dims, int8Matmul, int8MatmulReference, int8Threshold } from "../../src/ops/int8_matmul.ts";
import { packCodesReference } from "../../src/ops/pack_codes.ts";
import { packedColumns } from "../../src/ops/pack_weight.ts";
import type { CodedMatrix } from "../../src/ops/quantized_matmul.ts";
import type { Fusion } from "../../src/ops/matmul_packed.ts";
import { empty, type Tensor, tensor } from "../../src/tensor/mod.ts";
import { asGpu, randn, random, testDevice } from "../helpers.ts";
import { assertWithin } from "../models/fixture.ts";
import { productOf } from "../quantization/reader.ts";

const device = await testDevice(), plain = await testDevice({ features: { subgroups: false } });

function matrixOf(on: typeof device, codes: Int8Array, absmax: Float32Array, K: number, N: number): CodedMatrix {
  const w = packCodesReference(on, codes, { N, K, bits: 8 }), groups = new Float32Array(packedColumns(N));
  groups.set(absmax);
  return {
    kind: "int8",
    bits: 8,
    span: 32,
    flags: {},
    ...{ K, N },
    w: tensor(on, w, [w.length], "uint32"),
    groups: tensor(on, groups, [groups.length]),
    dims: int8Dims(on, { K, N }),
  };
}

/** The product, with what `fusion` names. */
function product(x: Tensor, matrix: CodedMatrix, threshold: number, fusion?: Fusion): Tensor {
  const y = empty(x.device, [x.size / matrix.K, matrix.N]);
  int8Matmul(x, [matrix], int8Threshold(x.device, matrix.K, threshold), threshold, y, fusion);
  return y;
}

/** x with large numbers in some columns, a row of zeros, and codes and absmax of W. */
function parts(M: number, K: number, N: number) {
  const next = random(K), x = randn(M * K).map((v, i) => i % K % 13 === 5 ? 9 * v : v);
  if (M > 2) x.fill(0, K, 2 * K);
  const codes = Int8Array.from({ length: N * K }, () => Math.floor(next() * 255) - 127);
  return { x, codes, absmax: Float32Array.from({ length: N }, () => next() + 0.1) };
}

const cases: [M: number, K: number, N: number, threshold: number][] = [
  // one number; odd sizes; no outliers; all columns outliers; many rows, a ragged width
  [1, 1, 1, 6],
  [3, 37, 5, 6],
  [2, 96, 8, 0],
  [2, 33, 6, 1e-6],
  // few rows whose K divides by 4: one kernel; outliers of one row and of another, in a ragged last block
  [1, 132, 10, 6],
  [4, 44, 130, 6],
  [3, 8, 4, 1e-6],
  [9, 128, 130, 6],
  // rows whose weights are unpacked; all of them outliers; odd sizes, none
  [32, 128, 130, 6],
  [32, 40, 4, 1e-6],
  [40, 37, 5, 0],
];

for (const [M, K, N, threshold] of cases) {
  Deno.test(`int8Matmul() equals its reference at [${M}, ${K}] x [${K}, ${N}], threshold ${threshold}`, async () => {
    const { x, codes, absmax } = parts(M, K, N);
    const want = int8MatmulReference(x, codes, absmax, { M, K, N, threshold });
    for (const on of M === 3 ? [device, plain] : [device]) {
      const matrix = matrixOf(on, codes, absmax, K, N);
      using y = product(tensor(on, x, [M, K]), matrix, threshold);
      assertWithin("y", await y.read() as Float32Array, want, 1e-5);
    }
  });
}

Deno.test("int8Matmul() gives the same as a GPU runs it, and adds a residual", async () => {
  const [M, K, N] = [1, 300, 34], { x, codes, absmax } = parts(M, K, N), r = randn(M * N, 5);
  const matrix = matrixOf(device, codes, absmax, K, N), residual = tensor(device, r, [M, N]);
  using y = asGpu(device, () => product(tensor(device, x, [M, K]), matrix, 6, { residual }));
  const want = int8MatmulReference(x, codes, absmax, { M, K, N, threshold: 6 }).map((v, i) => v + r[i]!);
  assertWithin("y", await y.read() as Float32Array, want, 1e-5);
});

for (const [name, bad] of [["NaN", NaN], ["infinity", Infinity]] as const) {
  Deno.test(`int8Matmul() does not hide ${name}`, async () => {
    const { x, codes, absmax } = parts(1, 64, 8);
    x[6] = bad;
    const matrix = matrixOf(device, codes, absmax, 64, 8);
    for (const threshold of [0, 6]) {
      using y = product(tensor(device, x, [1, 64]), matrix, threshold);
      const row = await y.read() as Float32Array;
      assert(row.every((v) => !Number.isFinite(v)), `threshold ${threshold}: ${row}`);
    }
  });
}

Deno.test("int8Matmul() is the float64 product of the dequantized weights where x has codes without an error", async () => {
  const [M, K, N] = [3, 96, 8], { codes, absmax } = parts(M, K, N), next = random(5);
  const x = Float32Array.from({ length: M * K }, (_, i) => (i % K === 0 ? 127 : Math.floor(next() * 255) - 127) / 32);
  const weights = Float32Array.from(codes, (code, i) => Math.fround(code * absmax[Math.floor(i / K)]!) / 127);
  const matrix = matrixOf(device, codes, absmax, K, N);
  using y = product(tensor(device, x, [M, K]), matrix, 0);
  assertWithin("y", await y.read() as Float32Array, productOf(x, weights, K), 1e-5);
});
