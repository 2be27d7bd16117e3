/**
 * The code books of bitsandbytes, and quantization to them in plain loops: what the kernels must equal.
 *
 * @module
 */

/** NF4: the quantiles of a normal distribution, https://arxiv.org/abs/2305.14314. */
export const NF4: Float32Array = Float32Array.of(
  ...[-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334],
  ...[-0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224],
  ...[0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1],
);

/** FP4: a sign, two bits of exponent, one of mantissa; 8 is 0 again. */
export const FP4: Float32Array = Float32Array.of(
  ...[0, 0.0052083333, 0.66666667, 1, 0.33333333, 0.5, 0.16666667, 0.25],
  ...[0, -0.0052083333, -0.66666667, -1, -0.33333333, -0.5, -0.16666667, -0.25],
);

/** Code books of 4 bits by name. */
export const CODE_BOOKS = { nf4: NF4, fp4: FP4 } as const;

/** The names of the code books. */
export type CodeBook = keyof typeof CODE_BOOKS;

/** Numbers that share a scale when absmax is itself quantized. */
export const NESTED_BLOCK = 256;

/** The 256 entries to which absmax is quantized: more of them the smaller they are. */
export const DYNAMIC_MAP: Float32Array = dynamicMap();

function dynamicMap(): Float32Array {
  const map = [0, 1];
  for (let i = 0; i < 7; i++) {
    const edges = linspace(0.1, 1, 2 ** i + 1);
    for (let j = 0; j < 2 ** i; j++) {
      const middle = Math.fround(Math.fround(Math.fround(edges[j]! + edges[j + 1]!) / 2) * Math.fround(10 ** (i - 6)));
      map.push(middle, -middle);
    }
  }
  return Float32Array.from(map).sort();
}

/** As torch's: from both ends to the middle, each number rounded to float32 once. */
function linspace(start: number, end: number, n: number): number[] {
  const first = Math.fround(start), step = Math.fround(Math.fround(end - first) / (n - 1));
  return Array.from({ length: n }, (_, i) => Math.fround(i < n / 2 ? first + step * i : end - step * (n - 1 - i)));
}

/** Absmax of blocks, itself quantized. */
export interface NestedAbsmax {
  /** An entry of `map` for each block. */
  codes: Uint8Array;
  /** What the entries of {@linkcode NESTED_BLOCK} blocks are multiplied with. */
  scales: Float32Array;
  /** What is added: the mean. */
  offset: number;
  /** The 256 entries. */
  map: Float32Array;
}

/** Quantizes absmax to 8 bits: bitsandbytes' double quantization. */
export function quantizeAbsmax(absmax: Float32Array): NestedAbsmax {
  const map = DYNAMIC_MAP;
  const offset = meanOf(absmax);
  const codes = new Uint8Array(absmax.length), scales = new Float32Array(Math.ceil(absmax.length / NESTED_BLOCK));
  const rest = new Float32Array(absmax.length);
  for (let i = 0; i < rest.length; i++) rest[i] = absmax[i]! - offset;
  for (let block = 0; block < scales.length; block++) {
    const start = block * NESTED_BLOCK, end = Math.min(rest.length, start + NESTED_BLOCK);
    let size = 0;
    for (let i = start; i < end; i++) size = Math.max(size, Math.abs(rest[i]!));
    scales[block] = size;
    for (let i = start; i < end; i++) codes[i] = dynamicRank(size > 0 ? Math.fround(rest[i]! / size) : 0);
  }
  return { codes, scales, offset, map };
}

const LANES = 8, ROWS = 4, LEVELS = 4;

/** The mean in float32, summed in the order in which torch sums on a CPU: the offset is part of a checkpoint's bits. */
function meanOf(x: Float32Array): number {
  const vectors = Math.floor(x.length / LANES), width = LANES * ROWS, steps = Math.floor(vectors / ROWS);
  const power = Math.max(4, Math.floor(Math.ceil(Math.log2(Math.max(1, steps))) / LEVELS)), step = 2 ** power;
  const sums = Array.from({ length: LEVELS }, () => new Float32Array(width));
  const [total] = sums as [Float32Array, ...Float32Array[]];
  for (let i = 0; i < steps; i++) {
    for (let j = 0; j < width; j++) total[j]! += x[i * width + j]!;
    for (let level = 1; level < LEVELS && (i + 1) % step ** level === 0; level++) {
      for (let j = 0; j < width; j++) sums[level]![j]! += sums[level - 1]![j]!;
      sums[level - 1]!.fill(0);
    }
  }
  for (const more of sums.slice(1)) for (let j = 0; j < width; j++) total[j]! += more[j]!;
  for (let i = steps * width; i < vectors * LANES; i++) total[i % LANES]! += x[i]!;
  for (let j = LANES; j < width; j++) total[j % LANES]! += total[j]!;
  const rest = Float32Array.of(0);
  for (const v of x.subarray(vectors * LANES)) rest[0]! += v;
  for (const v of total.subarray(0, LANES)) rest[0]! += v;
  return Math.fround(rest[0]! / Math.max(1, x.length));
}

/** What {@linkcode quantizeAbsmax} stands for: `map[code] * scale + offset`, in float32. */
export function dequantizeAbsmax({ codes, scales, offset, map }: NestedAbsmax): Float32Array {
  return Float32Array.from(
    codes,
    (code, i) => Math.fround(map[code]! * scales[Math.floor(i / NESTED_BLOCK)]!) + offset,
  );
}

const BOUNDS = Float32Array.from({ length: 255 }, (_, i) => (DYNAMIC_MAP[i]! + DYNAMIC_MAP[i + 1]!) / 2);
const CELLS = 1024; // of [-1, 1], each with the rank at which a search in it begins
const STARTS = Uint8Array.from({ length: CELLS + 1 }, (_, i) => rankOf(BOUNDS, (2 * i) / CELLS - 1));

/** How many of the bounds between entries of the dynamic map lie below `v`, from -1 to 1. */
function dynamicRank(v: number): number {
  let rank = STARTS[Math.floor((v + 1) * (CELLS / 2))]!;
  while (BOUNDS[rank]! < v) rank++;
  return rank;
}

/** How many of the sorted `bounds` lie below `v`. */
function rankOf(bounds: Float32Array, v: number): number {
  let low = 0, high = bounds.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (bounds[middle]! < v) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Numbers in blocks of 4-bit codes. */
export interface Blocks {
  /** A code for each number. */
  codes: Uint8Array;
  /** The largest size in each block. */
  absmax: Float32Array;
}

/** The nearest entries of a code book to `x / absmax`, of two the lower; blocks run on over the ends of rows. */
export function quantizeBlocks(x: Float32Array, kind: CodeBook, block: number): Blocks {
  const book = CODE_BOOKS[kind];
  const order = [...book.keys()].sort((a, b) => book[a]! - book[b]! || (kind === "fp4" ? a - b : 0));
  const bounds = Float32Array.from({ length: 15 }, (_, i) => (book[order[i]!]! + book[order[i + 1]!]!) / 2);
  const absmax = new Float32Array(Math.ceil(x.length / block));
  for (let i = 0; i < x.length; i++) {
    const b = Math.floor(i / block);
    absmax[b] = Math.max(absmax[b]!, Math.abs(x[i]!));
  }
  const codes = Uint8Array.from(x, (v, i) => {
    const size = absmax[Math.floor(i / block)]!;
    return order[rankOf(bounds, size > 0 ? Math.fround(v / size) : 0)]!;
  });
  return { codes, absmax };
}

/** What codes of a code book stand for. */
export function dequantizeBlocks(
  { codes, absmax }: Blocks,
  book: Float32Array,
  block: number,
): Float32Array {
  return Float32Array.from(codes, (code, i) => book[code]! * absmax[Math.floor(i / block)]!);
}

/** Codes two in a byte, the first in the high half, as bitsandbytes keeps them. */
export function packNibbles(codes: Uint8Array): Uint8Array {
  return Uint8Array.from(
    { length: Math.ceil(codes.length / 2) },
    (_, i) => codes[2 * i]! << 4 | (codes[2 * i + 1] ?? 0),
  );
}

/** The inverse of {@linkcode packNibbles}. */
export function unpackNibbles(bytes: Uint8Array, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (bytes[i >> 1]! >> (i % 2 === 0 ? 4 : 0)) & 15);
}
