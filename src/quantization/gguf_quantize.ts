/**
 * Numbers to the blocks of GGUF files: Q4_0 and Q8_0 with ggml's bits, Q4_K by a search of its own.
 *
 * @module
 */
import { BLOCK_FORMATS } from "./gguf_blocks.ts";

/** Formats that can be written. */
export type WrittenBlock = "Q4_0" | "Q8_0" | "Q4_K";

/**
 * Quantizes numbers to blocks.
 *
 * @param x whole blocks of numbers
 * @returns the blocks' bytes
 */
export function quantizeToBlocks(name: WrittenBlock, x: Float32Array): Uint8Array<ArrayBuffer> {
  const { size, bytes } = BLOCK_FORMATS[name], write = WRITERS[name];
  const out = new Uint8Array(x.length / size * bytes);
  for (let i = 0, at = 0; i < x.length; i += size, at += bytes) {
    write(x.subarray(i, i + size), out.subarray(at, at + bytes));
  }
  return out;
}

type Writer = (x: Float32Array, out: Uint8Array) => void;

const WRITERS: Readonly<Record<WrittenBlock, Writer>> = {
  Q4_0(x, out) {
    let largest = 0;
    for (const v of x) if (Math.abs(v) > Math.abs(largest)) largest = v;
    const d = Math.fround(largest / -8), inverse = d === 0 ? 0 : Math.fround(1 / d);
    const code = (v: number) => Math.min(15, Math.trunc(Math.fround(Math.fround(v * inverse) + 8.5)));
    putHalf(out, 0, d);
    for (let i = 0; i < 16; i++) out[2 + i] = code(x[i]!) | code(x[i + 16]!) << 4;
  },
  Q8_0(x, out) {
    let largest = 0;
    for (const v of x) largest = Math.max(largest, Math.abs(v));
    const d = Math.fround(largest / 127), inverse = d === 0 ? 0 : Math.fround(1 / d);
    putHalf(out, 0, d);
    for (let i = 0; i < 32; i++) {
      const v = Math.fround(x[i]! * inverse);
      out[2 + i] = Math.sign(v) * Math.floor(Math.abs(v) + 0.5); // halves go away from 0
    }
  },
  Q4_K(x, out) {
    const fits = Array.from({ length: 8 }, (_, g) => fit(x.subarray(32 * g, 32 * g + 32)));
    const d = putHalf(out, 0, Math.max(...fits.map(({ scale }) => scale)) / 63);
    const dmin = putHalf(out, 2, Math.max(...fits.map(({ least }) => least)) / 63);
    const step = (v: number, by: number) => by === 0 ? 0 : Math.min(63, Math.round(v / by));
    for (const [g, { scale, least }] of fits.entries()) {
      const sc = step(scale, d), m = step(least, dmin), j = g % 4;
      if (g < 4) {
        out[4 + j] = sc;
        out[8 + j] = m;
      } else {
        out[12 + j] = sc & 15 | (m & 15) << 4;
        out[4 + j]! |= sc >> 4 << 6;
        out[8 + j]! |= m >> 4 << 6;
      }
      for (let i = 0; i < 32; i++) {
        const code = d * sc === 0 ? 0 : clamp((x[32 * g + i]! + dmin * m) / (d * sc));
        out[16 + (g >> 1) * 32 + i]! |= code << 4 * (g & 1);
      }
    }
  },
};

/** The scale and the minimum, both from 0, by which 16 steps come nearest to `x`; large numbers count more. */
function fit(x: Float32Array): { scale: number; least: number } {
  const low = Math.min(0, ...x), width = Math.max(0, ...x) - low;
  if (width === 0) return { scale: 0, least: 0 };
  const rms = Math.hypot(...x) / Math.sqrt(x.length);
  let best = { scale: width / 15, least: -low, error: Infinity };
  for (let steps = 14; steps <= 16; steps += 0.1) {
    let w = 0, wc = 0, wcc = 0, wx = 0, wcx = 0;
    for (const v of x) {
      const code = clamp((v - low) * steps / width), weight = rms + Math.abs(v);
      w += weight;
      wc += weight * code;
      wcc += weight * code * code;
      wx += weight * v;
      wcx += weight * code * v;
    }
    const determinant = w * wcc - wc * wc;
    if (determinant <= 0) continue;
    let scale = (w * wcx - wc * wx) / determinant, least = (wc * wcx - wcc * wx) / determinant;
    if (least < 0) [scale, least] = [wcx / wcc, 0];
    if (!(scale > 0)) continue;
    let error = 0;
    for (const v of x) error += (rms + Math.abs(v)) * (clamp((v + least) / scale) * scale - least - v) ** 2;
    if (error < best.error) best = { scale, least, error };
  }
  return best;
}

function clamp(v: number): number {
  return Math.max(0, Math.min(15, Math.round(v)));
}

const half16 = new Float16Array(1), halfBytes = new Uint8Array(half16.buffer);

/** Puts a number as f16 and returns what it became. */
function putHalf(out: Uint8Array, at: number, value: number): number {
  half16[0] = value;
  out.set(halfBytes, at);
  return half16[0]!;
}
