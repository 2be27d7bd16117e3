/**
 * Packed values as padded ones, on the host: sequences of different lengths end at the same place, as if their prompts
 * had been padded on the left.
 *
 * @module
 */
import type { HostTensor } from "./step_model.ts";

/** Rows of `width` elements. */
export function splitRows(data: Float32Array, width: number): Float32Array[] {
  return Array.from({ length: data.length / width }, (_, b) => data.subarray(b * width, (b + 1) * width));
}

/** [T, D] as [B, longest, D]. */
export function paddedRows(data: Float32Array, lengths: readonly number[]): HostTensor {
  const T = lengths.reduce((sum, n) => sum + n, 0), D = data.length / T, width = Math.max(...lengths);
  const to = new Float32Array(lengths.length * width * D);
  let at = 0;
  for (const [b, n] of lengths.entries()) {
    to.set(data.subarray(at * D, (at + n) * D), ((b + 1) * width - n) * D);
    at += n;
  }
  return { data: to, shape: [lengths.length, width, D] };
}

/** [H, T, S] as [B, H, longest, keys]; each sequence had `past[b]` tokens before. */
export function paddedAttentions(
  data: Float32Array,
  lengths: readonly number[],
  past: readonly number[],
): HostTensor {
  const T = lengths.reduce((sum, n) => sum + n, 0), B = lengths.length;
  const queries = Math.max(...lengths), keys = Math.max(...lengths.map((n, b) => n + past[b]!));
  const H = data.length / (T * keys);
  const to = new Float32Array(B * H * queries * keys);
  let at = 0;
  for (const [b, n] of lengths.entries()) {
    const seen = n + past[b]!;
    for (let h = 0; h < H; h++) {
      for (let q = 0; q < n; q++) {
        const from = (h * T + at + q) * keys;
        const row = (b * H + h) * queries + queries - n + q;
        to.set(data.subarray(from, from + seen), row * keys + keys - seen);
      }
    }
    at += n;
  }
  return { data: to, shape: [B, H, queries, keys] };
}
