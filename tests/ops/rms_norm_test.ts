import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import { rmsNorm, rmsNormReference } from "../../src/ops/rms_norm.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { asGpu, assertClose, randn, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor } from "../reference.ts";

const device = await testDevice();
const cases = [
  // rows, dim: one element, ragged widths, wider than a workgroup, a model's real width, more rows than 65,535
  [1, 1],
  [1, 64],
  [3, 63],
  [5, 1000],
  [2, 4096],
  [65_537, 3],
] as const;

for (const [rows, dim] of cases) {
  Deno.test(`rmsNorm() equals its reference at [${rows}, ${dim}]`, async () => {
    const x = randn(rows * dim), w = randn(dim, 2);
    using y = rmsNorm(tensor(device, x, [rows, dim]), tensor(device, w, [dim]), 1e-5);
    assertClose("y", await y.read(), rmsNormReference(x, w, 1e-5));
  });
}

for (const dim of [63, 768, 4096]) {
  Deno.test(`rmsNorm() gives the same with the workgroups of a GPU at ${dim}`, async () => {
    const x = randn(2 * dim), w = randn(dim, 2);
    using y = asGpu(device, () => rmsNorm(tensor(device, x, [2, dim]), tensor(device, w, [dim])));
    assertClose("y", await y.read(), rmsNormReference(x, w));
  });
}

Deno.test("rmsNorm() adds a residual", async () => {
  const x = randn(3 * 66), w = randn(66, 2), r = randn(3 * 66, 3);
  using y = rmsNorm(tensor(device, x, [3, 66]), tensor(device, w, [66]), 1e-6, tensor(device, r, [3, 66]));
  assertClose("y", await y.read(), rmsNormReference(x, w).map((v, i) => v + r[i]!));
  const [a, b] = [tensor(device, x, [3, 66]), tensor(device, w, [66])];
  assertThrows(() => rmsNorm(a, b, 1e-6, a.rows(0, 1)), ShapeError, "residual");
});

interface Case {
  inputs: Record<"x" | "weight", GoldenTensor>;
  outputs: Record<"out" | "out_gemma", GoldenTensor>;
  params: { eps: number };
}
for (const { name, inputs, outputs, params, tolerance } of await goldenCases<Case>("data/ops/norms", "rms_norm")) {
  Deno.test(`rmsNorm() equals torch's at ${name}`, async () => {
    const x = tensor(device, inputs.x.data as Float32Array, inputs.x.shape);
    const w = inputs.weight.data as Float32Array;
    using y = rmsNorm(x, tensor(device, w, [w.length]), params.eps);
    using gemma = rmsNorm(x, tensor(device, w.map((v) => 1 + v), [w.length]), params.eps);
    assertClose("y", await y.read(), outputs.out.data as Float32Array, tolerance);
    assertClose("gemma", await gemma.read(), outputs.out_gemma.data as Float32Array, tolerance);
  });
}

Deno.test("rmsNorm() takes no rows, and rows of nothing", () => {
  assertEquals(rmsNorm(tensor(device, [], [0, 3]), tensor(device, [1, 2, 3], [3])).shape, [0, 3]);
  assertEquals(rmsNorm(tensor(device, [], [2, 0]), tensor(device, [], [0])).shape, [2, 0]);
});

Deno.test("rmsNorm() refuses what does not fit, before anything runs", () => {
  const x = tensor(device, [1, 2, 3, 4], [1, 4]), w = tensor(device, [1, 2, 3], [3]);
  assertThrows(() => rmsNorm(x, w), ShapeError, "Cannot run rmsNorm as x must be […, 3]: current shape is [1, 4]");
  assertThrows(() => rmsNorm(tensor(device, [1, 2], [2], "int32"), w.rows(0, 2)), DtypeError, "int32");
});
