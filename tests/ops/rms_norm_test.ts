import { assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import { rmsNorm, rmsNormReference } from "../../src/ops/rms_norm.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";

const device = await testDevice();
const cases = [
  // rows, dim: one element, ragged widths, wider than a workgroup, a model's real width, more rows than 65,535
  [1, 1],
  [1, 64],
  [3, 63],
  [5, 1000],
  [2, 4096],
  [70_000, 3],
] as const;

for (const [rows, dim] of cases) {
  Deno.test(`rmsNorm() equals its reference at [${rows}, ${dim}]`, async () => {
    const x = randn(rows * dim), w = randn(dim, 2);
    using y = rmsNorm(tensor(device, x, [rows, dim]), tensor(device, w, [dim]), 1e-5);
    assertClose("y", await y.read(), rmsNormReference(x, w, 1e-5));
  });
}

Deno.test("rmsNorm() refuses what does not fit, before anything runs", () => {
  const x = tensor(device, [1, 2, 3, 4], [1, 4]), w = tensor(device, [1, 2, 3], [3]);
  assertThrows(() => rmsNorm(x, w), ShapeError, "Cannot run rmsNorm as x must be […, 3]: current shape is [1, 4]");
  assertThrows(() => rmsNorm(tensor(device, [1, 2], [2], "int32"), w.rows(0, 2)), DtypeError, "int32");
});
