import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import { scatterRows, scatterRowsReference } from "../../src/ops/scatter_rows.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { randn, testDevice } from "../helpers.ts";

const device = await testDevice();

// M, D, N: one element, odd widths, wider than a block, more rows than 65,535; every third place is left empty
for (const [M, D, N] of [[1, 1, 1], [5, 3, 9], [4, 257, 7], [3, 1028, 5], [65_537, 2, 100_000]] as const) {
  Deno.test(`scatterRows() equals its reference for [${M}, ${D}] in ${N} rows`, async () => {
    const x = randn(M * D), index = Uint32Array.from({ length: M }, (_, m) => N - 1 - Math.floor(m * 1.5));
    using y = scatterRows(tensor(device, x, [M, D]), tensor(device, index, [M], "uint32"), N);
    assertEquals(y.shape, [N, D]);
    assertEquals(await y.read(), scatterRowsReference(x, index, N));
  });
}

Deno.test("scatterRows() leaves out rows past the end, moves any dtype, and takes no rows", async () => {
  const index = tensor(device, [3, 0, 4_294_967_295], [3], "uint32");
  using y = scatterRows(tensor(device, [1, 2, 3, 4, 5, 6], [3, 2], "bfloat16"), index, 2);
  assertEquals([y.dtype, [...await y.read()]], ["bfloat16", [3, 4, 0, 0]]);
  using none = scatterRows(tensor(device, [], [0, 2]), tensor(device, [], [0], "uint32"), 2);
  assertEquals([...await none.read()], [0, 0, 0, 0]);
  assertEquals(scatterRows(tensor(device, [1], [1, 1]), tensor(device, [0], [1], "uint32"), 0).shape, [0, 1]);
});

Deno.test("scatterRows() refuses what does not fit", () => {
  const x = tensor(device, [1, 2, 3], [3, 1]);
  assertThrows(
    () => scatterRows(x, tensor(device, [1], [1], "uint32"), 3),
    ShapeError,
    "Cannot run scatterRows as index must be [3]: current shape is [1]",
  );
  assertThrows(() => scatterRows(x, tensor(device, [1, 2, 3], [3]), 3), DtypeError, "index must be uint32");
  assertThrows(() => scatterRows(x, tensor(device, [1, 2, 3], [3], "uint32"), -1), ShapeError, "[-1, 1]");
});

// nothing, an odd number of halves, not whole vec4s, several workgroups
for (const [size, dtype] of [[0, "float32"], [5, "float16"], [255, "uint32"], [3000, "bfloat16"]] as const) {
  Deno.test(`zeros() writes every element of [${size}] ${dtype}`, async () => {
    using y = zeros(device, [size], dtype);
    const data = await y.read();
    assertEquals([data.length, data.every((v) => Object.is(v, 0))], [size, true]);
  });
}
