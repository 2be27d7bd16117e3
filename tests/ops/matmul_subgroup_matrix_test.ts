/**
 * Subgroup matrices, where a driver has them: NVIDIA's, AMD's, Intel's and Apple's, and lavapipe from Mesa 26 on
 * (tools/matrix_tests.sh runs this in a Debian that has it).
 */
import { assert, assertEquals } from "@std/assert";
import type { Device } from "../../src/gpu/mod.ts";
import { matmulReference } from "../../src/ops/matmul.ts";
import { matmulKernel, matmulPacked, matmulTraits, packedMatrix } from "../../src/ops/matmul_packed.ts";
import { launchSubgroupMatrix, matrixTile, tileFits } from "../../src/ops/matmul_subgroup_matrix.ts";
import { emptyPacked, packWeight, stripOf } from "../../src/ops/pack_weight.ts";
import { type Dtype, empty, tensor, tidy } from "../../src/tensor/mod.ts";
import { assertClose, matrixDevice, randn } from "../helpers.ts";
import { type Around, aroundReference, rounded } from "./fusion.ts";

type Rounded = "float16" | "bfloat16";
const device = await matrixDevice();
const asCpu = { isCpu: { value: true } }; // which takes them for more than four rows already, where a GPU wants many tiles

const all: Around = { bias: true, residual: true, activation: "gelu" };
const gated: Around = { bias: true, gate: "silu", residual: true };
const cases: [M: number, K: number, N: number, Rounded, Around][] = [
  // whole tiles; less than one; one more than whole tiles, along each side; N or its half not by 4; K less than a tile, and more
  [64, 64, 64, "float16", {}],
  [5, 4, 4, "float16", { residual: true }],
  [33, 36, 68, "bfloat16", all],
  [70, 100, 129, "float16", { ...all, activation: "gelu_tanh" }],
  [17, 12, 30, "bfloat16", { parts: 3, bias: true, activation: "relu" }],
  [40, 20, 96, "float16", { parts: 2, activation: "tanh" }],
  [31, 44, 72, "float16", gated],
  [66, 20, 40, "bfloat16", { ...gated, gate: "gelu_tanh", bias: undefined }],
  [9, 8, 28, "float16", gated],
  [12, 72, 44, "float16", { norm: true, ...all, activation: "silu" }],
  [2, 64, 64, "float16", all],
  [65, 66, 40, "float16", {}],
  [300, 16, 8, "float16", { bias: true }],
];

/** y of x [M, K] and w [K, N] on `on`, with all around it. */
async function product(
  on: Device,
  [M, K, N, dtype, around]: (typeof cases)[number],
  x: Float32Array,
  w: Float32Array,
  d: { norm: Float32Array; bias: Float32Array; residual: Float32Array },
): Promise<Float32Array> {
  const width = around.gate ? N / 2 : N;
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
  return await y.read() as Float32Array;
}

async function assertProduct(on: Device, row: (typeof cases)[number]): Promise<void> {
  const [M, K, N, dtype, around] = row, x = randn(M * K), w = rounded(randn(K * N, 2), dtype);
  const d = { norm: randn(K, 3), bias: randn(N, 4), residual: randn(M * (around.gate ? N / 2 : N), 5) };
  const matrices = matmulKernel(matmulTraits(on), { M, K, N, dtype }).kernel === "matmul_subgroup_matrix";
  const want = aroundReference(x, w, N, around, d, matrices ? (h) => rounded(h, "float16") : undefined);
  const far = around.norm ? 1e-3 : 2e-5; // a norm's last bit may round the other way
  assertClose("y", await product(on, row, x, w, d), want, { rtol: far, atol: far * Math.sqrt(K) });
}

/** The products whose sums are finite, and what the others are. */
function assertAlike(got: Float32Array, want: Float32Array, bound: Float32Array): void {
  const kind = (v: number) => Number.isFinite(v) ? 0 : v;
  assertEquals([...got].map(kind), [...want].map(kind));
  for (const [i, v] of want.entries()) {
    if (!Number.isFinite(v)) continue;
    assert(Math.abs(got[i]! - v) <= bound[i]!, `y[${i}] is ${got[i]}, not ${v}, and more than ${bound[i]} away`);
  }
}

/** How far sums may lie from the right ones where both factors have 11 bits: 2^-11 of what is summed up. */
function roundingOf(x: Float32Array, w: Float32Array, M: number, K: number, N: number): Float32Array {
  const size = (v: number) => Number.isFinite(v) ? Math.abs(v) : 0;
  return matmulReference(x.map(size), w.map(size), M, K, N).map((v) => v * 2 ** -11 + 1e-6);
}

if (device) testMatrices(device);
else Deno.test("skipped: subgroup matrices, as Dawn finds none here", () => {});

function testMatrices(found: Device): void {
  const device: Device = Object.create(found, asCpu);
  for (const row of cases) {
    const [M, K, N, dtype, around] = row, { kernel } = matmulKernel(matmulTraits(device), { M, K, N, dtype });
    Deno.test(
      `${kernel} with subgroup matrices at hand equals the reference at [${M}, ${K}] x [${K}, ${N}] ${dtype} ${
        JSON.stringify(around)
      }`,
      () => assertProduct(device, row),
    );
  }

  for (const lanes of [4, 16]) { // the device makes subgroups of twice as many threads, or half
    const info = new Proxy(device.info, {
      get: (info, name) => name === "subgroupMaxSize" ? lanes : Reflect.get(info, name, info),
    });
    const other: Device = Object.create(device, { info: { value: info } });
    Deno.test({
      name: `matmul_subgroup_matrix is right where subgroups have other than ${lanes} threads`,
      ignore: !found.isCpu, // a GPU's pipelines refuse workgroups of less than a subgroup
      fn: () => assertProduct(other, [70, 40, 100, "float16", gated]),
    });
  }

  Deno.test({
    name: "matmul_subgroup_matrix is right by the larger tile, which many rows and columns get on a GPU",
    ignore: found.isCpu,
    fn: () => assertProduct(found, [1450, 36, 1500, "bfloat16", all]),
  });

  const special: [what: string, Rounded, x: number[], w: number[]][] = [
    // put into x and w here and there: the last that float16 holds and the first that it does not; what is no number; subnormals
    ["x beyond float16", "float16", [65504, 65519.99, 65520, -1e6, 3e38], []],
    ["x infinite or NaN", "bfloat16", [Infinity, -Infinity, NaN], []],
    ["weights infinite, NaN or subnormal", "float16", [], [6e-8, -6.1e-5, 65504, Infinity, -Infinity, NaN]],
    ["weights beyond float16", "bfloat16", [], [65280, 65536, -1e5, 1e30, 3e38]],
    ["weights infinite or NaN", "bfloat16", [1e5], [Infinity, -Infinity, NaN]],
    ["weights less than float16 has", "bfloat16", [], [1e-9, -1e-30, 3e-8]],
  ];
  for (const [what, dtype, ofX, ofW] of special) {
    Deno.test(`matmul_subgroup_matrix multiplies as the others do where there are ${what}`, async () => {
      const [M, K, N] = [70, 36, 136], x = randn(M * K), numbers = randn(K * N, 2);
      for (const [i, value] of ofX.entries()) x[(3 + 13 * i) * K + 5 * i] = value; // of rows of one tile or another
      for (const [i, value] of ofW.entries()) numbers[7 * i * N + 3 + 25 * i] = value;
      const w = rounded(numbers, dtype), none = new Float32Array();
      const got = await product(device, [M, K, N, dtype, {}], x, w, { norm: none, bias: none, residual: none });
      assertAlike(got, matmulReference(x, w, M, K, N), roundingOf(x, w, M, K, N));
    });
  }

  const tiles = [
    // down, across, rows, columns, depth: fewer subgroups, and more; deeper; uneven; those of GPUs
    [1, 1, 16, 16, 16],
    [1, 4, 8, 16, 32],
    [4, 1, 16, 16, 32],
    [2, 2, 16, 32, 16],
    [2, 2, 64, 64, 32],
    [2, 4, 64, 32, 32],
    [1, 2, 64, 64, 64],
  ] as const;
  const { subgroupMaxSize: lanes = 0 } = found.info as GPUAdapterInfo & { subgroupMaxSize?: number };
  const most = found.isCpu ? 64 : 128; // sums of a thread: a CPU's compiler takes a minute for more
  for (const [down, across, rows, columns, depth] of tiles) {
    const tile = { down, across, rows, columns, depth }, { f16 } = found.features.subgroupMatrix || {};
    Deno.test({
      name: `matmul_subgroup_matrix is right by tiles of ${down} x ${across} of ${rows} x ${columns}, ${depth} deep`,
      ignore: rows * columns / lanes > most || !tileFits(found.limits, lanes, "f16", f16!, tile),
      fn: async () => {
        const [M, K, N] = [150, 44, 276], x = randn(M * K), w = rounded(randn(K * N, 2), "float16");
        using y = empty(device, [M, N]);
        tidy(device, () => {
          const packed = emptyPacked(device, K, N, "float16");
          packWeight(tensor(device, w, [K, N], "float16"), packed);
          const { dims } = packedMatrix(packed, N), flags = { F16: true, N_BY_4: true };
          const bindings = { w: packed, dims, y, x: tensor(device, x, [M, K]) };
          const launched = { flags, overrides: { ACTIVATION: 0, PARTS: 1 }, bindings };
          launchSubgroupMatrix(device, "float16", { M, N }, launched, tile);
        });
        const want = matmulReference(rounded(x, "float16"), w, M, K, N);
        assertClose("y", await y.read(), want, { rtol: 2e-5, atol: 2e-4 });
      },
    });
  }
}

Deno.test("matmulKernel() takes subgroup matrices where a GPU has many tiles, and on a CPU for more than four rows", () => {
  const hasMatrices = (dtype: Dtype) => dtype !== "float32", gpu = { isCpu: false, lanes: 32, hasMatrices };
  const rows = [
    [gpu, 512, 512, "float16", "matmul_subgroup_matrix"],
    [gpu, 512, 512, "float32", "matmul_tile"],
    [gpu, 64, 64, "bfloat16", "matmul"],
    [gpu, 16, 65536, "float16", "matmul"],
    [{ ...gpu, isCpu: true }, 5, 8, "bfloat16", "matmul_subgroup_matrix"],
    [{ ...gpu, isCpu: true }, 4, 8, "float16", "matmul_few"],
    [{ isCpu: true, lanes: 8 }, 5, 8, "float16", "matmul_many"],
  ] as const;
  for (const [traits, M, N, dtype, kernel] of rows) {
    assertEquals(matmulKernel(traits, { M, K: 64, N, dtype }).kernel, kernel);
  }
  assertEquals(matmulKernel(gpu, { M: 512, K: 66, N: 512, dtype: "float16" }).kernel, "matmul");
});

Deno.test("matrixTile() is larger where tiles fill a GPU, and each thread holds as many sums as it has registers for", () => {
  const least = { maxComputeInvocationsPerWorkgroup: 256, maxComputeWorkgroupStorageSize: 32768 };
  for (const lanes of [8, 16, 32, 64]) {
    for (const type of ["f16", "f32"] as const) {
      for (const [M, N] of [[17, 64], [1024, 1024], [4096, 4096]] as const) {
        const tile = matrixTile(lanes, type, M, N);
        assert(tile.rows * tile.columns / lanes <= 128, "sums of a thread");
        for (const [M, N, K] of [[8, 8, 8], [16, 16, 16], [16, 8, 16], [8, 16, 16]] as const) {
          assert(tileFits(least, lanes, type, { M, N, K }, tile), `${M} x ${N} x ${K} of ${type} by ${lanes}`);
        }
      }
    }
  }
  assertEquals(matrixTile(32, "f16", 4096, 4096).rows, 64);
  assertEquals(matrixTile(32, "f16", 512, 512).rows, 32);
});
