import { assertEquals } from "@std/assert";
import type { Device } from "../../src/gpu/mod.ts";
import { matmulKernel, matmulPacked, matmulTraits, packedMatrix } from "../../src/ops/matmul_packed.ts";
import { mul } from "../../src/ops/binary.ts";
import { matmulReference } from "../../src/ops/matmul.ts";
import { emptyPacked, packWeight, stripOf } from "../../src/ops/pack_weight.ts";
import { type Dtype, tensor, tidy } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";
import { type Around, aroundReference, rounded } from "./fusion.ts";

const device = await testDevice();
const gpu: Device = Object.create(device, { isCpu: { value: false } }); // chooses the kernels that GPUs get
const masked = { ...device.features, subgroups: false, subgroupMatrix: false };
const plain: Device = Object.create(device, { features: { value: masked } });

const all: Around = { bias: true, residual: true, activation: "gelu" };
const gated: Around = { norm: true, bias: true, gate: "silu", residual: true };
const cases: [Device, M: number, K: number, N: number, Dtype, Around][] = [
  // one, two, three rows; 6, 18 and more of many; K or N odd; columns of less and of more than a workgroup
  [device, 1, 64, 300, "float16", { norm: true }],
  [device, 1, 44, 304, "bfloat16", { norm: true, ...all }],
  [device, 1, 40, 144, "float16", gated],
  [device, 1, 20, 48, "float16", { parts: 2, bias: true }],
  [device, 4, 40, 48, "bfloat16", gated],
  [device, 2, 36, 50, "float32", { norm: true, ...all }],
  [device, 6, 20, 44, "float16", all],
  [device, 18, 68, 272, "bfloat16", gated],
  [device, 21, 12, 30, "float16", { parts: 3, bias: true, activation: "relu" }],
  [device, 4, 7, 10, "float32", { norm: true, gate: "gelu_tanh", residual: true }],
  [plain, 1, 64, 40, "float16", gated],
  [plain, 9, 18, 45, "float32", { norm: true, ...all }],
  [plain, 11, 20, 40, "float16", gated],
  [plain, 12, 516, 44, "float32", all],
  [plain, 12, 1028, 44, "float32", all],
  [plain, 7, 1032, 40, "bfloat16", gated],
  [gpu, 1, 64, 48, "float16", gated],
  [gpu, 9, 70, 300, "float32", all],
  [gpu, 130, 20, 700, "float16", { norm: true, ...all, activation: "tanh" }],
  [gpu, 200, 40, 536, "bfloat16", gated],
  [gpu, 70, 36, 1026, "float32", { parts: 3 }],
];

for (const [on, M, K, N, dtype, around] of cases) {
  const wide = dtype !== "float32" && N / (around.parts ?? 1) % 4 === 0 && N % (around.gate ? 16 : 8) === 0;
  const { kernel } = matmulKernel(matmulTraits(on), { M, K, N, wide, dtype });
  const rounds = kernel === "matmul_subgroup_matrix"; // x to float16, where a norm's last bit may turn it the other way
  const near = rounds ? 5e-3 : 2e-5;
  Deno.test(`${kernel} equals the reference at [${M}, ${K}] x [${K}, ${N}] ${dtype} ${JSON.stringify(around)}`, async () => {
    const x = randn(M * K), width = around.gate ? N / 2 : N;
    const w = rounded(randn(K * N, 2), dtype);
    const d = { norm: randn(K, 3), bias: randn(N, 4), residual: randn(M * width, 5) };
    using y = tidy(on, () => {
      const packed = emptyPacked(on, K, N, dtype), strip = stripOf(on);
      packWeight(tensor(on, w, [K, N], dtype), packed, { strip });
      return matmulPacked(tensor(on, x, [M, K]), packedMatrix(packed, N, { strip }), {
        ...around.norm && { norm: { weight: tensor(on, d.norm, [K]), eps: 1e-5 } },
        ...around.bias && { bias: tensor(on, d.bias, [N]) },
        ...around.residual && { residual: tensor(on, d.residual, [M, width]) },
        ...{ activation: around.activation, gate: around.gate, parts: around.parts },
      });
    });
    const shape = around.parts ? [around.parts, M, N / around.parts] : [M, width];
    assertEquals(y.shape, shape);
    const want = aroundReference(x, w, N, around, d, rounds ? (h) => rounded(h, "float16") : undefined);
    assertClose("y", await y.read(), want, { rtol: near, atol: near * Math.sqrt(K) });
  });
}

Deno.test("matmulPacked() takes one kernel for many rows, longer than a workgroup has room to turn too", () => {
  for (const on of [device, plain]) {
    tidy(on, () => {
      const x = tensor(on, randn(12 * 1028), [12, 1028]), w = tensor(on, randn(1028 * 44), [1028, 44]);
      const matrix = packedMatrix(w, 44),
        bias = tensor(on, randn(44), [44]),
        residual = tensor(on, randn(12 * 44), [12, 44]);
      on.stream.flush();
      const before = on.stream.counters.dispatches;
      matmulPacked(x, matrix, { bias, residual, activation: "gelu" });
      on.stream.flush();
      assertEquals(on.stream.counters.dispatches - before, 1);
    });
  }
});

Deno.test("matmulPacked() fills its columns of a wider result and leaves the others", async () => {
  const [M, K] = [3, 8], x = randn(M * K), bias = randn(20, 3), residual = randn(M * 20, 4);
  const pieces = [[0, 12], [12, 5], [17, 3]] as const;
  using y = tidy(device, () => {
    const y = tensor(device, new Float32Array(M * 20).fill(7), [M, 20]);
    const around = { bias: tensor(device, bias, [20]), residual: tensor(device, residual, [M, 20]) };
    for (const [offset, N] of pieces) {
      if (offset === 12) continue;
      const packed = emptyPacked(device, K, N, "float32");
      packWeight(tensor(device, randn(K * N, offset), [K, N]), packed);
      const matrix = packedMatrix(packed, N, { width: 20, offset });
      matmulPacked(tensor(device, x, [M, K]), matrix, around, y);
    }
    return y;
  });
  const want = new Float32Array(M * 20).fill(7);
  for (const [offset, N] of pieces) {
    if (offset === 12) continue;
    const part = matmulReference(x, randn(K * N, offset), M, K, N);
    for (const [i, v] of part.entries()) {
      const at = Math.floor(i / N) * 20 + offset + i % N;
      want[at] = v + bias[at % 20]! + residual[at]!;
    }
  }
  assertClose("y", await y.read(), want, { atol: 1e-5 });
});

const cpu = { isCpu: true, lanes: 8 }, without = { isCpu: true, lanes: 0 }, card = { isCpu: false, lanes: 32 };
const choices = [
  // traits, M, K, N, batch, kernel, rows
  [cpu, 1, 64, 64, 1, "matmul_few", 1],
  [cpu, 1, 64, 64, 1, "matmul_row", 1, true],
  [cpu, 2, 64, 64, 1, "matmul_few", 2, true],
  [without, 1, 64, 64, 1, "matmul", 1, true],
  [cpu, 3, 64, 64, 1, "matmul_few", 4],
  [cpu, 5, 64, 64, 1, "matmul_many", 8],
  [cpu, 9, 64, 64, 1, "matmul_many", 16],
  [cpu, 9, 66, 64, 1, "matmul", 8],
  [cpu, 9, 64, 64, 2, "matmul", 8],
  [{ isCpu: true, lanes: 4 }, 9, 64, 64, 1, "matmul_columns", 8],
  [without, 4, 64, 64, 1, "matmul", 4],
  [without, 5, 64, 64, 1, "matmul_columns", 8],
  [card, 1, 64, 4096, 1, "matmul", 1],
  [card, 64, 64, 64, 1, "matmul", 8],
  [card, 512, 64, 512, 1, "matmul_tile", 4],
  [card, 16, 64, 65536, 1, "matmul", 8],
] as const;
Deno.test("matmulKernel() chooses by device and shape, and says why", () => {
  for (const [traits, M, K, N, batch, kernel, rows, wide] of choices) {
    const choice = matmulKernel(traits, { M, K, N, batch, wide });
    assertEquals([choice.kernel, choice.rows, choice.why.length > 0], [kernel, rows, true]);
  }
});

Deno.test("matmulPacked() multiplies a row of very great or very small numbers by float16 weights", async () => {
  const K = 36, N = 272, w = rounded(randn(K * N), "float16");
  for (const size of [1e-17, 1e16, 1e20, 1e34]) {
    const x = randn(K, 2).map((v) => size * v);
    using y = tidy(device, () => {
      const packed = emptyPacked(device, K, N, "float16"), strip = stripOf(device);
      packWeight(tensor(device, w, [K, N], "float16"), packed, { strip });
      return matmulPacked(tensor(device, x, [1, K]), packedMatrix(packed, N, { strip }));
    });
    assertClose(`${size}`, await y.read(), matmulReference(x, w, 1, K, N), { rtol: 1e-5, atol: 1e-5 * size });
  }
});

Deno.test("matmulPacked() multiplies a row by 16-bit weights that are subnormal, infinite or NaN as torch does", async () => {
  using tiny = mul(tensor(device, [1e-40], [1]), tensor(device, [1e10], [1]));
  const least = (await tiny.read())[0] === 0 ? 2 ** -14 : 0; // a driver may take subnormals for 0: Mesa 26 on a CPU does
  const K = 36, N = 272, special = [6e-8, -6.1e-5, 65504, Infinity, -Infinity, NaN]; // in columns 3, 50, 97, …
  for (const dtype of ["float16", "bfloat16"] as const) {
    const numbers = randn(K * N);
    for (const [i, value] of special.entries()) numbers[7 * N + 3 + 47 * i] = value;
    for (let k = 0; k < K; k++) numbers[k * N + 100] = 3e-6 * (k % 5); // a column of nothing else
    const w = rounded(numbers, dtype), x = randn(K, 2);
    using y = tidy(device, () => {
      const packed = emptyPacked(device, K, N, dtype), strip = stripOf(device);
      packWeight(tensor(device, w, [K, N], dtype), packed, { strip });
      return matmulPacked(tensor(device, x, [1, K]), packedMatrix(packed, N, { strip }));
    });
    const met = dtype === "float16" ? w.map((v) => Math.abs(v) < least ? 0 : v) : w;
    const want = matmulReference(x, met, 1, K, N), got = await y.read() as Float32Array;
    assertEquals([...got].map((v) => Number.isFinite(v) ? 0 : v), [...want].map((v) => Number.isFinite(v) ? 0 : v));
    const finite = (values: Float32Array) => values.map((v) => Number.isFinite(v) ? v : 0);
    assertClose("finite", finite(got), finite(want), { rtol: 1e-5, atol: 1e-5 });
    assertClose("subnormal", got.subarray(100, 101), want.subarray(100, 101), { rtol: 1e-5, atol: 1e-9 });
  }
});
