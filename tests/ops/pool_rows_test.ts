import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import { poolRows, poolRowsReference } from "../../src/ops/pool_rows.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";

const device = await testDevice();
const cases: [cuSeqlens: number[], D: number][] = [
  // one token, one sequence, ragged sequences, an empty one, wider than a block, tokens that belong to none, many
  [[0, 1], 1],
  [[0, 7], 64],
  [[0, 3, 4, 20], 63],
  [[0, 2, 2, 5], 384],
  [[0, 1, 3], 1030],
  [[2, 4, 5], 8],
  [Array.from({ length: 65_538 }, (_, i) => 2 * i), 2],
];

for (const mode of ["mean", "cls", "last"] as const) {
  for (const [cuSeqlens, D] of cases) {
    Deno.test(`poolRows() equals its reference for ${mode} of ${cuSeqlens.slice(0, 5)} at ${D}`, async () => {
      const T = cuSeqlens.at(-1)! + 1, x = randn(T * D);
      using y = poolRows(tensor(device, x, [T, D]), tensor(device, cuSeqlens, [cuSeqlens.length], "uint32"), mode);
      assertEquals(y.shape, [cuSeqlens.length - 1, D]);
      assertClose("y", await y.read(), poolRowsReference(x, D, cuSeqlens, mode));
    });
  }
}

Deno.test("poolRows() takes no tokens, and no sequences", async () => {
  using y = poolRows(tensor(device, [], [0, 2]), tensor(device, [0, 0], [2], "uint32"), "last");
  assertEquals([...await y.read()], [0, 0]);
  assertEquals(poolRows(tensor(device, [1, 2], [1, 2]), tensor(device, [0], [1], "uint32"), "mean").shape, [0, 2]);
});

Deno.test("poolRows() refuses what does not fit", () => {
  const x = tensor(device, [1, 2], [1, 2]), ends = tensor(device, [0, 1], [2], "uint32");
  assertThrows(() => poolRows(x.reshape([2]), ends, "cls"), ShapeError, "x must be [T, D]: current shape is [2]");
  assertThrows(() => poolRows(x, ends.reshape([1, 2]), "cls"), ShapeError, "cuSeqlens must be [B + 1]");
  assertThrows(() => poolRows(x, tensor(device, [], [0], "uint32"), "cls"), ShapeError, "current shape is [0]");
  assertThrows(() => poolRows(x, tensor(device, [0, 1], [2]), "cls"), DtypeError, "cuSeqlens must be uint32");
});
