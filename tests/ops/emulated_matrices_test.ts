/** matmul_subgroup_matrix with matrices that threads multiply themselves, on Dawn without any: see emulated_matrices.ts. */
import type { Launch } from "../../src/gpu/mod.ts";
import { packedMatrix } from "../../src/ops/matmul_packed.ts";
import { emptyPacked, packWeight } from "../../src/ops/pack_weight.ts";
import wgsl from "../../src/shaders/matmul_subgroup_matrix.wgsl" with { type: "text" };
import { type Dtype, empty, floatFlags, tensor, tidy } from "../../src/tensor/mod.ts";
import { providers } from "../gpu/providers.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";
import { emulated } from "./emulated_matrices.ts";
import { type Around, aroundReference, rounded } from "./fusion.ts";

const cases: [M: number, K: number, N: number, Dtype, Around, beyond?: number][] = [
  // tiles are 8 or 16 x 16: ragged; gated, and a row with a number that float16 has not; of f32
  [21, 44, 75, "float16", { bias: true }],
  [17, 20, 40, "bfloat16", { gate: "relu", residual: true }, 1e5],
  [20, 28, 72, "float32", { gate: "relu", bias: true }],
];

const device = providers.includes("dawn")
  ? await testDevice({ provider: "dawn", features: { subgroupMatrix: false }, gpuTimeout: 300_000 })
  : undefined;
const text = emulated(wgsl), lanes = device && (device.info as { subgroupMaxSize?: number }).subgroupMaxSize;
const fits = lanes === 8; // of the constants below
if (!fits) Deno.test("skipped: emulated subgroup matrices, as Dawn has no subgroups of 8 threads here", () => {});

for (const [M, K, N, dtype, around, beyond] of fits ? cases : []) {
  Deno.test(
    `matmul_subgroup_matrix by emulated matrices equals the reference at [${M}, ${K}] x [${K}, ${N}] ${dtype} ${
      JSON.stringify(around)
    }${beyond ? ` and ${beyond}` : ""}`,
    async () => {
      const on = device!, x = randn(M * K), w = rounded(randn(K * N, 2), dtype), width = around.gate ? N / 2 : N;
      if (beyond) x[3 * K] = beyond;
      const d = { norm: new Float32Array(K), bias: randn(N, 4), residual: randn(M * width, 5) };
      const [DEPTH, ROWS] = dtype === "float32" ? [8, 2] : [16, 1]; // of which more compile for seconds
      const consts = { LANES: 8, SIDE_M: 8, SIDE_N: 8, SIDE_K: 8, DOWN: 1, ACROSS: 2, ROWS, COLUMNS: 1 };
      const flags = { F32: dtype === "float32", ...floatFlags(dtype), N_BY_4: N % 4 === 0, GATED: !!around.gate };
      using y = tidy(on, () => {
        const packed = emptyPacked(on, K, N, dtype), y = empty(on, [M, width]);
        packWeight(tensor(on, w, [K, N], dtype), packed);
        const launch: Launch = {
          flags: { ...flags, BIAS: !!around.bias, RESIDUAL: !!around.residual },
          consts: { ...consts, DEPTH, X_UNITS: ROWS, W_UNITS: 2 },
          overrides: { ACTIVATION: around.gate ? 4 : 0, PARTS: around.gate ? 2 : 1 },
          bindings: {
            w: packed,
            dims: packedMatrix(packed, N).dims,
            y,
            x: tensor(on, x, [M, K]),
            bias: tensor(on, d.bias, [N]),
            residual: tensor(on, d.residual, [M, width]),
          },
          grid: [Math.ceil(N / 16), Math.ceil(M / (8 * ROWS)), 1],
        };
        on.kernels.launch("matmul_subgroup_matrix", text, launch);
        return y;
      });
      // rows of another tile than the one that is beyond are rounded, as all are without one
      const rounds = (h: Float32Array) =>
        h.map((v, i) => beyond && i < 8 * K ? v : rounded(h.subarray(i, i + 1), "float16")[0]!);
      const want = aroundReference(x, w, N, around, d, dtype === "float32" ? undefined : rounds);
      assertClose("y", await y.read(), want, { rtol: 1e-4, atol: 1e-4 });
    },
  );
}
