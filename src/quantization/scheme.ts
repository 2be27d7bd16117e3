/**
 * What a scheme is: which tensors a linear layer has in a checkpoint, what it will take on the GPU, how it gets there.
 *
 * @module
 */
import type { Device } from "../gpu/mod.ts";
import { sizeClass } from "../gpu/pool.ts";
import { type CodeBits, codeWords } from "../ops/quantized_matmul.ts";
import { empty, keep, type Shape, type Tensor } from "../tensor/mod.ts";
import type { BitsAndBytesConfig } from "./bitsandbytes_config.ts";
import type { Shard } from "./bytes.ts";
import type { QuantizedLinear } from "./quantized_linear.ts";

/** A tensor of a checkpoint. */
export interface StoredTensor {
  /** Its dtype as safetensors names it. */
  readonly dtype: string;
  /** Its shape. */
  readonly shape: Shape;
  /** Its bytes. */
  readonly byteLength: number;
}

/** Looks up a tensor of the checkpoint. */
export type Lookup = (name: string) => StoredTensor | undefined;

/** Which outputs of a larger layer a layer is: `count` of one of its parts, from `first` on. */
export interface Slice extends Shard {
  /** Outputs of that part. */
  readonly of: number;
  /** Output of the larger layer that is the first of these. */
  readonly column: number;
  /** Outputs of the larger layer. */
  readonly width: number;
}

/** A linear layer as a model asks for it: one matrix, or several side by side. */
export interface LayerShape {
  /** The names of its parts in the checkpoint. */
  readonly names: readonly string[];
  /** K. */
  readonly inputs: number;
  /** N of each part. */
  readonly outputs: readonly number[];
  /** Its weights are [in, out]. */
  readonly conv1d: boolean;
  /** It has a bias. */
  readonly bias: boolean;
  /** Where it is only a slice of one part of a layer that would not fit a binding. */
  readonly slice?: Slice;
}

/** A tensor that a layer must find in the checkpoint. */
export interface ExpectedTensor {
  /** Its name there. */
  name: string;
  /** Its shape, or how many bytes it has where any shape will do. */
  shape: Shape | number;
  /** Its dtype, one of these; any where there are none. */
  dtypes?: readonly string[];
}

/** Bytes of GPU memory of a layer. */
export interface LayerBytes {
  /** All of it. */
  byteLength: number;
  /** Its largest buffer. */
  bufferBytes: number;
  /** What it takes beside that while it is loaded, but for a piece of float weights. */
  loadingBytes: number;
}

/** Bytes of a tensor, from `start` to before `end`. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** A checkpoint's tensors, as a scheme reads them. */
export interface TensorReader {
  /** Where to. */
  readonly device: Device;
  /** Whether the checkpoint has this tensor. */
  has(name: string): boolean;
  /** A tensor of floats as numbers on the host. */
  numbers(name: string): Promise<Float32Array>;
  /** A tensor's bytes, or a range of them, on the host. */
  bytes(name: string, range?: ByteRange): Promise<Uint8Array<ArrayBuffer>>;
  /** A tensor's bytes, or a range of them, on the GPU, as uint32; the caller disposes of it. */
  words(name: string, range?: ByteRange): Promise<Tensor>;
  /**
   * A matrix of floats, or some rows of it, in pieces of whole rows on the GPU, each a multiple of `multiple` rows but the
   * last; `row` counts from the first that was asked for.
   */
  pieces(
    name: string,
    pack: (piece: Tensor, row: number) => void,
    options?: { multiple?: number; rows?: Shard },
  ): Promise<void>;
  /** Looks at the first rows of each part of a layer that is quantized, in turn. */
  sample?(piece: Tensor): void;
  /** Work that need not be done before the next layer, but before the model is. */
  later?(work: Promise<void>): void;
}

/** How linear layers are packed. */
export interface Scheme {
  /** Its name: "nf4", "int8", "gptq 4-bit", … */
  readonly name: string;
  /** What `layer` must find in the checkpoint, but for its biases. */
  expects(layer: LayerShape, lookup: Lookup): ExpectedTensor[];
  /** What it will take, where a binding has at most `limit` bytes. */
  bytes(layer: LayerShape, lookup: Lookup, limit?: number): LayerBytes;
  /** Loads it; `lookup` is that of the plan. */
  load(reader: TensorReader, layer: LayerShape, lookup: Lookup): Promise<QuantizedLinear>;
  /** Outputs of which a slice's first must be a multiple. Default 4. */
  sliceUnit?(layer: LayerShape, lookup: Lookup): number;
}

/** What a model tells of its quantization. */
export interface QuantizationState {
  /** "bitsandbytes", "gptq" or "awq". */
  readonly method: string;
  /** Bits of a code. */
  readonly bits: number;
}

/** How a whole model is quantized. */
export interface Quantization extends QuantizationState {
  /** What was asked for, where the model is quantized while it is loaded. */
  readonly config?: BitsAndBytesConfig;
  /** The scheme of a layer; undefined where it stays as it is. */
  schemeOf(layer: LayerShape, lookup: Lookup): Scheme | undefined;
}

/** Sum of the outputs of a layer's parts. */
export function outFeatures({ outputs }: LayerShape): number {
  return outputs.reduce((sum, n) => sum + n, 0);
}

/** Where a layer's columns stand in the product: as the kernels' sizes take it. */
export function placeOf(layer: LayerShape): { outFeatures: number; column: number } {
  return { outFeatures: layer.slice?.width ?? outFeatures(layer), column: layer.slice?.column ?? 0 };
}

/** Of numbers by output those that are a layer's own; of matrices in rows, the `perRow` numbers of each. */
export function ownRows<T extends { subarray(start: number, end: number): T }>(
  { slice }: LayerShape,
  numbers: T,
  perRow = 1,
): T {
  return slice ? numbers.subarray(slice.first * perRow, (slice.first + slice.count) * perRow) : numbers;
}

/** The biases of a layer's parts, or none. */
export async function biasOf(reader: TensorReader, layer: LayerShape): Promise<Float32Array> {
  const biases = new Float32Array(layer.bias ? outFeatures(layer) : 0);
  let at = 0;
  for (const [i, name] of layer.bias ? layer.names.entries() : []) {
    biases.set(ownRows(layer, await reader.numbers(`${name}.bias`)), at);
    at += layer.outputs[i]!;
  }
  return biases;
}

/** An empty matrix of codes. */
export function emptyCodes(device: Device, K: number, N: number, bits: CodeBits, label: string): Tensor {
  return keep(device, empty(device, [codeWords(K, N, bits)], "uint32", { exact: true, label }));
}

/** Scales and what else goes with the codes, on the GPU. */
export function groupsOf(device: Device, words: Uint32Array<ArrayBuffer>): Tensor {
  const groups = keep(device, empty(device, [words.length], "uint32", { exact: true, label: "scales" }));
  groups.write(words);
  return groups;
}

/** Bytes of a buffer of `words` words that is allocated exactly. */
export function exactBytes(words: number): number {
  return Math.max(16, Math.ceil(words / 4) * 16);
}

/** Bytes of matrices of codes with `groups` words beside the codes and `dims` words of sizes. */
export function codedBytes(
  { K, N, bits, groups, dims }: { K: number; N: number; bits: CodeBits; groups: number; dims: number },
): { byteLength: number; bufferBytes: number } {
  const codes = exactBytes(codeWords(K, N, bits));
  return { byteLength: codes + exactBytes(groups) + sizeClass(4 * dims), bufferBytes: codes };
}
