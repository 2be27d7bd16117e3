import { assertEquals } from "@std/assert";
import type { Device } from "../../src/gpu/mod.ts";
import { type CodedMatrix, quantizedMatmul, quantizedRows } from "../../src/ops/quantized_matmul.ts";
import { empty, tensor } from "../../src/tensor/mod.ts";
import { asGpu, randn, testDevice } from "../helpers.ts";
import { assertWithin } from "../models/fixture.ts";
import { randomMatrix } from "../quantization/random_matrix.ts";
import { productOf } from "../quantization/reader.ts";

const device = await testDevice(), plain = await testDevice({ features: { subgroups: false } });

async function check(on: Device, matrix: CodedMatrix, weights: Float32Array, M: number, residual = false) {
  const { K, N } = matrix, x = randn(M * K), r = randn(M * N, 7);
  using y = empty(on, [M, N]);
  quantizedMatmul(tensor(on, x, [M, K]), matrix, y, residual ? { residual: tensor(on, r, [M, N]) } : {});
  const want = productOf(x, weights, K).map((v, i) => residual ? v + r[i]! : v);
  assertWithin(`[${M}, ${K}] x [${K}, ${N}]`, await y.read() as Float32Array, want, 1e-5);
}

const shapes: [K: number, N: number, G: number][] = [
  // one number; K beyond a block and odd; N not a multiple of 4, and more than a workgroup; groups of 16; one group
  [1, 1, 32],
  [37, 3, 32],
  [96, 130, 32],
  [80, 6, 16],
  [256, 8, 256],
];

for (const bits of [2, 3, 4, 5, 6, 8] as const) {
  Deno.test(`quantizedMatmul() and quantizedRows() equal the numbers that ${bits}-bit codes stand for`, async () => {
    for (const [K, N, G] of bits === 4 ? shapes : shapes.slice(2, 3)) {
      const [matrix, weights] = randomMatrix(device, bits, K, N, G);
      using rows = quantizedRows(tensor(device, [N - 1, N, 0], [3], "uint32"), matrix);
      const want = [...weights.subarray((N - 1) * K), ...Array(K).fill(0), ...weights.subarray(0, K)];
      assertEquals([...await rows.read()], want, "rows, one of which does not exist");
      await check(device, matrix, weights, 1);
    }
  });
}

Deno.test("quantizedMatmul() multiplies any number of rows, and adds a residual", async () => {
  const [matrix, weights] = randomMatrix(device, 4, 96, 130, 32);
  for (const M of [0, 2, 3, 4, 5, 9]) await check(device, matrix, weights, M);
  await check(device, matrix, weights, 3, true);
});

Deno.test("quantizedMatmul() multiplies a row by a wide matrix, whatever its codes and groups", async () => {
  for (const [bits, K, N, G] of [[4, 44, 2054, 32], [3, 64, 2048, 16], [8, 96, 2100, 96]] as const) {
    const [matrix, weights] = randomMatrix(device, bits, K, N, G);
    await check(device, matrix, weights, 1, bits === 4);
  }
});

Deno.test("quantizedMatmul() unpacks first what many rows multiply", async () => {
  for (const bits of [2, 3, 5, 6, 8] as const) await check(device, ...randomMatrix(device, bits, 160, 20, 16), 32);
  for (const [K, N, G] of shapes) await check(device, ...randomMatrix(device, 4, K, N, G), 35, N === 6);
  await check(device, ...randomMatrix(device, 4, 4096, 514, 128), 32); // some columns at a time
});

Deno.test("quantizedMatmul() of many rows can be captured: a replay makes no buffers and no bind groups", async () => {
  const [M, K, N] = [32, 64, 40], [matrix, weights] = randomMatrix(device, 4, K, N, 32), data = randn(M * K);
  using x = tensor(device, randn(M * K, 2), [M, K]);
  using y = empty(device, [M, N]);
  using recording = device.stream.capture(() => quantizedMatmul(x, matrix, y));
  const counts = () => [device.pool.stats.created, device.kernels.counters.bindGroups], before = counts();
  x.write(data);
  device.stream.replay(recording, 2);
  assertEquals(counts(), before);
  assertWithin("y", await y.read() as Float32Array, productOf(data, weights, K), 1e-5);
});

Deno.test("quantizedMatmul() gives the same without subgroups", async () => {
  const [matrix, weights] = randomMatrix(plain, 4, 96, 130, 32);
  for (const M of [1, 5, 40]) await check(plain, matrix, weights, M);
});

Deno.test("quantizedMatmul() gives the same as a GPU runs it", async () => {
  const [matrix, weights] = asGpu(device, () => randomMatrix(device, 4, 96 * 8, 34, 64));
  for (const M of [1, 9]) {
    const x = randn(M * 768);
    using y = empty(device, [M, 34]);
    asGpu(device, () => quantizedMatmul(tensor(device, x, [M, 768]), matrix, y));
    assertWithin(`${M} rows`, await y.read() as Float32Array, productOf(x, weights, 768), 1e-5);
  }
});
