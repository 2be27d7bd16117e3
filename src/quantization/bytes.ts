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

/** A part of a matrix: `count` of its outputs or rows from `first` on. */
export interface Shard {
  /** The first of them. */
  readonly first: number;
  /** How many. */
  readonly count: number;
}

/**
 * The parts of `n` outputs (or rows of an embedding), each of `width` numbers, such that each part fits a binding of
 * `limit` bytes; one part where all do.
 */
export function shardsOf(n: number, width: number, dtype: Dtype, limit: number): Shard[] {
  const fit = Math.floor(limit / (width * bytesPerElement(dtype)));
  const most = n <= fit && packedColumns(n) <= fit ? n : Math.max(4, Math.floor(fit / 4) * 4);
  const starts = Array.from({ length: Math.ceil(n / most) }, (_, i) => i * most);
  return starts.map((first) => ({ first, count: Math.min(most, n - first) }));
}

/** Bytes of a dense layer on the GPU. */
export interface DenseBytes {
  /** All of it. */
  byteLength: number;
  /** Its largest buffer. */
  bufferBytes: number;
}

/** Bytes of GPU memory for a dense linear layer, split where bindings are limited to `limit` bytes. */
export function linearBytes(inputs: number, outputs: number, dtype: Dtype, bias: boolean, limit: number): DenseBytes {
  const parts = shardsOf(outputs, inputs, dtype, limit).map(({ count }) => matrixBytes(inputs, count, dtype));
  const extra = parts.length * (sizeClass(20) + sizeClass(16)) + (bias ? vectorBytes(outputs) : 0);
  return { byteLength: parts.reduce((sum, n) => sum + n, extra), bufferBytes: Math.max(...parts) };
}

/** Bytes of GPU memory for a dense embedding table, split where bindings are limited to `limit` bytes. */
export function embeddingBytes(rows: number, width: number, dtype: Dtype, limit: number): DenseBytes {
  const parts = shardsOf(rows, packedColumns(width), dtype, limit).map(({ count }) => matrixBytes(count, width, dtype));
  const byteLength = parts.reduce((sum, n) => sum + n, parts.length * sizeClass(16));
  return { byteLength, bufferBytes: Math.max(...parts) };
}

function matrixBytes(rows: number, columns: number, dtype: Dtype): number {
  return Math.max(16, Math.ceil(rows * packedColumns(columns) * bytesPerElement(dtype) / 16) * 16);
}
