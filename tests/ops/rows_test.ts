import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import { concatRows, sliceRows } from "../../src/ops/rows.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { randn, testDevice } from "../helpers.ts";

const device = await testDevice();

Deno.test("sliceRows() copies rows that a view could not begin at", async () => {
  const x = randn(5 * 3);
  const t = tensor(device, x, [5, 3]);
  for (const [start, end] of [[0, 5], [1, 3], [4, 5], [2, 2], [5, 5]] as const) {
    using y = sliceRows(t, start, end);
    assertEquals([y.shape, await y.read()], [[end - start, 3], x.slice(3 * start, 3 * end)]);
  }
  using ofView = sliceRows(tensor(device, randn(128), [2, 64]).rows(1, 2).reshape([64, 1]), 3, 5);
  assertEquals(await ofView.read(), randn(128).slice(67, 69));
});

Deno.test("sliceRows() copies halves from whole words on", async () => {
  const t = tensor(device, [1, 2, 3, 4, 5], [5], "float16");
  using y = sliceRows(t, 2, 5);
  assertEquals([...await y.read()], [3, 4, 5]);
  assertThrows(() => sliceRows(t, 1, 3), DtypeError, "whole words of 4 bytes");
});

Deno.test("concatRows() puts rows end to end", async () => {
  const [a, b, c] = [randn(6), randn(3, 2), randn(12, 3)];
  using y = concatRows([a, b, new Float32Array(0), c].map((x) => tensor(device, x, [x.length / 3, 3])));
  assertEquals([y.shape, await y.read()], [[7, 3], Float32Array.from([...a, ...b, ...c])]);
  using halves = concatRows([tensor(device, [1, 2], [2], "bfloat16"), tensor(device, [3], [1], "bfloat16")]);
  assertEquals([...await halves.read()], [1, 2, 3]);
  assertEquals(concatRows([tensor(device, [], [0, 2])]).shape, [0, 2]);
});

Deno.test("sliceRows() and concatRows() refuse what does not fit", () => {
  const t = tensor(device, [1, 2, 3, 4], [2, 2]);
  assertThrows(
    () => sliceRows(t, 1, 3),
    ShapeError,
    "Cannot run sliceRows as start and end must be whole numbers in order from 0 to 2: current range is 1 to 3",
  );
  assertThrows(() => sliceRows(t, 0.5, 1), ShapeError, "0.5");
  assertThrows(() => sliceRows(tensor(device, [1], []), 0, 0), ShapeError, "x must be [N]");
  assertThrows(() => concatRows([]), ShapeError, "its list must hold a tensor");
  assertThrows(() => concatRows([t, tensor(device, [1, 2, 3], [1, 3])]), ShapeError, "tensor 1 must be [N, 2]");
  assertThrows(() => concatRows([t, tensor(device, [1, 2], [1, 2], "int32")]), DtypeError, "tensor 1");
  const half = tensor(device, [1], [1], "float16");
  assertThrows(() => concatRows([half, half]), DtypeError, "whole words");
});
