import { type ModelInputs, unpad, type Unpadded } from "../cache/mod.ts";
import type { Device } from "../gpu/mod.ts";
import type { FamilyConfig } from "./family.ts";

/** A packed batch, where its tokens stood in the caller's rows, and how many rows these are. */
export interface PackedRows extends Unpadded, Disposable {
  /** B of the caller; a row may hold several sequences. */
  rows: number;
}

/**
 * Packs padded rows. With `split`, a row without a mask whose `positionIds` begin anew is several sequences end to end,
 * which do not see each other: what flash attention makes of such rows.
 *
 * @param past tokens that each sequence already has in the cache
 */
export function packRows(
  device: Device,
  inputs: ModelInputs,
  past: readonly number[],
  sizes: FamilyConfig,
  split: boolean,
): PackedRows {
  const { inputIds, attentionMask, positionIds, tokenTypeIds } = inputs;
  const rows = inputIds.length;
  const fits = (all?: readonly (readonly number[])[]) =>
    !all || all.length === rows && all.every((row, b) => row.length === inputIds[b]!.length);
  const whole = !split || attentionMask || !fits(positionIds) || !fits(tokenTypeIds);
  const pieces = whole ? [] : (positionIds ?? []).flatMap(piecesOf);
  if (pieces.length <= rows) {
    const packed = unpad(device, inputs, past, sizes);
    return { ...packed, rows, [Symbol.dispose]: () => packed.batch[Symbol.dispose]() };
  }
  const cut = <T>(all: readonly (readonly T[])[]) =>
    pieces.map(({ row, from, to }) => (all[row] ?? []).slice(from, to));
  const { batch } = unpad(
    device,
    { inputIds: cut(inputIds), positionIds: cut(positionIds!), tokenTypeIds: tokenTypeIds && cut(tokenTypeIds) },
    past,
    sizes,
  );
  const width = Math.max(...inputIds.map((row) => row.length));
  const places = pieces.flatMap(({ row, from, to }) =>
    Array.from({ length: to - from }, (_, i) => row * width + from + i)
  );
  return { batch, places, width, rows, [Symbol.dispose]: () => batch[Symbol.dispose]() };
}

/** Where the sequences of a row begin and end: at each position that is not after the one before it. */
function piecesOf(positions: readonly number[], row: number): { row: number; from: number; to: number }[] {
  const starts = positions.keys().filter((i) => i === 0 || positions[i]! <= positions[i - 1]!).toArray();
  return starts.map((from, n) => ({ row, from, to: starts[n + 1] ?? positions.length }));
}
