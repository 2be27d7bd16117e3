import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import { sliceColumns, sliceColumnsReference } from "../../src/ops/slice_columns.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { randn, testDevice } from "../helpers.ts";

const device = await testDevice();
const cases = [
  // rows, N, start, end: all, one, odd ends, wider than a block, more rows than 65,535
  [1, 1, 0, 1],
  [3, 10, 0, 10],
  [3, 10, 9, 10],
  [4, 33, 5, 32],
  [2, 900, 300, 900],
  [65_537, 5, 2, 4],
] as const;
for (const [rows, n, start, end] of cases) {
  Deno.test(`sliceColumns() equals its reference at [${rows}, ${n}] from ${start} to ${end}`, async () => {
    const x = randn(rows * n);
    using y = sliceColumns(tensor(device, x, [rows, n]), start, end);
    assertEquals([y.shape, await y.read()], [[rows, end - start], sliceColumnsReference(x, n, start, end)]);
  });
}

Deno.test("sliceColumns() takes leading dimensions, views, halves and nothing", async () => {
  const x = randn(2 * 64);
  using y = sliceColumns(tensor(device, x, [2, 64]).rows(1, 2).reshape([2, 2, 16]), 15, 16);
  assertEquals([y.shape, [...await y.read()]], [[2, 2, 1], [x[79]!, x[95]!, x[111]!, x[127]!]]);
  using halves = sliceColumns(tensor(device, [1, 2, 3, 4, 5, 6, 7, 8], [2, 4], "float16"), 2, 4);
  assertEquals([...await halves.read()], [3, 4, 7, 8]);
  assertEquals(sliceColumns(tensor(device, [1, 2], [1, 2]), 1, 1).shape, [1, 0]);
  assertEquals(sliceColumns(tensor(device, [], [0, 2]), 0, 1).shape, [0, 1]);
});

Deno.test("sliceColumns() refuses what does not fit", () => {
  const t = tensor(device, [1, 2, 3, 4], [2, 2]);
  assertThrows(() => sliceColumns(t, 2, 1), ShapeError, "2 to 1");
  assertThrows(() => sliceColumns(tensor(device, [1, 2], [1, 2], "float16"), 0, 1), DtypeError, "whole words");
  assertThrows(() => sliceColumns(tensor(device, [1], []), 0, 1), ShapeError, "x must be […, N]");
});
