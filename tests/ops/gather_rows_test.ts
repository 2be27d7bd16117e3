import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import { embedding, gatherRows, gatherRowsReference } from "../../src/ops/gather_rows.ts";
import { decode, type Dtype, encode, tensor } from "../../src/tensor/mod.ts";
import { randn, random, testDevice } from "../helpers.ts";

const device = await testDevice();

function indices(M: number, N: number): Uint32Array {
  const next = random(7);
  return Uint32Array.from({ length: M }, () => Math.floor(next() * N));
}

/** `x` as it comes back from `dtype`. */
function rounded(x: Float32Array, dtype: Dtype): Float32Array {
  return Float32Array.from(decode(encode(x, dtype).slice().buffer, dtype));
}

const cases = [
  // M, N, D: one element, odd widths, wider than a block, vec4s, a model's width, more rows than 65,535
  [1, 1, 1],
  [5, 7, 3],
  [9, 4, 257],
  [6, 5, 12],
  [3, 100, 1024],
  [65_537, 11, 2],
] as const;

for (const [M, N, D] of cases) {
  for (const dtype of ["float32", "float16", "bfloat16"] as const) {
    Deno.test(`embedding() equals its reference at ${M} of [${N}, ${D}] ${dtype}`, async () => {
      const weight = rounded(randn(N * D), dtype), tokens = indices(M, N);
      using y = embedding(tensor(device, tokens, [M], "uint32"), tensor(device, weight, [N, D], dtype));
      assertEquals(await y.read(), gatherRowsReference(weight, D, tokens));
    });
  }

  Deno.test(`gatherRows() equals its reference at ${M} of [${N}, ${D}]`, async () => {
    const x = randn(N * D), index = indices(M, N);
    using y = gatherRows(tensor(device, x, [N, D]), tensor(device, index, [M], "uint32"));
    assertEquals(await y.read(), gatherRowsReference(x, D, index));
  });
}

for (const D of [3, 4]) {
  Deno.test(`embedding() gives zeros for tokens that do not exist, at width ${D}`, async () => {
    const tokens = tensor(device, [2, 3, 4_294_967_295, 0x40000001, 1], [5], "uint32");
    const table = Array.from({ length: 3 * D }, (_, i) => i + 1), none = Array(3 * D).fill(0);
    for (const dtype of ["float32", "float16", "bfloat16"] as const) {
      using y = embedding(tokens, tensor(device, table, [3, D], dtype));
      assertEquals([...await y.read()], [...table.slice(2 * D), ...none, ...table.slice(D, 2 * D)]);
    }
  });
}

Deno.test("embedding() keeps the shape of its tokens, and takes none", () => {
  const weight = tensor(device, [1, 2, 3, 4], [2, 2]);
  assertEquals(embedding(tensor(device, [0, 1, 1, 0, 0, 1], [2, 3], "uint32"), weight).shape, [2, 3, 2]);
  assertEquals(embedding(tensor(device, [], [0], "uint32"), weight).shape, [0, 2]);
  assertEquals(embedding(tensor(device, [0], [1], "uint32"), tensor(device, [], [3, 0])).shape, [1, 0]);
});

Deno.test("gatherRows() moves any dtype and any number of dimensions", async () => {
  const index = tensor(device, [1, 0, 5], [3], "uint32");
  using integers = gatherRows(tensor(device, [-1, 2, 3, 4], [2, 1, 2], "int32"), index);
  assertEquals([integers.shape, [...await integers.read()]], [[3, 1, 2], [3, 4, -1, 2, 0, 0]]);
  using halves = gatherRows(tensor(device, [1, 2, 3, 4], [2, 2], "float16"), index);
  assertEquals([halves.dtype, [...await halves.read()]], ["float16", [3, 4, 1, 2, 0, 0]]);
  using scalars = gatherRows(tensor(device, [7, 8], [2], "uint32"), index);
  assertEquals([...await scalars.read()], [8, 7, 0]);
  assertEquals(gatherRows(tensor(device, [], [0, 2]), tensor(device, [], [0], "uint32")).shape, [0, 2]);
});

Deno.test("embedding() and gatherRows() refuse what does not fit", () => {
  const tokens = tensor(device, [0], [1], "uint32"), x = tensor(device, [1, 2, 3], [1, 3]);
  assertThrows(() => embedding(tokens, x.reshape([3])), ShapeError, "weight must be [V, D]: current shape is [3]");
  assertThrows(() => embedding(x, x), DtypeError, "tokens must be uint32: current dtype is float32");
  assertThrows(() => embedding(tokens, tensor(device, [1], [1, 1], "int32")), DtypeError, "weight");
  assertThrows(() => gatherRows(x, tensor(device, [0], [1, 1], "uint32")), ShapeError, "index must be [M]");
  assertThrows(() => gatherRows(tensor(device, [1], []), tokens), ShapeError, "first dimension");
  assertThrows(
    () => gatherRows(tensor(device, [1, 2, 3], [1, 3], "float16"), tokens),
    DtypeError,
    "Cannot run gatherRows as rows of x must be whole words of 4 bytes: current row is 3 float16",
  );
});
