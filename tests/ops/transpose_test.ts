import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import { transpose, transposeReference } from "../../src/ops/transpose.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { testDevice } from "../helpers.ts";

const device = await testDevice();

// M, N: one element, a row, a column, whole tiles, ragged tiles, more than 65,535 tiles
for (const [M, N] of [[1, 1], [1, 70], [70, 1], [64, 96], [33, 130], [2_097_153, 1]] as const) {
  Deno.test(`transpose() equals its reference at [${M}, ${N}]`, async () => {
    const x = Float32Array.from({ length: M * N }, (_, i) => i);
    using y = transpose(tensor(device, x, [M, N]));
    assertEquals(y.shape, [N, M]);
    const got = await y.read(), want = transposeReference(x, M, N);
    assertEquals(got.findIndex((v, i) => v !== want[i]), -1);
  });
}

Deno.test("transpose() moves integers, takes nothing, and refuses what does not fit", async () => {
  using y = transpose(tensor(device, [1, 2, 3, 4_000_000_000], [2, 2], "uint32"));
  assertEquals([...await y.read()], [1, 3, 2, 4_000_000_000]);
  assertEquals(transpose(tensor(device, [], [0, 3])).shape, [3, 0]);
  assertThrows(() => transpose(tensor(device, [1], [1])), ShapeError, "x must be [M, N]: current shape is [1]");
  assertThrows(() => transpose(tensor(device, [1], [1, 1], "float16")), DtypeError, "float16");
});
