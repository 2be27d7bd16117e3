import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, NotSupportedError, ShapeError } from "../../src/errors.ts";
import { logSoftmax, softmax, softmaxReference } from "../../src/ops/softmax.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { asGpu, assertClose, randn, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor } from "../reference.ts";

const device = await testDevice();
const cases = [
  // rows, n, scale: one element, ragged, large numbers, a vocabulary
  [1, 1, 1],
  [3, 63, 1],
  [5, 1000, 100],
  [1, 50_257, 5],
] as const;

for (const [rows, n, scale] of cases) {
  Deno.test(`softmax() and logSoftmax() equal their reference at [${rows}, ${n}] times ${scale}`, async () => {
    const x = randn(rows * n).map((v) => v * scale);
    using t = tensor(device, x, [rows, n]);
    using y = softmax(t);
    using log = logSoftmax(t, 1);
    assertClose("softmax", await y.read(), softmaxReference(x, n), { rtol: 1e-4, atol: 1e-6 });
    assertClose("logSoftmax", await log.read(), softmaxReference(x, n, true), { rtol: 1e-5, atol: 1e-5 });
  });
}

Deno.test("softmax() runs more than 65,535 rows", async () => {
  const x = Float32Array.from({ length: 65_537 * 2 }, (_, i) => i % 3);
  using y = softmax(tensor(device, x, [65_537, 2]));
  assertClose("y", await y.read(), softmaxReference(x, 2), { rtol: 1e-4 });
});

const LOWEST = -3.4028234663852886e38, INF = Infinity;
const masked: [what: string, row: number[], softmax: number[], log: number[]][] = [
  ["-infinity hides", [0, -INF, 0], [0.5, 0, 0.5], [-Math.LN2, -INF, -Math.LN2]],
  ["a finite mask hides", [0, -1e30, 0], [0.5, 0, 0.5], [-Math.LN2, -1e30, -Math.LN2]],
  ["a row of -1e30 is uniform", [-1e30, -1e30], [0.5, 0.5], [-Math.LN2, -Math.LN2]],
  ["a row of the lowest float is uniform", [LOWEST, LOWEST], [0.5, 0.5], [-Math.LN2, -Math.LN2]],
  ["the whole range of floats", [LOWEST, -LOWEST], [0, 1], [-INF, 0]],
  ["a row of -infinity is NaN", [-INF, -INF], [NaN, NaN], [NaN, NaN]],
  ["a NaN makes its row NaN", [0, NaN], [NaN, NaN], [NaN, NaN]],
  ["infinity makes its row NaN", [0, INF], [NaN, NaN], [NaN, NaN]],
];
for (const [what, row, probabilities, logarithms] of masked) {
  for (const n of [row.length, 4, 12, 24]) { // as it is, in vec4s, and in eights
    Deno.test(`softmax() as torch: ${what}, in ${n}`, async () => {
      const fill = (values: number[], rest: number) => Array.from({ length: n }, (_, i) => values[i] ?? rest);
      const plain = Float32Array.from({ length: n }, (_, i) => i); // a plain row beside it stays whole
      const x = tensor(device, [...fill(row, -INF), ...plain], [2, n]);
      const broken = Number.isNaN(probabilities[0]!);
      using y = softmax(x);
      using log = logSoftmax(x);
      assertClose("softmax", await y.read(), [...fill(probabilities, broken ? NaN : 0), ...softmaxReference(plain, n)]);
      const want = [...fill(logarithms, broken ? NaN : -INF), ...softmaxReference(plain, n, true)];
      assertClose("logSoftmax", await log.read(), want);
    });
  }
}

for (const n of [63, 128, 3001]) {
  Deno.test(`softmax() gives the same with the workgroups of a GPU at ${n}`, async () => {
    const x = randn(2 * n);
    using y = asGpu(device, () => softmax(tensor(device, x, [2, n])));
    assertClose("y", await y.read(), softmaxReference(x, n), { rtol: 1e-4 });
  });
}

interface Case {
  inputs: { x: GoldenTensor };
  outputs: { softmax: GoldenTensor; log_softmax: GoldenTensor };
}
for (const c of await goldenCases<Case>("data/ops/softmax", "softmax")) {
  Deno.test(`softmax() and logSoftmax() equal torch's at ${c.name}`, async () => {
    const x = tensor(device, c.inputs.x.data as Float32Array, c.inputs.x.shape);
    using y = softmax(x);
    using log = logSoftmax(x);
    assertClose("softmax", await y.read(), c.outputs.softmax.data as Float32Array, c.tolerance);
    assertClose("logSoftmax", await log.read(), c.outputs.log_softmax.data as Float32Array, c.tolerance);
  });
}

Deno.test("softmax() takes nothing, and refuses what does not fit", () => {
  assertEquals(softmax(tensor(device, [], [2, 0])).shape, [2, 0]);
  assertThrows(
    () => softmax(tensor(device, [1, 2], [1, 2]), 0),
    NotSupportedError,
    "Cannot run softmax as dim must be the last, 1 or -1: current value is 0",
  );
  assertThrows(() => logSoftmax(tensor(device, [1], [])), ShapeError, "logSoftmax");
  assertThrows(() => softmax(tensor(device, [1], [1], "float16")), DtypeError, "float16");
});
