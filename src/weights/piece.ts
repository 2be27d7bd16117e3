/**
 * Pieces of tensors of floats, as they come from files.
 *
 * @module
 */
import type { Dtype } from "../tensor/mod.ts";
import type { TensorInfo } from "./safetensors.ts";

/** Dtypes of floats in safetensors, and what each is read as. */
export const FLOATS: Readonly<Record<string, Dtype>> = {
  F32: "float32",
  F64: "float32",
  F16: "float16",
  BF16: "bfloat16",
};

/** Two buffers that take turns. */
export function buffersOf(bytes: number): [Uint8Array, Uint8Array] {
  return [new Uint8Array(bytes), new Uint8Array(bytes)];
}

/** A piece of a tensor of floats, as `tensor` takes it. */
export function elementsOf(bytes: Uint8Array<ArrayBuffer>, { dtype }: TensorInfo, shape: number[]): [
  data: Float32Array | Uint16Array,
  shape: number[],
  dtype: Dtype,
] {
  const { buffer, byteOffset, byteLength } = bytes;
  if (dtype === "F64") {
    return [new Float32Array(new Float64Array(buffer, byteOffset, byteLength / 8)), shape, "float32"];
  }
  if (dtype === "F32") return [new Float32Array(buffer, byteOffset, byteLength / 4), shape, "float32"];
  return [new Uint16Array(buffer, byteOffset, byteLength / 2), shape, FLOATS[dtype]!];
}
