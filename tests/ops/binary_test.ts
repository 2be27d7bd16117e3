import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import { add, binaryReference, mul } from "../../src/ops/binary.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { elements, tensor } from "../../src/tensor/mod.ts";
import { asGpu, assertClose, randn, testDevice } from "../helpers.ts";

const device = await testDevice();
const cases: [a: number[], b: number[]][] = [
  // equal, and equal but no multiple of 4
  [[1], [1]],
  [[4, 64], [4, 64]],
  [[3, 7], [3, 7]],
  // b along the leading dimensions: a multiple of 4, an odd width, two dimensions, one element, no dimension
  [[5, 64], [64]],
  [[5, 63], [63]],
  [[2, 3, 8], [3, 8]],
  [[2, 3, 5], [3, 5]],
  [[3, 50], [1]],
  [[3, 50], []],
];

for (const [aShape, bShape] of cases) {
  Deno.test(`add() and mul() equal their reference at [${aShape}], [${bShape}]`, async () => {
    const a = randn(elements(aShape)), b = randn(elements(bShape), 2);
    using x = tensor(device, a, aShape);
    using y = tensor(device, b, bShape);
    using sum = add(x, y);
    using product = mul(x, y);
    assertEquals(sum.shape, aShape);
    assertClose("sum", await sum.read(), binaryReference(a, b, "add"), { rtol: 1e-6, atol: 0 });
    assertClose("product", await product.read(), binaryReference(a, b, "mul"), { rtol: 1e-6, atol: 0 });
  });
}

Deno.test("add() gives the same with the workgroups of a GPU, more than 65,535 of them", async () => {
  const n = 65_536 * 64 + 1;
  using y = asGpu(device, () => add(zeros(device, [n]), tensor(device, [2], [1])));
  assertEquals((await y.read()).every((v) => v === 2), true);
});

Deno.test("add() takes views, the same tensor twice, and nothing", async () => {
  const a = tensor(device, randn(3 * 64), [3, 64]);
  using twice = add(a, a);
  using views = add(a.rows(1, 2), a.rows(2, 3).reshape([64]));
  const host = await a.read();
  assertClose("twice", await twice.read(), host.map((v) => 2 * v));
  assertClose("views", await views.read(), host.subarray(64, 128).map((v, i) => v + host[128 + i]!));
  assertEquals(add(tensor(device, [], [0, 4]), tensor(device, [1, 2, 3, 4], [4])).shape, [0, 4]);
  assertEquals(add(tensor(device, [], [2, 0]), tensor(device, [], [0])).shape, [2, 0]);
});

Deno.test("add() and mul() refuse what does not fit", () => {
  const a = tensor(device, randn(6), [2, 3]);
  assertThrows(
    () => add(a, tensor(device, [1, 2], [2])),
    ShapeError,
    "Cannot run add as the shape of b must be the end of that of a, [2, 3]: current shape is [2]",
  );
  assertThrows(() => mul(tensor(device, [1, 2, 3], [3]), a), ShapeError, "mul");
  assertThrows(() => mul(a, tensor(device, [1, 2, 3], [3], "int32")), DtypeError, "b must be float32");
});
