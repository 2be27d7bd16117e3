import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { DtypeError } from "../../src/errors.ts";
import {
  bytesPerElement,
  decode,
  type Dtype,
  DTYPES,
  encode,
  floatFlags,
  type TensorData,
  toBfloat16Bits,
} from "../../src/tensor/mod.ts";

const bits: [x: number, bits: number][] = [
  [0, 0x0000],
  [-0, 0x8000],
  [1, 0x3f80],
  [-2, 0xc000],
  [1 + 2 ** -8, 0x3f80], // half way: to even, down
  [1 + 3 * 2 ** -8, 0x3f82], // half way: to even, up
  [1 + 2 ** -8 + 2 ** -20, 0x3f81], // just above half way
  [3.3895313892515355e38, 0x7f7f], // the largest
  [3.4e38, 0x7f80], // rounds to infinity, as in PyTorch
  [Infinity, 0x7f80],
  [-Infinity, 0xff80],
  [1e-40, 0x0001], // subnormal
];

for (const [x, want] of bits) {
  Deno.test(`toBfloat16Bits(${Object.is(x, -0) ? "-0" : x}) is 0x${want.toString(16).padStart(4, "0")}`, () => {
    assertEquals(toBfloat16Bits(x), want);
  });
}

Deno.test("toBfloat16Bits() keeps a NaN a NaN", () => {
  const quiet = new Float32Array(new Uint32Array([0x7f800001, 0xffffffff]).buffer);
  for (const x of [NaN, quiet[0]!, quiet[1]!]) {
    const got = toBfloat16Bits(x);
    assertEquals((got & 0x7f80) === 0x7f80 && (got & 0x7f) !== 0, true);
  }
});

Deno.test("encode() and decode() are inverse for values that the dtype holds", () => {
  const values = fc.array(fc.integer({ min: -128, max: 127 }));
  fc.assert(fc.property(fc.constantFrom(...DTYPES), values, (dtype, data) => {
    const numbers = dtype === "uint32" ? data.map(Math.abs) : data;
    const bytes = encode(numbers, dtype);
    assertEquals(bytes.byteLength, numbers.length * bytesPerElement(dtype));
    assertEquals(Array.from(decode(bytes.slice().buffer, dtype)), numbers);
  }));
});

const cases: [data: TensorData, dtype: Dtype, bytes: number[]][] = [
  [[1, -1], "float32", [0, 0, 0x80, 0x3f, 0, 0, 0x80, 0xbf]],
  [[1, 65519, 65520], "float16", [0, 0x3c, 0xff, 0x7b, 0, 0x7c]], // the largest, and one above
  [new Float32Array([1, -2]), "bfloat16", [0x80, 0x3f, 0, 0xc0]],
  [new Uint16Array([0x3c00, 0x1234]), "float16", [0, 0x3c, 0x34, 0x12]],
  [new Uint16Array([0x3f80]), "bfloat16", [0x80, 0x3f]],
  [new Float16Array([1]), "float32", [0, 0, 0x80, 0x3f]],
  [[-1], "int32", [0xff, 0xff, 0xff, 0xff]],
  [new Int32Array([7]), "uint32", [7, 0, 0, 0]],
  [new Float32Array([1, 2, 3]).subarray(1, 2), "float32", [0, 0, 0, 0x40]], // a view, not its buffer
  [[], "float16", []],
];

for (const [data, dtype, bytes] of cases) {
  Deno.test(`encode() of ${data.constructor.name} [${data}] as ${dtype}`, () => {
    assertEquals([...encode(data, dtype)], bytes);
  });
}

Deno.test("encode() refuses a Uint16Array as anything but 16-bit floats", () => {
  for (const dtype of ["float32", "int32", "uint32"] as const) {
    assertThrows(() => encode(new Uint16Array(2), dtype), DtypeError, `dtype is ${dtype}`);
  }
});

Deno.test("floatFlags() names the flags of packed floats", () => {
  assertEquals(floatFlags("float32"), { F16: false, BF16: false });
  assertEquals(floatFlags("bfloat16", "W_"), { W_F16: false, W_BF16: true });
});
