/**
 * Packed values as padded ones, on the host: sequences of different lengths end at the same place, as if their prompts
 * had been padded on the left.
 *
 * @module
 */
import { type Columns, placeAttentions } from "../../models/pad_attentions.ts";
import type { HostTensor } from "./step_model.ts";

/** The keys of an encoder that a pass sees. */
export interface EncoderKeys {
  /** Where they stand in the rows that it read, of each sequence that is run. */
  keys: Columns;
  /** K: those of the longest sequence. */
  packed: number;
}

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
  const keys = endingTogether(lengths.map((n, b) => n + past[b]!));
  return placed(data, lengths, keys, keys.width);
}

/** [H, T, K] as [B, H, longest, encoder's tokens], these where `keys` says. */
export function paddedCrossAttentions(
  data: Float32Array,
  lengths: readonly number[],
  { keys, packed }: EncoderKeys,
): HostTensor {
  return placed(data, lengths, keys, packed);
}

function placed(data: Float32Array, lengths: readonly number[], keys: Columns, K: number): HostTensor {
  const T = lengths.reduce((sum, n) => sum + n, 0), H = data.length / (T * K), queries = endingTogether(lengths);
  const to = placeAttentions(data, [H, T, K], queries, keys);
  return { data: to, shape: [lengths.length, H, queries.width, keys.width] };
}

function endingTogether(lengths: readonly number[]): Columns {
  const width = Math.max(...lengths);
  return { of: lengths.map((n) => Array.from({ length: n }, (_, i) => width - n + i)), width };
}
