import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import { topK, topKReference } from "../../src/ops/top_k.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { asGpu, assertClose, randn, testDevice } from "../helpers.ts";

const device = await testDevice();

const CASES: [name: string, rows: number, V: number, k: number, change?: (x: Float32Array) => void][] = [
  ["one element", 1, 1, 1],
  ["all of a short row", 3, 5, 5],
  ["a ragged row", 2, 997, 12],
  ["a vocabulary", 2, 32_000, 6],
  ["equal elements", 2, 300, 9, (x) => x.fill(1.5)],
  ["two values", 2, 300, 9, (x) => x.forEach((v, i) => x[i] = v > 0 ? 1 : -1)],
  ["zeros of both signs", 1, 64, 6, (x) => x.forEach((_, i) => x[i] = i % 2 ? 0 : -0)],
  ["negative elements", 2, 130, 7, (x) => x.forEach((v, i) => x[i] = -1 - Math.abs(v))],
  ["what is masked", 2, 130, 7, (x) => x.fill(-1e30, 3, 120)],
  ["more than is not masked", 1, 130, 7, (x) => x.fill(-1e30, 3)],
  ["NaN in one row", 2, 130, 3, (x) => x[4] = NaN],
  ["infinity in one row", 2, 130, 3, (x) => x[137] = Infinity],
  ["minus infinity in one row", 2, 130, 3, (x) => x[137] = -Infinity],
];

for (const [name, rows, V, k, change] of CASES) {
  Deno.test(`topK() equals its reference: ${name}, ${k} of [${rows}, ${V}]`, async () => {
    const x = randn(rows * V, V + k);
    change?.(x);
    for (const run of [topK, (...args: Parameters<typeof topK>) => asGpu(device, () => topK(...args))]) {
      const { indices, logProbs } = run(tensor(device, x, [rows, V]), k);
      const got = { indices: await indices.read(), logProbs: await logProbs.read() };
      for (let r = 0; r < rows; r++) {
        const want = topKReference(x.subarray(r * V, (r + 1) * V), k), part = [r * k, (r + 1) * k] as const;
        assertEquals([...got.indices.subarray(...part)], [...want.indices], `row ${r}`);
        assertClose(`row ${r}`, got.logProbs.subarray(...part) as Float32Array, want.logProbs, {
          rtol: 1e-5,
          atol: 1e-5,
        });
      }
      for (const t of [indices, logProbs]) t.dispose();
    }
  });
}

Deno.test("topK() refuses what does not fit", () => {
  using x = tensor(device, [1, 2, 3, 4], [2, 2]);
  for (const k of [0, 3, 1.5]) assertThrows(() => topK(x, k), ShapeError, "k must be a whole number from 1 to 2");
  assertThrows(() => topK(tensor(device, [1], [1]), 1), ShapeError, "logits");
  assertThrows(() => topK(tensor(device, [1], [1, 1], "uint32"), 1), DtypeError, "uint32");
});
