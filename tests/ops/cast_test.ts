import { assertEquals } from "@std/assert";
import { cast, castReference } from "../../src/ops/cast.ts";
import { type Dtype, DTYPES, tensor } from "../../src/tensor/mod.ts";
import { asGpu, assertClose, randn, random, testDevice } from "../helpers.ts";

const device = await testDevice();

/** Numbers that every dtype can hold at least roughly: whole ones for integers, and beyond 16 bits' precision. */
function numbers(n: number, dtype: Dtype): number[] {
  const next = random(5);
  if (dtype === "uint32") return Array.from({ length: n }, () => Math.floor(next() * 70_000));
  if (dtype === "int32") return Array.from({ length: n }, () => Math.floor((next() - 0.5) * 140_000));
  return [...randn(n).map((v) => v * 100)];
}

for (const from of DTYPES) {
  for (const to of DTYPES) {
    Deno.test(`cast() equals its reference from ${from} to ${to}`, async () => {
      for (const n of [1, 2, 129, 4999]) { // a lone half, a pair, odd, more than a workgroup and odd
        using x = tensor(device, numbers(n, from), [n], from);
        using y = cast(x, to);
        assertEquals(y.dtype, to);
        assertEquals(await y.read(), castReference(await x.read(), to));
      }
    });
  }
}

Deno.test("cast() rounds to float16 as IEEE 754 does: ties, subnormals, overflow, NaN", async () => {
  const ulp = 2 ** -24; // the least float16
  const x = [
    65504,
    65519.99,
    65520,
    -65520,
    1e30,
    Infinity,
    -Infinity,
    2048.5,
    2049,
    2051,
    2 ** -14,
    2 ** -14 - ulp / 4,
  ]
    .concat([ulp, ulp / 2, ulp / 2 * 1.001, 1.5 * ulp, 2.5 * ulp, -ulp / 3, 1023.5 * ulp, 1e-40, 0, -0]);
  using y = cast(tensor(device, x, [x.length]), "float16");
  assertEquals([...await y.read()], x.map((v) => Math.f16round(Math.fround(v))));
  using nan = cast(tensor(device, [NaN, 1], [2]), "float16");
  assertEquals([...await nan.read()], [NaN, 1]);
});

Deno.test("cast() rounds to float16 as the host does, over all exponents", async () => {
  const next = random(3);
  const bits = Uint32Array.from({ length: 20_001 }, () => (next() * 2 ** 32) >>> 0);
  const x = new Float32Array(bits.buffer).map((v, i) => i % 2 ? v : Math.fround(2 ** (next() * 45 - 28)));
  for (const dtype of ["float16", "bfloat16"] as const) {
    using y = cast(tensor(device, x, [x.length]), dtype);
    assertClose(dtype, await y.read(), castReference(x, dtype), { rtol: 0, atol: 0 });
  }
});

Deno.test("cast() reads every float16 there is", async () => {
  const bits = Uint16Array.from({ length: 65_536 }, (_, i) => i);
  using y = cast(tensor(device, bits, [bits.length], "float16"), "float32");
  assertClose("y", await y.read(), Float32Array.from(new Float16Array(bits.buffer)), { rtol: 0, atol: 0 });
});

Deno.test("cast() to integers drops the fraction and stays in range", async () => {
  const x = tensor(device, [1.9, -1.9, 3e9, -3e9, 1e30, 16_777_217], [6]);
  using signed = cast(x, "int32");
  using unsigned = cast(x, "uint32");
  const [low, high] = [-(2 ** 31), 2 ** 31 - 1];
  const got = [...await signed.read()];
  assertEquals(got.slice(0, 2), [1, -1]);
  assertClose("int32", got.slice(2), [high, low, high, 16_777_216], { rtol: 1e-7 }); // GPUs clamp to the last f32 below
  assertClose("uint32", await unsigned.read(), [1, 0, 3e9, 0, 2 ** 32 - 1, 16_777_216], { rtol: 1e-7 });
  using wrapped = cast(tensor(device, [-1], [1], "int32"), "uint32");
  assertEquals([...await wrapped.read()], [2 ** 32 - 1]);
});

Deno.test("cast() keeps the shape, copies the same dtype, takes views and nothing, on a GPU too", async () => {
  const x = tensor(device, randn(2 * 128), [2, 128]);
  using copy = cast(x, "float32");
  assertEquals([copy.shape, await copy.read()], [[2, 128], await x.read()]);
  using wide = asGpu(device, () => cast(x, "float16"));
  assertEquals(await wide.read(), castReference(randn(256), "float16"));
  using view = cast(x.rows(1, 2), "bfloat16");
  assertEquals(await view.read(), castReference(randn(256).slice(128), "bfloat16"));
  assertEquals(cast(tensor(device, [], [0, 3]), "float16").shape, [0, 3]);
});
