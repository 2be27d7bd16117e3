/**
 * How the absmax, nested scales and biases of NF4 and FP4 lie beside their codes.
 *
 * @module
 */
import type { AbsmaxPlace } from "../ops/pack_codes.ts";
import { packedColumns } from "../ops/pack_weight.ts";
import { codebookDims, type CodedMatrix } from "../ops/quantized_matmul.ts";
import type { Tensor } from "../tensor/mod.ts";
import { NESTED_BLOCK, type NestedAbsmax } from "./code_books.ts";
import { QuantizedLinear } from "./quantized_linear.ts";
import {
  biasOf,
  codedBytes,
  type LayerBytes,
  type LayerShape,
  outFeatures,
  placeOf,
  type TensorReader,
} from "./scheme.ts";

const BOOK = 16; // words of the code book, before absmax

/** How a layer's words beside its codes lie. */
export interface Layout {
  K: number;
  N: number;
  block: number;
  nested: boolean;
  /** A block may end anywhere in a row. */
  flat: boolean;
  /** Words: the code book, absmax, nested scales, bias. */
  words: number;
  bias: number;
  /** Of each part: its first column, its blocks, and the words at which its absmax and nested scales begin. */
  parts: { column: number; rows: number; blocks: number; absmax: number; nested: number }[];
}

/** How the words of `layer` lie. */
export function layoutOf(layer: LayerShape, block: number, nested: boolean): Layout {
  const { inputs: K, outputs } = layer, N = outFeatures(layer);
  const flat = K % block !== 0 || block < 32, perWord = nested ? 4 : 1;
  let column = 0, words = BOOK;
  const parts = outputs.map((rows) => {
    const blocks = Math.ceil(rows * K / block);
    const part = { column, rows, blocks, absmax: words, nested: 0 };
    column += rows;
    if (flat) words += Math.ceil(blocks / perWord);
    return part;
  });
  if (!flat) words += K / block * packedColumns(N) / perWord;
  for (const part of nested ? parts : []) {
    part.nested = words;
    words += 257 + Math.ceil(part.blocks / NESTED_BLOCK);
  }
  return { K, N, block, nested, flat, bias: layer.bias ? words : 0, words: words + (layer.bias ? N : 0), parts };
}

/** Where the kernels leave or find the absmax of a part's rows from `row` on. */
export function absmaxPlace({ K, N, block, flat }: Layout, part: Layout["parts"][number], row: number): AbsmaxPlace {
  if (flat) return { block, first: part.absmax + row * K / block };
  return { block, first: part.absmax + part.column + row, stride: packedColumns(N) };
}

/** Puts a part's absmax, or the codes of them, where the kernels read them. */
export function placeAbsmax(
  words: Uint32Array,
  layout: Layout,
  index: number,
  absmax: Float32Array | NestedAbsmax,
): void {
  const { K, N, block, flat } = layout, { column, absmax: at, nested } = layout.parts[index]!;
  const [values, into] = absmax instanceof Float32Array
    ? [absmax, new Float32Array(words.buffer, 4 * at)]
    : [absmax.codes, new Uint8Array(words.buffer, 4 * at)];
  const perRow = flat ? values.length : K / block, stride = flat ? 1 : packedColumns(N), first = flat ? 0 : column;
  for (let i = 0, row = first; i < values.length; row++) {
    for (let g = 0; g < perRow; g++, i++) into[g * stride + row] = values[i]!;
  }
  if (absmax instanceof Float32Array) return;
  new Float32Array(words.buffer).set([absmax.offset, ...absmax.map, ...absmax.scales], nested);
}

/** The layer of such words. */
export function linearOf(
  reader: TensorReader,
  layer: LayerShape,
  layout: Layout,
  { scheme, w, groups }: { scheme: string; w: Tensor; groups: Tensor },
): QuantizedLinear {
  const { K, N, block, flat, nested, bias, parts } = layout;
  const dims = codebookDims(reader.device, { K, N, ...placeOf(layer), bias, block, flat, parts });
  const matrix: CodedMatrix = {
    kind: "codebook",
    bits: 4,
    span: 32,
    flags: { NESTED: nested, FLAT: flat },
    ...{ K, N, column: placeOf(layer).column, bias: layer.bias, w, groups, dims },
  };
  return new QuantizedLinear(scheme, K, N, [matrix]);
}

/** Words with the code book and the bias in them. */
export async function wordsOf(
  reader: TensorReader,
  layer: LayerShape,
  layout: Layout,
  book: Float32Array,
): Promise<Uint32Array<ArrayBuffer>> {
  const words = new Uint32Array(layout.words), floats = new Float32Array(words.buffer);
  floats.set(book);
  floats.set(await biasOf(reader, layer), layout.bias);
  return words;
}

/** What it will take. */
export function bytesOf(layout: Layout, loadingBytes: number): LayerBytes {
  const { K, N, words, parts } = layout;
  return { ...codedBytes({ K, N, bits: 4, groups: words, dims: 16 + 3 * parts.length }), loadingBytes };
}

/** Of all absmax of a part those of a slice of it. */
export function ownBlocks(
  { slice, inputs }: LayerShape,
  block: number,
  all: Float32Array | NestedAbsmax,
): Float32Array | NestedAbsmax {
  if (!slice) return all;
  const from = slice.first * inputs / block, to = Math.ceil((slice.first + slice.count) * inputs / block);
  if (all instanceof Float32Array) return all.subarray(from, to);
  const scales = all.scales.subarray(from / NESTED_BLOCK, Math.ceil(to / NESTED_BLOCK));
  return { ...all, codes: all.codes.subarray(from, to), scales };
}

/** Outputs after which a block of numbers, and one of nested absmax, begins. */
export function rowsOfBlocks(K: number, block: number, nested: boolean): number {
  const run = block * (nested ? NESTED_BLOCK : 1);
  return Math.max(4, run / gcd(K, run));
}

/** Greatest common divisor. */
export function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
