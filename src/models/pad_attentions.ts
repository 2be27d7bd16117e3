import type { Unpadded } from "../cache/mod.ts";
import { keep, type Tensor, tensor } from "../tensor/mod.ts";

/** Where the tokens of each row stand in it. */
export interface Columns {
  /** [B] of the columns of a row's tokens. */
  of: readonly (readonly number[])[];
  /** Columns of every row. */
  width: number;
}

/** Where a packed batch's tokens stood in the caller's rows. */
export function columnsOf({ batch, places, width }: Unpadded): Columns {
  let end = 0;
  return { of: batch.lengths.map((n) => places.slice(end, end += n).map((place) => place % width)), width };
}

/** Columns of rows that begin at once and have these lengths, as many as `width`. */
export function inOrder(lengths: readonly number[], width: number): Columns {
  return { of: lengths.map((n) => Array.from({ length: Math.min(n, width) }, (_, i) => i)), width };
}

/**
 * Attention probabilities of packed tokens as those of padded rows.
 *
 * @param packed [H, T, K], of which a row's keys come first
 * @param factors a factor a head, which a head mask sets
 * @returns [B, H, queries.width, keys.width]; zero at padded places
 */
export function placeAttentions(
  packed: Float32Array,
  [H = 0, T = 0, K = 0]: readonly number[],
  queries: Columns,
  keys: Columns,
  factors?: readonly number[],
): Float32Array {
  const to = new Float32Array(queries.of.length * H * queries.width * keys.width);
  for (let h = 0; h < H; h++) {
    let from = h * T * K;
    for (const [b, rows] of queries.of.entries()) {
      for (const row of rows) {
        const target = ((b * H + h) * queries.width + row) * keys.width;
        for (const [j, column] of keys.of[b]!.entries()) to[target + column] = packed[from + j]! * (factors?.[h] ?? 1);
        from += K;
      }
    }
  }
  return to;
}

/**
 * Each layer's attention probabilities as {@linkcode placeAttentions} gives them, by way of the host: they are for looking
 * at. Disposes of the packed ones.
 *
 * @param layers [H, T, K] each
 * @param keysOf where the K keys go
 * @param factors [layers] of a factor a head
 * @returns [B, H, queries, keys] each
 */
export async function padAttentions(
  layers: readonly Tensor[],
  queries: Columns,
  keysOf: (keys: number) => Columns,
  factors?: readonly (readonly number[])[],
): Promise<Tensor[]> {
  using _ = disposer(layers);
  const all = await Promise.all(layers.map((layer) => layer.read()));
  return layers.map(({ device, shape }, i) => {
    const keys = keysOf(shape[2]!);
    const data = placeAttentions(all[i] as Float32Array, shape, queries, keys, factors?.[i]);
    return keep(device, tensor(device, data, [queries.of.length, shape[0]!, queries.width, keys.width]));
  });
}

function disposer(tensors: readonly Tensor[]): DisposableStack {
  const stack = new DisposableStack();
  for (const t of tensors) stack.use(t);
  return stack;
}
