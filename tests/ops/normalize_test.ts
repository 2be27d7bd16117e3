import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import { normalize, normalizeReference } from "../../src/ops/normalize.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { asGpu, assertClose, randn, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor } from "../reference.ts";

const device = await testDevice();

// rows, dim: one element, ragged, a sentence embedding's width, more rows than 65,535
for (const [rows, dim] of [[1, 1], [3, 63], [4, 384], [65_537, 3]] as const) {
  Deno.test(`normalize() equals its reference at [${rows}, ${dim}]`, async () => {
    const x = randn(rows * dim);
    using y = normalize(tensor(device, x, [rows, dim]));
    assertClose("y", await y.read(), normalizeReference(x, dim));
  });
}

Deno.test("normalize() divides by eps where a row is shorter, and leaves zeros", async () => {
  using y = normalize(tensor(device, [0, 0, 0.003, 0.004], [2, 2]), 0.01);
  assertClose("y", await y.read(), [0, 0, 0.3, 0.4]);
  using zero = normalize(tensor(device, [0, 0], [2]));
  assertClose("zero", await zero.read(), [0, 0]);
});

for (const dim of [63, 384, 1500]) {
  Deno.test(`normalize() gives the same with the workgroups of a GPU at ${dim}`, async () => {
    const x = randn(2 * dim);
    using y = asGpu(device, () => normalize(tensor(device, x, [2, dim])));
    assertClose("y", await y.read(), normalizeReference(x, dim));
  });
}

interface Case {
  inputs: { x: GoldenTensor };
  outputs: { out: GoldenTensor };
  params: { eps: number };
}
for (const c of await goldenCases<Case>("data/ops/norms", "l2_normalize")) {
  Deno.test(`normalize() equals torch's at ${c.name}`, async () => {
    using y = normalize(tensor(device, c.inputs.x.data as Float32Array, c.inputs.x.shape), c.params.eps);
    assertClose("y", await y.read(), c.outputs.out.data as Float32Array, c.tolerance);
  });
}

Deno.test("normalize() takes nothing, and refuses what does not fit", () => {
  assertEquals(normalize(tensor(device, [], [2, 0])).shape, [2, 0]);
  assertThrows(() => normalize(tensor(device, [1], [])), ShapeError, "x must be […, dim]: current shape is []");
  assertThrows(() => normalize(tensor(device, [1], [1], "uint32")), DtypeError, "uint32");
});
