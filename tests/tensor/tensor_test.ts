import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { DtypeError, ShapeError, ValueError } from "../../src/errors.ts";
import { type Dtype, empty, expectDtype, expectShape, keep, type Tensor, tensor, tidy } from "../../src/tensor/mod.ts";
import { testDevice } from "../helpers.ts";

const device = await testDevice();
const inUse = () => device.pool.stats.buffersInUse;

const fits: [shape: number[], want: (number | string)[]][] = [
  [[], []],
  [[2, 3], [2, 3]],
  [[2, 3], ["rows", "dim"]],
  [[3, 3], ["n", "n"]],
  [[2, 3], ["…", 3]],
  [[3], ["…", 3]],
  [[4, 2, 3], ["…", "n", 3]],
  [[0, 3], ["n", 3]],
];

for (const [shape, want] of fits) {
  Deno.test(`expectShape() takes [${shape}] for [${want}]`, () => {
    assertEquals(expectShape("op", "x", { shape }, want), shape);
  });
}

const misfits: [shape: number[], want: (number | string)[], message: string][] = [
  [[3], [4], "Cannot run op as x must be [4]: current shape is [3]"],
  [[2, 3], ["n", "n"], "x must be [n, n]: current shape is [2, 3]"],
  [[2, 3], [3], "x must be [3]: current shape is [2, 3]"],
  [[2], ["…", "n", 2], "x must be […, n, 2]: current shape is [2]"],
  [[], ["…", 1], "x must be […, 1]: current shape is []"],
];

for (const [shape, want, message] of misfits) {
  Deno.test(`expectShape() refuses [${shape}] for [${want}]`, () => {
    assertThrows(() => expectShape("op", "x", { shape }, want), ShapeError, message);
  });
}

Deno.test("expectDtype() lists what is taken", () => {
  expectDtype("op", "x", { dtype: "int32" }, "float32", "int32");
  const refused = () => expectDtype("op", "x", { dtype: "uint32" }, "float32", "int32");
  assertThrows(refused, DtypeError, "Cannot run op as x must be float32 or int32: current dtype is uint32");
});

Deno.test("tensor() refuses data, shapes and dtypes that make none, and takes no memory for them", () => {
  const before = inUse();
  const faults: [make: () => Tensor, type: new (message: string) => Error, message: string][] = [
    [() => tensor(device, [1, 2], [3]), ShapeError, "must have 3 elements for shape [3]: 2 came"],
    [() => tensor(device, [1], [-1]), ShapeError, "whole numbers from 0: current shape is [-1]"],
    [() => tensor(device, [1], [0.5, 2]), ShapeError, "whole numbers from 0"],
    [() => empty(device, [2 ** 30, 2 ** 30]), ShapeError, "whole numbers from 0"],
    [() => tensor(device, [1], [1], "float64" as Dtype), DtypeError, "current value is float64"],
    [() => tensor(device, new Uint16Array(2), [2]), DtypeError, "Uint16Array"],
  ];
  for (const [make, type, message] of faults) assertThrows(make, type, message);
  assertEquals(inUse(), before);
});

Deno.test("Tensor knows its size and tells its form", () => {
  using t = empty(device, [2, 3, 5], "float16");
  assertEquals([t.size, t.byteLength, t.byteOffset, `${t}`], [30, 60, 0, "Tensor [2, 3, 5] float16"]);
  using scalar = tensor(device, [7], []);
  assertEquals([scalar.size, scalar.byteLength], [1, 4]);
});

Deno.test("Tensor.reshape() views the same elements", async () => {
  const before = inUse();
  using t = tensor(device, [1, 2, 3, 4, 5, 6], [2, 3]);
  using u = t.reshape([3, -1]);
  assertEquals(u.shape, [3, 2]);
  u.write([6, 5, 4, 3, 2, 1]);
  assertEquals([...await t.read()], [6, 5, 4, 3, 2, 1]);
  assertEquals(inUse(), before + 1);
  for (const shape of [[4], [-1, -1], [4, -1], [7, -1], [2, 3, 0]]) {
    assertThrows(() => t.reshape(shape), ShapeError, "its 6 elements must fill the new shape");
  }
});

Deno.test("Tensor.rows() views rows, at offsets that the device can bind", async () => {
  const alignment = device.limits.minStorageBufferOffsetAlignment;
  const width = alignment / 4;
  using t = tensor(device, Array.from({ length: 4 * width }, (_, i) => i), [4, width]);
  using view = t.rows(1, 3);
  assertEquals([view.shape, view.byteOffset], [[2, width], alignment]);
  assertEquals([...await view.read()], Array.from({ length: 2 * width }, (_, i) => width + i));
  using inner = view.rows(1, 2);
  assertEquals([...await inner.read()], Array.from({ length: width }, (_, i) => 2 * width + i));
  using nothing = t.rows(4, 4);
  assertEquals((await nothing.read()).length, 0);
  for (const [start, end] of [[-1, 2], [3, 2], [0, 5]] as const) {
    assertThrows(() => t.rows(start, end), ShapeError, "must lie within the first dimension");
  }
  using odd = empty(device, [4, width + 1]);
  const error = assertThrows(() => odd.rows(1, 2), ShapeError, `must begin at a multiple of ${alignment} bytes`);
  assertStringIncludes(error.hint!, "sliceRows()");
  odd.rows(0, 3).dispose();
  using scalar = empty(device, []);
  assertThrows(() => scalar.rows(0, 1), ShapeError, "within the first dimension");
});

Deno.test("Tensor.write() changes a view and nothing beside it", async () => {
  using t = tensor(device, new Float32Array(64), [4, 16], "float16");
  t.rows(1, 2).write(Array(16).fill(1));
  assertEquals([...await t.read()], [...Array(16).fill(0), ...Array(16).fill(1), ...Array(32).fill(0)]);
  using odd = tensor(device, [1, 2, 3, 4, 5, 6], [2, 3], "float16");
  assertThrows(() => odd.rows(0, 1).write([9, 9, 9]), ShapeError, "must end at a multiple of 4 bytes: it has 6");
  odd.reshape([6]).write([6, 5, 4, 3, 2, 1]);
  using single = tensor(device, [3], [1], "bfloat16");
  single.write([4]);
  assertEquals([...await odd.read(), ...await single.read()], [6, 5, 4, 3, 2, 1, 4]);
  assertThrows(() => t.write([1]), ShapeError, "must have 64 elements");
});

Deno.test("Tensor.dispose() returns the memory with the last view, and ends every use", () => {
  const before = inUse();
  const t = tensor(device, [1, 2], [2]);
  const view = t.reshape([2, 1]);
  t.dispose();
  t.dispose();
  assertEquals(inUse(), before + 1);
  const uses = [() => t.buffer, () => t.read(), () => t.write([1, 2]), () => t.reshape([2]), () => t.rows(0, 1)];
  for (const use of uses) assertThrows(use, ValueError, "Cannot use a tensor [2] as it must be alive");
  view.dispose();
  assertEquals(inUse(), before);
});

Deno.test("tidy() keeps what it returns and disposes of the rest, nested too", () => {
  const before = inUse();
  const make = () => tensor(device, [1], [1]);
  const outer = tidy(device, () => {
    const inner = tidy(device, () => {
      make();
      return { list: [make(), make()], other: make(), number: 3 };
    });
    assertEquals(inUse(), before + 3);
    make();
    return inner.list[0]!;
  });
  assertEquals(inUse(), before + 1);
  outer.dispose();
  assertEquals(inUse(), before);
});

Deno.test("tidy() disposes of everything when it throws", () => {
  const before = inUse();
  const fails = () =>
    tidy(device, () => {
      tensor(device, [1], [1]);
      tidy(device, () => tensor(device, [2], [1]));
      throw new ValueError("stop");
    });
  assertThrows(fails, ValueError, "stop");
  assertEquals(inUse(), before);
});

Deno.test("keep() takes a tensor out of every scope", () => {
  const before = inUse();
  let kept!: Tensor;
  tidy(device, () => tidy(device, () => void (kept = keep(device, tensor(device, [1], [1])))));
  assert(kept.buffer);
  assertEquals(inUse(), before + 1);
  kept.dispose();
});
