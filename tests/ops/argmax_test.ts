import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import { argmax, argmaxReference } from "../../src/ops/argmax.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { asGpu, randn, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor } from "../reference.ts";

const device = await testDevice();

// rows, n: one element, ragged, wider than a workgroup, a vocabulary, more rows than 65,535
for (const [rows, n] of [[1, 1], [3, 63], [7, 1000], [2, 151_936], [65_537, 3]] as const) {
  Deno.test(`argmax() equals its reference at [${rows}, ${n}]`, async () => {
    const x = randn(rows * n).map((v) => Math.fround(Math.round(v * 4) / 4)); // many ties
    using y = argmax(tensor(device, x, [rows, n]));
    assertEquals(await y.read(), argmaxReference(x, n));
  });
}

const INF = Infinity;
const rows: [what: string, row: number[], index: number][] = [
  ["the lowest of several", [1, 5, 5, 5], 1],
  ["the least negative number", [-3, -1e-40, -2], 1],
  ["a subnormal number above zero", [0, 1e-40, 0], 1],
  ["zero and minus zero as equals", [-1, -0, 0], 1],
  ["infinity", [3e38, INF, INF], 1],
  ["the first of a row of -infinity", [-INF, -INF], 0],
  ["the lowest float above -infinity", [-INF, -3.4e38], 1],
  ["the first NaN above infinity", [INF, NaN, NaN], 1],
];
for (const [what, row, index] of rows) {
  for (const n of [99, 100]) { // one by one and in vec4s, wider than a workgroup
    Deno.test(`argmax() finds ${what}, of ${n}`, async () => {
      const x = Float32Array.from({ length: n }, (_, i) => row[i] ?? -INF);
      x[n - 1] = row.at(-1)!;
      const bits = new Uint32Array(x.buffer);
      const both = Uint32Array.of(...bits, ...bits.map((b) => b === 0x7fc00000 ? ~0 : b)); // a NaN with its sign set
      using y = argmax(tensor(device, new Float32Array(both.buffer), [2, n]));
      assertEquals([...await y.read()], [index, index]);
    });
  }
}

for (const n of [3, 100, 3002]) {
  Deno.test(`argmax() gives the same with the workgroups of a GPU at ${n}`, async () => {
    const x = randn(2 * n).map((v) => Math.round(v));
    using y = asGpu(device, () => argmax(tensor(device, x, [2, n])));
    assertEquals(await y.read(), argmaxReference(x, n));
  });
}

interface Case {
  inputs: { x: GoldenTensor };
  outputs: { argmax: number[] };
}
for (const c of await goldenCases<Case>("data/ops/misc", "topk")) {
  Deno.test(`argmax() equals torch's at ${c.name}`, async () => {
    using y = argmax(tensor(device, c.inputs.x.data as Float32Array, c.inputs.x.shape));
    assertEquals([...await y.read()], c.outputs.argmax);
  });
}

Deno.test("argmax() drops the last dimension, takes no rows, and refuses what does not fit", async () => {
  using y = argmax(tensor(device, [1, 2, 4, 3], [2, 1, 2]));
  assertEquals([y.shape, y.dtype, [...await y.read()]], [[2, 1], "uint32", [1, 0]]);
  assertEquals(argmax(tensor(device, [], [0, 5])).shape, [0]);
  assertThrows(
    () => argmax(tensor(device, [], [2, 0])),
    ShapeError,
    "Cannot run argmax as the last dimension of x must have an element: current shape is [2, 0]",
  );
  assertThrows(() => argmax(tensor(device, [1], [])), ShapeError, "x must be");
  assertThrows(() => argmax(tensor(device, [1], [1], "int32")), DtypeError, "int32");
});
