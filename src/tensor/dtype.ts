/**
 * The dtypes of tensors, and how each lies in memory.
 *
 * @module
 */
import { DtypeError } from "../errors.ts";

/** A tensor's element type. bfloat16 is kept as it is on the GPU and read to the host as float32. */
export type Dtype = "float32" | "float16" | "bfloat16" | "int32" | "uint32";

/** Host arrays of tensor elements. */
export type TypedArray = Float32Array | Float16Array | Int32Array | Uint32Array;

/** Host data that a tensor can be made from. */
export type TensorData = TypedArray | Uint16Array | readonly number[];

/** All dtypes. */
export const DTYPES: readonly Dtype[] = ["float32", "float16", "bfloat16", "int32", "uint32"];

/** Bytes of one element. */
export function bytesPerElement(dtype: Dtype): number {
  return dtype === "float16" || dtype === "bfloat16" ? 2 : 4;
}

/** The `@if` flags with which a shader reads values of `dtype`: `F16` or `BF16` (packed in u32), none for f32. */
export function floatFlags(dtype: Dtype, prefix = ""): Record<string, boolean> {
  return { [`${prefix}F16`]: dtype === "float16", [`${prefix}BF16`]: dtype === "bfloat16" };
}

/** The bytes of `data` as elements of `dtype`; numbers are rounded to nearest even. */
export function encode(data: TensorData, dtype: Dtype): Uint8Array {
  if (data instanceof Uint16Array) { // the bits of 16-bit floats, as checkpoints hold them
    if (bytesPerElement(dtype) !== 2) {
      throw new DtypeError(
        `Cannot make a tensor as a Uint16Array must hold float16 or bfloat16 bits: dtype is ${dtype}`,
      );
    }
    return bytesOf(data);
  }
  switch (dtype) {
    case "float32":
      return bytesOf(data instanceof Float32Array ? data : Float32Array.from(data));
    case "float16":
      return bytesOf(data instanceof Float16Array ? data : Float16Array.from(data));
    case "bfloat16":
      return bytesOf(Uint16Array.from(data as ArrayLike<number>, toBfloat16Bits));
    case "int32":
      return bytesOf(data instanceof Int32Array ? data : Int32Array.from(data));
    case "uint32":
      return bytesOf(data instanceof Uint32Array ? data : Uint32Array.from(data));
  }
}

/** The elements of `dtype` in `bytes`; bfloat16 becomes float32. */
export function decode(bytes: ArrayBuffer, dtype: Dtype): TypedArray {
  switch (dtype) {
    case "float32":
      return new Float32Array(bytes);
    case "float16":
      return new Float16Array(bytes);
    case "bfloat16":
      return new Float32Array(Uint32Array.from(new Uint16Array(bytes), (bits) => bits << 16).buffer);
    case "int32":
      return new Int32Array(bytes);
    case "uint32":
      return new Uint32Array(bytes);
  }
}

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** The upper 16 bits of `x` as a float32, rounded to nearest even; a NaN stays one. */
export function toBfloat16Bits(x: number): number {
  scratch[0] = x;
  const bits = scratchBits[0]!;
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
