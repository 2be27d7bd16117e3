import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import { layerNorm, layerNormReference } from "../../src/ops/layer_norm.ts";
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
  Deno.test(`layerNorm() equals its reference at [${rows}, ${dim}]`, async () => {
    const x = randn(rows * dim), w = randn(dim, 2), b = randn(dim, 3);
    using y = layerNorm(tensor(device, x, [rows, dim]), tensor(device, w, [dim]), tensor(device, b, [dim]), 1e-5);
    assertClose("y", await y.read(), layerNormReference(x, dim, w, b, 1e-5), { rtol: 1e-4, atol: 1e-5 });
  });
}

Deno.test("layerNorm() does without weight, bias or both", async () => {
  const x = randn(3 * 70), w = randn(70, 2), b = randn(70, 3);
  const [tx, tw, tb] = [tensor(device, x, [3, 70]), tensor(device, w, [70]), tensor(device, b, [70])];
  using weight = layerNorm(tx, tw);
  using bias = layerNorm(tx, undefined, tb);
  using plain = layerNorm(tx);
  assertClose("weight", await weight.read(), layerNormReference(x, 70, w), { atol: 1e-5 });
  assertClose("bias", await bias.read(), layerNormReference(x, 70, undefined, b), { atol: 1e-5 });
  assertClose("plain", await plain.read(), layerNormReference(x, 70), { atol: 1e-5 });
});

Deno.test("layerNorm() keeps its digits beside a large mean", async () => {
  const x = randn(512).map((v) => 1000 + v);
  using y = layerNorm(tensor(device, x, [512]));
  assertClose("y", await y.read(), layerNormReference(x, 512), { atol: 1e-3 });
});

for (const dim of [70, 2050, 4096]) {
  Deno.test(`layerNorm() gives the same with the workgroups of a GPU at ${dim}`, async () => {
    const x = randn(3 * dim);
    using y = asGpu(device, () => layerNorm(tensor(device, x, [3, dim])));
    assertClose("y", await y.read(), layerNormReference(x, dim), { atol: 1e-5 });
  });
}

interface Case {
  inputs: Record<"x" | "weight" | "bias", GoldenTensor>;
  outputs: Record<"out" | "out_no_bias" | "out_plain", GoldenTensor>;
  params: { eps: number };
}
for (const c of await goldenCases<Case>("data/ops/norms", "layer_norm")) {
  Deno.test(`layerNorm() equals torch's at ${c.name}`, async () => {
    const [x, weight, bias] = [c.inputs.x, c.inputs.weight, c.inputs.bias]
      .map((t) => tensor(device, t.data as Float32Array, t.shape));
    using out = layerNorm(x!, weight, bias, c.params.eps);
    using noBias = layerNorm(x!, weight, undefined, c.params.eps);
    using plain = layerNorm(x!, undefined, undefined, c.params.eps);
    assertClose("out", await out.read(), c.outputs.out.data as Float32Array, c.tolerance);
    assertClose("no bias", await noBias.read(), c.outputs.out_no_bias.data as Float32Array, c.tolerance);
    assertClose("plain", await plain.read(), c.outputs.out_plain.data as Float32Array, c.tolerance);
  });
}

Deno.test("layerNorm() takes no rows, and rows of nothing", () => {
  assertEquals(layerNorm(tensor(device, [], [0, 3]), tensor(device, [1, 2, 3], [3])).shape, [0, 3]);
  assertEquals(layerNorm(tensor(device, [], [2, 0]), tensor(device, [], [0])).shape, [2, 0]);
});

Deno.test("layerNorm() refuses what does not fit", () => {
  const x = tensor(device, [1, 2, 3, 4], [1, 4]), w = tensor(device, [1, 2, 3], [3]);
  assertThrows(
    () => layerNorm(x, w),
    ShapeError,
    "Cannot run layerNorm as weight must be [4]: current shape is [3]",
  );
  assertThrows(() => layerNorm(x, undefined, w), ShapeError, "bias must be [4]");
  assertThrows(() => layerNorm(tensor(device, [1], [])), ShapeError, "x must be […, dim]");
  assertThrows(() => layerNorm(tensor(device, [1, 2], [2], "int32")), DtypeError, "int32");
});
