import { type Device, kernel } from "../gpu/mod.ts";
import { sizeClass } from "../gpu/pool.ts";
import codebookWgsl from "../shaders/codebook_matmul.wgsl" with { type: "text" };
import codebookRowWgsl from "../shaders/codebook_row.wgsl" with { type: "text" };
import integerWgsl from "../shaders/quantized_matmul.wgsl" with { type: "text" };
import rowWgsl from "../shaders/quantized_row.wgsl" with { type: "text" };
import rowsWgsl from "../shaders/quantized_rows.wgsl" with { type: "text" };
import unpackWgsl from "../shaders/unpack_codes.wgsl" with { type: "text" };
import { empty, keep, type Tensor, tensor } from "../tensor/mod.ts";
import { extent, subgroupLanes } from "./launching.ts";
import { ACTIVATIONS, type Fusion, matmulPacked } from "./matmul_packed.ts";
import { packedColumns, stripOf } from "./pack_weight.ts";
import { rmsNorm } from "./rms_norm.ts";

const integer = kernel("quantized_matmul", integerWgsl);
const codebook = kernel("codebook_matmul", codebookWgsl);
const integerRow = kernel("quantized_row", rowWgsl);
const codebookRow = kernel("codebook_row", codebookRowWgsl);
const rows = kernel("quantized_rows", rowsWgsl);
const unpack = kernel("unpack_codes", unpackWgsl);
const LANES = 32, ROW_COLUMNS = 64; // of a workgroup: vec4s, and columns of quantized_row
const CPU_STRIP = 64;
const MANY = 32; // rows from which on a CPU gains by unpacking a matrix first
const UNPACKED = 4 * 2 ** 20; // bytes of numbers at a time: what the caches of a core hold
const UNIT = 16; // columns that unpack_codes begins at a multiple of

/** Bits that a code may have. */
export type CodeBits = 2 | 3 | 4 | 5 | 6 | 8;

/** Bits of a code in the low rows of a block; the others are in its high rows. */
export const LOW_BITS: Readonly<Record<CodeBits, number>> = { 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 8: 8 };

/** A matrix [K, N] of codes on the GPU, and what the kernels need to know of it; see quantized.wgsl. */
export interface CodedMatrix {
  /** What a code stands for: an integer that a group scales, an entry of a code book, or LLM.int8()'s signed byte. */
  readonly kind: "integer" | "codebook" | "int8";
  /** Bits of a code. */
  readonly bits: CodeBits;
  /** The least number of codes along K that share a scale: 32, or 16. */
  readonly span: 32 | 16;
  /** What is special about it. */
  readonly flags: { PERMUTED?: boolean; NESTED?: boolean; FLAT?: boolean; BLOCKS?: boolean };
  /** Inputs. */
  readonly K: number;
  /** Its own columns. */
  readonly N: number;
  /** The column of the product that is its first, as its `dims` have it. Default 0. */
  readonly column?: number;
  /** Whether its columns have a bias, among `groups`. Default false. */
  readonly bias?: boolean;
  /** The codes, uint32. */
  readonly w: Tensor;
  /** Scales, and what else is given by group or column, uint32. */
  readonly groups: Tensor;
  /** Sizes and offsets, uint32. */
  readonly dims: Tensor;
}

/** Columns of a strip of a matrix of codes on `device`, see codes.wgsl; undefined for all. */
export function codeStrip(device: Device): number | undefined {
  return device.isCpu ? CPU_STRIP : undefined;
}

/** What tells a kernel that reads codes of their strips. */
export function stripOverride(device: Device): { STRIP?: number } {
  const strip = codeStrip(device);
  return strip === undefined ? {} : { STRIP: strip / 4 };
}

/** Words of 32 bits of a matrix of codes. */
export function codeWords(K: number, N: number, bits: CodeBits): number {
  return Math.ceil(K / 32) * bits * packedColumns(N);
}

/** What {@linkcode integerDims} and {@linkcode codebookDims} take. */
export interface DimsOptions {
  /** Inputs. */
  K: number;
  /** Columns of this matrix. */
  N: number;
  /** Columns of the product that it is a part of. Default N. */
  outFeatures?: number;
  /** The first of them that is its own. Default 0. */
  column?: number;
  /** Word of `groups` at which the bias begins. Default 0: there is none. */
  bias?: number;
}

/** Sizes of a matrix of integer codes, as its kernels read them. */
export function integerDims(
  device: Device,
  { group, span, zeroBits = 0, zeros, permutation = [], ...options }: DimsOptions & {
    /** Codes along K that share a scale: 16 times a power of 2, or K or more. */
    group: number;
    /** As {@linkcode CodedMatrix.span}. */
    span: 32 | 16;
    /** Bits of a zero, where each group has one: 4 or 8. Default 0: all have the same. */
    zeroBits?: number;
    /** The zero of all groups, or the word of `groups` at which they begin. */
    zeros: number;
    /** Which input each row of the matrix multiplies. */
    permutation?: ArrayLike<number>;
  },
): Tensor {
  const spans = Math.ceil(options.K / span);
  const whole = group >= options.K;
  const run = whole ? spans : group / span;
  return dimsOf(device, options, span, run, [
    whole ? 31 : Math.log2(group / span),
    zeroBits,
    zeros,
  ], permutation);
}

/** Sizes of a matrix of GGUF's blocks, as its kernels read them; words as integer_groups.wgsl has them. */
export function blockDims(
  device: Device,
  { span, zero, dmin, sc, m, high = 0, size, ...options }: DimsOptions & {
    /** Codes that share a scale. */
    span: 32 | 16;
    /** The code of 0. */
    zero: number;
    /** Word at which the scales of minima begin; 0: there are none. */
    dmin: number;
    /** Word at which the steps of scales begin; 0: there are none. */
    sc: number;
    /** Word at which the steps of minima begin. */
    m: number;
    /** Word at which the upper 2 bits of steps of scales begin, where these have 6. Default 0: they are bytes. */
    high?: number;
    /** Codes of a block. */
    size: number;
  },
): Tensor {
  return dimsOf(device, options, span, 1, [0, 0, zero, dmin, sc, m, Math.log2(size / span), high], []);
}

/** Sizes of a matrix of code book entries, as its kernels read them. */
export function codebookDims(
  device: Device,
  { block, parts, flat, ...options }: DimsOptions & {
    /** Codes that share an absmax, a power of 2. */
    block: number;
    /** Whether a block may end anywhere in a row. */
    flat: boolean;
    /** Of each part its first column and the words of `groups` at which its absmax and its nested scales begin. */
    parts: readonly { column: number; absmax: number; nested: number }[];
  },
): Tensor {
  const run = flat ? Infinity : block / 32;
  return dimsOf(device, options, 32, run, [Math.log2(block), parts.length, Math.ceil(options.K / block)], [
    ...parts.flatMap(({ column, absmax, nested }) => [column, absmax, nested]),
  ]);
}

/** (K, N, N4, columns of the product, spans, spans of a run, first column, bias, …) and a table from 16 on. */
function dimsOf(
  device: Device,
  { K, N, outFeatures = N, column = 0, bias = 0 }: DimsOptions,
  span: number,
  run: number,
  rest: readonly number[],
  table: ArrayLike<number>,
): Tensor {
  const spans = Math.ceil(K / span);
  const dims = new Uint32Array(16 + table.length);
  // on a GPU slices of the sum share the spans out, so a run is as short as can be; a CPU has one slice
  dims.set([K, N, packedColumns(N) / 4, outFeatures, spans, device.isCpu ? Math.min(run, spans) : 1, column, bias]);
  dims.set(rest, 8);
  dims.set(table, 16);
  return keep(device, tensor(device, dims, [dims.length], "uint32"));
}

/** Rows of x that a thread multiplies, and whether slices share the sum, or lanes the loads, or neither. */
export function tile(device: Device, M: number): { ROWS: number; flags: Record<string, boolean> } {
  const ROWS = M <= 1 ? 1 : device.isCpu || M <= 4 ? 4 : 8;
  if (!device.isCpu) return { ROWS, flags: { [ROWS < 8 ? "SPLIT" : "ALONE"]: true } };
  return { ROWS, flags: { [subgroupLanes(device) >= 8 ? "SUBGROUPS" : "ALONE"]: true } };
}

/**
 * `x · W`, and the bias that W's groups have, into the columns of `y` that are W's own; and around it what `fusion` names.
 *
 * @param x [M, K] float32
 * @param y [M, outFeatures] float32, changed in place; [M, outFeatures / 2] with a gate, which takes a whole matrix whose
 * N divides by 8; [parts, M, outFeatures / parts] with parts
 */
export function quantizedMatmul(x: Tensor, matrix: CodedMatrix, y: Tensor, fusion: Fusion = {}): void {
  const { K, N, bits, span, w, groups, dims, kind } = matrix;
  const { norm, gate, residual, parts: PARTS = 1, activation = gate ?? "identity" } = fusion;
  const M = x.size / K;
  if (unpacksFirst(x.device, M)) return unpackedMatmul(x, matrix, y, fusion);
  const { ROWS, flags } = tile(x.device, M);
  const { PERMUTED = false, ...special } = matrix.flags;
  const order = PERMUTED ? "X_PERMUTED" : K % 4 === 0 ? "X_BY_4" : "X_ANY";
  const common = {
    bindings: { x, w, groups, dims, residual, y, norm: norm?.weight, scales: groups },
    grid: [Math.ceil(N / 4 / LANES), Math.ceil(M / ROWS), 1],
    flags: { ...flags, ...special, [order]: true, RESIDUAL: !!residual, NORM: !!norm, GATED: !!gate },
    consts: { ROWS },
  } as const;
  const isInteger = kind === "integer";
  const overrides = {
    ...stripOverride(x.device),
    ...isInteger && { BITS: bits, SPAN: span },
    ...{ ACTIVATION: ACTIVATIONS.indexOf(activation), PARTS },
    ...norm && { EPS: norm.eps },
  };
  if (M === 1 && order === "X_BY_4" && flags.SUBGROUPS && !special.FLAT) {
    return (isInteger ? integerRow : codebookRow)(x.device, {
      bindings: common.bindings,
      grid: [Math.ceil(N / ROW_COLUMNS)],
      flags: { SUBGROUPS: true, ...special, RESIDUAL: !!residual, NORM: !!norm, GATED: !!gate },
      overrides,
    });
  }
  (isInteger ? integer : codebook)(x.device, { ...common, overrides });
}

/** Whether a product of `M` rows by codes begins with unpacking them. */
export function unpacksFirst(device: Device, M: number): boolean {
  return device.isCpu && M >= MANY;
}

/** Columns of a matrix of `N` that are unpacked at a time, `halves` of them: a multiple of 16, or all. */
function columnsAtATime(K: number, N: number, halves: number): number {
  const most = Math.max(1, Math.floor(UNPACKED / (4 * K * UNIT * halves))), units = Math.ceil(N / halves / UNIT);
  return Math.min(N / halves, UNIT * Math.ceil(units / Math.ceil(units / most)));
}

/** Bytes of numbers that a CPU holds while it multiplies `M` rows by a matrix of codes. */
export function unpackedBytes(M: number, K: number, N: number): number {
  return M < MANY ? 0 : sizeClass(4 * K * packedColumns(columnsAtATime(K, N, 1)));
}

/**
 * As {@linkcode quantizedMatmul}, for many rows and a matrix of any kind: its columns become numbers, some at a time, which
 * {@linkcode matmulPacked} multiplies.
 */
export function unpackedMatmul(x: Tensor, matrix: CodedMatrix, y: Tensor, { norm, ...behind }: Fusion = {}): void {
  if (norm) {
    using h = rmsNorm(x, norm.weight, norm.eps);
    return unpackedMatmul(h, matrix, y, behind);
  }
  const { device } = x, { K, N, kind, bits, span, w, groups, dims, column = 0, bias: BIAS = false } = matrix;
  const HALVES = behind.gate ? 2 : 1, width = y.size / (x.size / K) * HALVES, step = columnsAtATime(K, N, HALVES);
  const lanes = subgroupLanes(device) >= 8 ? "SUBGROUPS" : "ALONE",
    strip = stripOf(device) ?? packedColumns(HALVES * step);
  using bias = BIAS ? empty(device, [width]) : undefined;
  for (let first = 0; first < N / HALVES; first += step) {
    const count = HALVES * Math.min(step, N / HALVES - first);
    using numbers = empty(device, [K, packedColumns(count)]);
    using sizes = empty(device, [6], "uint32");
    unpack(device, {
      flags: { ...matrix.flags, BIAS, [kind.toUpperCase()]: true, [lanes]: true },
      overrides: { BITS: bits, SPAN: span, HALVES, Y_STRIP: strip / 4, ...stripOverride(device) },
      bindings: { w, groups, dims, before: extent(w, 1 + first / UNIT), y: numbers, sizes, bias, scales: groups },
      grid: [Math.ceil(count / 32), Math.ceil(K / 128), 1],
    });
    const block = { w: numbers, K, N: count, width, offset: column + first, strip, dims: sizes };
    matmulPacked(x, block, { bias, ...behind }, y);
  }
}

/**
 * Columns of a matrix of codes as numbers: the rows of an embedding.
 *
 * @param tokens [T] uint32; a column that does not exist gives zeros
 * @returns [T, K] float32
 */
export function quantizedRows(tokens: Tensor, { K, kind, bits, span, flags, w, groups, dims }: CodedMatrix): Tensor {
  const y = empty(tokens.device, [...tokens.shape, K]);
  rows(tokens.device, {
    flags: { ...flags, [kind.toUpperCase()]: true },
    overrides: { BITS: bits, SPAN: span, ...stripOverride(tokens.device) },
    bindings: { tokens, w, groups, dims, y, scales: groups },
    grid: [Math.ceil(y.size / 64)],
  });
  return y;
}
