/**
 * The blocks of GGUF files: integer codes, some of which share a scale, and a minimum where the format has one.
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * @module
 */
import type { CodeBits } from "../ops/quantized_matmul.ts";

/** What a block unpacks to: `w[i] = d * sc[g] * (code[i] - zero) - dmin * m[g]`, g the group of i. */
export interface UnpackedBlock {
  /** Codes, from 0. */
  readonly codes: Uint8Array;
  /** Scale of the block. */
  d: number;
  /** Scale of its minima. */
  dmin: number;
  /** Scale of each group. */
  readonly sc: Int16Array;
  /** Minimum of each group. */
  readonly m: Uint8Array;
}

/** How a block lies. */
export interface BlockFormat {
  /** The name that GGUF gives it. */
  readonly name: BlockName;
  /** Numbers of a block. */
  readonly size: number;
  /** Bytes of a block. */
  readonly bytes: number;
  /** Bits of a code. */
  readonly bits: CodeBits;
  /** Numbers that share a scale. */
  readonly span: 16 | 32;
  /** The code that stands for 0, before the minimum. */
  readonly zero: number;
  /** Whether groups have minima. */
  readonly minima: boolean;
  /** Bytes of a block at which its float16 scales lie. */
  readonly scales: readonly number[];
  /** Reads the block at byte `at`; `out` is of {@linkcode unpackedBlock}. */
  unpack(bytes: Uint8Array, at: number, out: UnpackedBlock): void;
}

/** Names of the formats. */
export type BlockName = "Q4_0" | "Q4_1" | "Q5_0" | "Q5_1" | "Q8_0" | "Q2_K" | "Q3_K" | "Q4_K" | "Q5_K" | "Q6_K";

/** Room for a block of `format`. */
export function unpackedBlock({ size, span }: BlockFormat): UnpackedBlock {
  return {
    codes: new Uint8Array(size),
    d: 0,
    dmin: 0,
    sc: new Int16Array(size / span).fill(1),
    m: new Uint8Array(size / span).fill(1),
  };
}

/** 32 numbers that share a scale, and a minimum where `minima`. */
function legacy(name: BlockName, bits: 4 | 5 | 8, minima: boolean): BlockFormat {
  const head = minima ? 4 : 2, qs = head + (bits === 5 ? 4 : 0);
  return {
    name,
    size: 32,
    bytes: qs + (bits === 8 ? 32 : 16),
    bits,
    span: 32,
    zero: minima ? 0 : 2 ** (bits - 1),
    minima,
    scales: minima ? [0, 2] : [0],
    unpack(bytes, at, out) {
      out.d = half(bytes, at);
      out.dmin = minima ? -half(bytes, at + 2) : 0;
      if (bits === 8) {
        for (let i = 0; i < 32; i++) out.codes[i] = bytes[at + qs + i]! ^ 0x80; // a signed byte, 128 more
        return;
      }
      for (let i = 0; i < 16; i++) {
        const byte = bytes[at + qs + i]!;
        out.codes[i] = byte & 15;
        out.codes[i + 16] = byte >> 4;
      }
      if (bits === 4) return;
      for (let i = 0; i < 32; i++) out.codes[i]! |= (bytes[at + head + (i >> 3)]! >> (i & 7) & 1) << 4;
    },
  };
}

/** 256 numbers in two halves of 128, each of 32 bytes whose pairs of bits are 4 runs of 32. */
function pairsOfBits(bytes: Uint8Array, at: number, codes: Uint8Array, shift: number): void {
  for (let i = 0; i < 256; i++) {
    codes[i]! |= (bytes[at + (i >> 7) * 32 + (i & 31)]! >> 2 * (i >> 5 & 3) & 3) << shift;
  }
}

/** 256 numbers in runs of 64, each of 32 bytes: the low nibbles, then the high ones. */
function nibbles(bytes: Uint8Array, at: number, codes: Uint8Array, run: 32 | 64): void {
  for (let i = 0; i < 256; i++) {
    const chunk = Math.floor(i / (2 * run)), high = Math.floor(i / run) & 1;
    codes[i] = bytes[at + chunk * run + i % run]! >> 4 * high & 15;
  }
}

/** Eight scales and eight minima of 6 bits in 12 bytes. */
function sixBits(bytes: Uint8Array, at: number, { sc, m }: UnpackedBlock): void {
  for (let j = 0; j < 4; j++) {
    const a = bytes[at + j]!, b = bytes[at + 4 + j]!, c = bytes[at + 8 + j]!;
    sc[j] = a & 63;
    m[j] = b & 63;
    sc[j + 4] = c & 15 | a >> 6 << 4;
    m[j + 4] = c >> 4 | b >> 6 << 4;
  }
}

const Q2_K: BlockFormat = {
  ...{ name: "Q2_K", size: 256, bytes: 84, bits: 2, span: 16, zero: 0, minima: true },
  scales: [80, 82],
  unpack(bytes, at, out) {
    for (let g = 0; g < 16; g++) {
      out.sc[g] = bytes[at + g]! & 15;
      out.m[g] = bytes[at + g]! >> 4;
    }
    pairsOfBits(bytes, at + 16, out.codes.fill(0), 0);
    out.d = half(bytes, at + 80);
    out.dmin = half(bytes, at + 82);
  },
};

const Q3_K: BlockFormat = {
  ...{ name: "Q3_K", size: 256, bytes: 110, bits: 3, span: 16, zero: 4, minima: false },
  scales: [108],
  unpack(bytes, at, out) {
    pairsOfBits(bytes, at + 32, out.codes.fill(0), 0);
    for (let i = 0; i < 256; i++) out.codes[i]! |= (bytes[at + (i & 31)]! >> (i >> 5) & 1) << 2;
    for (let g = 0; g < 16; g++) {
      const low = bytes[at + 96 + g % 8]! >> 4 * (g >> 3) & 15, high = bytes[at + 104 + g % 4]! >> 2 * (g >> 2) & 3;
      out.sc[g] = (low | high << 4) - 32;
    }
    out.d = half(bytes, at + 108);
  },
};

const Q4_K: BlockFormat = {
  ...{ name: "Q4_K", size: 256, bytes: 144, bits: 4, span: 32, zero: 0, minima: true },
  scales: [0, 2],
  unpack(bytes, at, out) {
    out.d = half(bytes, at);
    out.dmin = half(bytes, at + 2);
    sixBits(bytes, at + 4, out);
    nibbles(bytes, at + 16, out.codes, 32);
  },
};

const Q5_K: BlockFormat = {
  ...{ name: "Q5_K", size: 256, bytes: 176, bits: 5, span: 32, zero: 0, minima: true },
  scales: [0, 2],
  unpack(bytes, at, out) {
    out.d = half(bytes, at);
    out.dmin = half(bytes, at + 2);
    sixBits(bytes, at + 4, out);
    nibbles(bytes, at + 48, out.codes, 32);
    for (let i = 0; i < 256; i++) out.codes[i]! |= (bytes[at + 16 + (i & 31)]! >> (i >> 5) & 1) << 4;
  },
};

const Q6_K: BlockFormat = {
  ...{ name: "Q6_K", size: 256, bytes: 210, bits: 6, span: 16, zero: 32, minima: false },
  scales: [208],
  unpack(bytes, at, out) {
    nibbles(bytes, at, out.codes, 64);
    pairsOfBits(bytes, at + 128, out.codes, 4);
    for (let g = 0; g < 16; g++) out.sc[g] = bytes[at + 192 + g]! << 24 >> 24;
    out.d = half(bytes, at + 208);
  },
};

/** All formats by name. */
export const BLOCK_FORMATS: Readonly<Record<BlockName, BlockFormat>> = {
  Q4_0: legacy("Q4_0", 4, false),
  Q4_1: legacy("Q4_1", 4, true),
  Q5_0: legacy("Q5_0", 5, false),
  Q5_1: legacy("Q5_1", 5, true),
  Q8_0: legacy("Q8_0", 8, false),
  ...{ Q2_K, Q3_K, Q4_K, Q5_K, Q6_K },
};

/** The format of this name, if it is one of blocks. */
export function blockFormat(name: string): BlockFormat | undefined {
  return Object.hasOwn(BLOCK_FORMATS, name) ? BLOCK_FORMATS[name as BlockName] : undefined;
}

/**
 * Numbers of blocks, to the bit as ggml has them: a code and its scales multiply without rounding.
 *
 * @param bytes whole blocks
 * @param out as many numbers
 */
export function dequantizeBlocks(format: BlockFormat, bytes: Uint8Array, out: Float32Array): void {
  const { size, span, zero } = format, block = unpackedBlock(format), { codes, sc, m } = block;
  for (let at = 0, to = 0; to < out.length; at += format.bytes, to += size) {
    format.unpack(bytes, at, block);
    for (let g = 0; g < size / span; g++) {
      const scale = block.d * sc[g]!, least = block.dmin * m[g]!, end = (g + 1) * span;
      for (let i = g * span; i < end; i++) out[to + i] = scale * (codes[i]! - zero) - least;
    }
  }
}

const bits16 = new Uint16Array(1), half16 = new Float16Array(bits16.buffer);

/** The little-endian f16 at byte `at`. */
function half(bytes: Uint8Array, at: number): number {
  bits16[0] = bytes[at]! | bytes[at + 1]! << 8;
  return half16[0]!;
}
