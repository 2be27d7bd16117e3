import { assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import { crossEntropy, crossEntropyReference } from "../../src/ops/cross_entropy.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { asGpu, assertClose, randn, testDevice } from "../helpers.ts";

const device = await testDevice();
const targetsOf = (rows: number, V: number) => Uint32Array.from({ length: rows }, (_, r) => (r * 7919 + V - 1) % V);

const CASES = [
  // rows, V, scale: one element, ragged, in vec4s, large numbers, a vocabulary
  [1, 1, 1],
  [3, 63, 1],
  [5, 1000, 100],
  [2, 50_257, 5],
] as const;

for (const [rows, V, scale] of CASES) {
  Deno.test(`crossEntropy() equals its reference at [${rows}, ${V}] times ${scale}`, async () => {
    const x = randn(rows * V, V).map((v) => v * scale), targets = targetsOf(rows, V);
    const want = crossEntropyReference(x, targets);
    for (
      const run of [
        crossEntropy,
        (...args: Parameters<typeof crossEntropy>) => asGpu(device, () => crossEntropy(...args)),
      ]
    ) {
      using y = run(tensor(device, x, [rows, V]), tensor(device, targets, [rows], "uint32"));
      assertClose("y", await y.read(), want, { rtol: 1e-5, atol: 1e-5 });
    }
  });
}

const INF = Infinity;
const ODD: [what: string, row: number[], target: number, want: number][] = [
  ["a masked token has no chance", [0, -INF, 0, 0], 1, INF],
  ["masked tokens take nothing", [0, -INF, 0, -INF], 2, Math.LN2],
  ["a finite mask", [0, -1e30, 0, -1e30], 0, Math.LN2],
  ["a row of one finite mask is uniform", [-1e30, -1e30, -1e30, -1e30], 3, 2 * Math.LN2],
  ["NaN anywhere", [0, NaN, 0, 0], 0, NaN],
  ["infinity anywhere", [0, 0, 0, INF], 0, NaN],
  ["all masked", [-INF, -INF, -INF, -INF], 0, NaN],
  ["no such token", [0, 0, 0, 0], 4, NaN],
];
for (const [what, row, target, want] of ODD) {
  for (const V of [4, 7]) { // in vec4s, and one by one with masked tokens behind
    Deno.test(`crossEntropy() as torch: ${what}, in ${V}`, async () => {
      const padded = [...row, ...new Array<number>(V - 4).fill(-INF)];
      const x = [...new Array<number>(V).fill(1), ...padded]; // a plain row before it stays whole
      using y = crossEntropy(tensor(device, x, [2, V]), tensor(device, [0, target < 4 ? target : V], [2], "uint32"));
      assertClose("y", await y.read(), [Math.log(V), want], { rtol: 1e-6 });
    });
  }
}

Deno.test("crossEntropy() refuses what does not fit", () => {
  using x = tensor(device, [1, 2, 3, 4], [2, 2]);
  using one = tensor(device, [1], [1], "uint32");
  using floats = tensor(device, [0, 1], [2]);
  assertThrows(() => crossEntropy(x, one), ShapeError, "targets must be [2]");
  assertThrows(() => crossEntropy(x, floats), DtypeError, "uint32");
});
