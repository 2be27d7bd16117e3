/**
 * Weights as bitsandbytes saves them, in plain loops: the tensors of a layer under all their keys.
 *
 * @module
 */
import type { BitsAndBytesConfig } from "./bitsandbytes_config.ts";
import {
  CODE_BOOKS,
  dequantizeAbsmax,
  dequantizeBlocks,
  NESTED_BLOCK,
  packNibbles,
  quantizeAbsmax,
  quantizeBlocks,
} from "./code_books.ts";

/** A tensor to save. */
export interface SavedTensor {
  /** Its key. */
  name: string;
  /** Its dtype as safetensors names it. */
  dtype: "F32" | "U8" | "I8";
  /** Its shape. */
  shape: number[];
  /** Its bytes; empty where there was no weight. */
  data: Uint8Array<ArrayBuffer>;
}

/** What became of a weight. */
export interface SavedWeight {
  /** Its tensors. */
  tensors: SavedTensor[];
  /** What they stand for. */
  numbers: Float32Array;
}

const NESTED_STATE_BYTES = 256; // JSON of a nested state, filled up with spaces: its length must not depend on numbers

/**
 * The tensors of a weight [rows, K] called `name` ("….weight"), quantized as `config` says.
 *
 * @param x the numbers; undefined: only names, dtypes and shapes are wanted
 * @param dtype what it was before, which is what its numbers become when they are unpacked
 */
export function savedByBitsandbytes(
  name: string,
  x: Float32Array | undefined,
  shape: readonly [rows: number, K: number],
  config: BitsAndBytesConfig,
  dtype: string,
): SavedWeight {
  return config.loadIn8bit ? int8(name, x, shape) : fourBit(name, x, shape, config, dtype);
}

function int8(name: string, x: Float32Array | undefined, [rows, K]: readonly [number, number]): SavedWeight {
  const scales = new Float32Array(rows), codes = new Int8Array(x ? rows * K : 0);
  const numbers = new Float32Array(codes.length);
  for (let row = 0; x && row < rows; row++) {
    let size = 0;
    for (let i = row * K; i < (row + 1) * K; i++) size = Math.max(size, Math.abs(x[i]!));
    scales[row] = size;
    const steps = size > 0 ? Math.fround(Math.fround(1 / size) * 127) : 0; // in this order, as torch divides 127
    for (let i = row * K; i < (row + 1) * K; i++) {
      codes[i] = halfToEven(Math.fround(x[i]! * steps));
      numbers[i] = codes[i]! * size / 127;
    }
  }
  return {
    numbers,
    tensors: [
      { name, dtype: "I8", shape: [rows, K], data: new Uint8Array(codes.buffer) },
      { name: name.replace(/weight$/, "SCB"), dtype: "F32", shape: [rows], data: new Uint8Array(scales.buffer) },
      { name: `${name}_format`, dtype: "U8", shape: [], data: new Uint8Array(1) },
    ],
  };
}

function halfToEven(v: number): number {
  const rounded = Math.round(v);
  return rounded - v === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

function fourBit(
  name: string,
  x: Float32Array | undefined,
  [rows, K]: readonly [number, number],
  { bnb4bitQuantType: kind, bnb4bitBlocksize: block, bnb4bitUseDoubleQuant: nested }: BitsAndBytesConfig,
  dtype: string,
): SavedWeight {
  const blocks = Math.ceil(rows * K / block), book = CODE_BOOKS[kind];
  const { codes, absmax } = quantizeBlocks(x ?? new Float32Array(), kind, block);
  const double = nested ? quantizeAbsmax(absmax) : undefined;
  const more = double ? { nested_blocksize: NESTED_BLOCK, nested_dtype: "float32", nested_offset: double.offset } : {};
  const text = JSON.stringify({ quant_type: kind, blocksize: block, dtype, shape: [rows, K], ...more });
  const state = new TextEncoder().encode(nested ? text.padEnd(NESTED_STATE_BYTES) : text);
  const numbers = dequantizeBlocks({ codes, absmax: double ? dequantizeAbsmax(double) : absmax }, book, block);
  const f32 = (data: Float32Array) => new Uint8Array(Float32Array.from(data).buffer);
  return {
    numbers,
    tensors: [
      { name, dtype: "U8", shape: [Math.ceil(rows * K / 2), 1], data: Uint8Array.from(packNibbles(codes)) },
      {
        name: `${name}.absmax`,
        dtype: nested ? "U8" : "F32",
        shape: [blocks],
        data: double ? Uint8Array.from(double.codes) : f32(absmax),
      },
      { name: `${name}.quant_map`, dtype: "F32", shape: [16], data: f32(book) },
      { name: `${name}.quant_state.bitsandbytes__${kind}`, dtype: "U8", shape: [state.length], data: state },
      ...double
        ? [
          {
            name: `${name}.nested_absmax`,
            dtype: "F32" as const,
            shape: [Math.ceil(blocks / NESTED_BLOCK)],
            data: f32(double.scales),
          },
          { name: `${name}.nested_quant_map`, dtype: "F32" as const, shape: [256], data: f32(double.map) },
        ]
        : [],
    ],
  };
}
