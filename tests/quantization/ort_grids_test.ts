/** The cases of ONNX Runtime's tests of MatMulNBits and MatMulBnb4: a seeded sample, or all of them in the full suite. */
import { assert } from "@std/assert";
import { dirname, fromFileUrl, resolve } from "@std/path";
import { type CodeBits, quantizedMatmul } from "../../src/ops/quantized_matmul.ts";
import { quantizeTo4bit } from "../../src/quantization/bnb4.ts";
import { CODE_BOOKS, dequantizeBlocks, quantizeBlocks } from "../../src/quantization/code_books.ts";
import { empty, tensor, tidy } from "../../src/tensor/mod.ts";
import { randn, random, testDevice } from "../helpers.ts";
import { randomMatrix } from "./random_matrix.ts";
import { loadLayer } from "./reader.ts";

const FILE = resolve(dirname(fromFileUrl(import.meta.url)), "../../../shared/cases/ort_grids.json");
const full = Deno.env.get("TENSAUR_TEST_FULL") === "1", SAMPLE = 10, OUTPUTS = 48;
const device = await testDevice();

interface Case {
  M: number;
  N: number;
  K: number;
  block: number;
}

/** All of `cases`, or some that the seed picks. */
function sample<T>(cases: readonly T[], seed: number): T[] {
  const next = random(seed);
  return full ? [...cases] : Array.from({ length: SAMPLE }, () => cases[Math.floor(next() * cases.length)]!);
}

/** Compares some elements of `y` [M, N] with float64 sums, relative to the largest that a sum of such numbers has. */
function compare(name: string, y: Float32Array, x: Float32Array, weights: Float32Array, { M, N, K }: Case): void {
  const next = random(N);
  for (let i = 0; i < Math.min(OUTPUTS, M * N); i++) {
    const at = M * N <= OUTPUTS ? i : Math.floor(next() * M * N), m = Math.floor(at / N), n = at % N;
    let want = 0, size = 0;
    for (let k = 0; k < K; k++) {
      const term = x[m * K + k]! * weights[n * K + k]!;
      want += term;
      size += Math.abs(term);
    }
    assert(Math.abs(y[at]! - want) <= 1e-5 * size, `${name}: y[${m}, ${n}] is ${y[at]}, want ${want}`);
  }
}

let grids: Record<string, { cases: Case[] }> | undefined;
try {
  grids = JSON.parse(await Deno.readTextFile(FILE));
} catch {
  Deno.test({ name: "skipped: ONNX Runtime's cases are not there", ignore: true, fn() {} });
}

for (const bits of grids ? [2, 4, 8] as CodeBits[] : []) {
  const all = grids![`MatMulNBits_${bits}bit`]!.cases, cases = sample(all, bits);
  Deno.test(`quantizedMatmul() passes ${cases.length} of ONNX Runtime's ${all.length} cases of ${bits} bits`, async () => {
    for (const c of cases) {
      const { M, N, K, block } = c, x = randn(M * K);
      const [matrix, weights] = randomMatrix(device, bits, K, N, block);
      using y = empty(device, [M, N]);
      tidy(device, () => quantizedMatmul(tensor(device, x, [M, K]), matrix, y));
      compare(JSON.stringify(c), await y.read() as Float32Array, x, weights, c);
      for (const t of [matrix.w, matrix.groups, matrix.dims]) t.dispose();
    }
  });
}

const grid = [16, 32, 64, 128].flatMap((block) =>
  [16, 32, 64, 128, 256, 1024, 93, 1234].flatMap((K) =>
    [1, 2, 32, 288].flatMap((N) =>
      [1, 2, 100].flatMap((M) => (["fp4", "nf4"] as const).map((kind) => ({ kind, M, N, K, block })))
    )
  )
);
const some = sample(grid, 3);

Deno.test(`QuantizedLinear passes ${some.length} of ONNX Runtime's ${grid.length} cases of NF4 and FP4`, async () => {
  for (const c of some) {
    const { kind, M, N, K, block } = c;
    const x = randn(M * K).map((v) => v / 4), w = randn(N * K, 2).map((v) => v / 4);
    const weights = dequantizeBlocks(quantizeBlocks(w, kind, block), CODE_BOOKS[kind], block);
    using linear = await loadLayer(
      device,
      quantizeTo4bit({ kind, block, doubleQuant: false }),
      { "m.weight": { dtype: "F32", shape: [N, K], data: w } },
      { inputs: K, outputs: [N], step: 64 },
    );
    using y = tidy(device, () => linear.forward(tensor(device, x, [M, K])));
    compare(JSON.stringify(c), await y.read() as Float32Array, x, weights, c);
  }
});
