/**
 * Bytes of GPU memory that dense weights take, to the byte as the pool counts them, known before they are loaded.
 *
 * @module
 */
import { sizeClass } from "../gpu/pool.ts";
import { packedColumns } from "../ops/pack_weight.ts";
import { bytesPerElement, type Dtype } from "../tensor/mod.ts";

/** Bytes of GPU memory for a vector of `length` float32 numbers. */
export function vectorBytes(length: number): number {
  return sizeClass(4 * length);
}

/** Bytes of GPU memory for the matrix of a {@linkcode DenseLinear} or {@linkcode DenseEmbedding}. */
export function matrixBytes(rows: number, columns: number, dtype: Dtype): number {
  return Math.max(16, Math.ceil(rows * packedColumns(columns) * bytesPerElement(dtype) / 16) * 16);
}

/** Bytes of GPU memory for what a {@linkcode DenseLinear} keeps beside its matrix. */
export function linearExtraBytes(outFeatures: number, bias: boolean): number {
  return sizeClass(20) + sizeClass(12) + (bias ? vectorBytes(outFeatures) : 0);
}

/** Bytes of GPU memory for what a {@linkcode DenseEmbedding} keeps beside its matrix. */
export const EMBEDDING_EXTRA_BYTES: number = sizeClass(12);
