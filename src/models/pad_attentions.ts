import type { Unpadded } from "../cache/mod.ts";
import { keep, type Tensor, tensor } from "../tensor/mod.ts";

/**
 * Attention probabilities of packed tokens as those of the padded rows, by way of the host: they are for looking at.
 *
 * @param packed [H, T, keys] float32
 * @param past tokens that each sequence had before; where there are none, keys stand where their tokens do in the rows
 * @param factors a factor a head, which a head mask sets
 * @returns [B, H, S, S] float32, or [B, H, S, keys] after a past; zero at padded places
 */
export async function padAttentions(
  packed: Tensor,
  { batch, places, width }: Unpadded,
  past: readonly number[],
  factors?: readonly number[],
): Promise<Tensor> {
  const [H = 0, T = 0, keys = 0] = packed.shape;
  const from = await packed.read();
  const cached = past.some((n) => n > 0), columns = cached ? keys : width;
  const to = new Float32Array(batch.size * H * width * columns);
  const starts = batch.lengths.map((_, b) => batch.lengths.slice(0, b).reduce((sum, n) => sum + n, 0));
  for (let h = 0; h < H; h++) {
    for (let t = 0; t < T; t++) {
      const b = Math.floor(places[t]! / width), row = places[t]! % width;
      const source = (h * T + t) * keys, target = ((b * H + h) * width + row) * columns;
      const seen = (past[b] ?? 0) + batch.lengths[b]!;
      for (let j = 0; j < seen; j++) {
        const column = cached ? j : places[starts[b]! + j]! % width;
        to[target + column] = from[source + j]! * (factors?.[h] ?? 1);
      }
    }
  }
  return keep(packed.device, tensor(packed.device, to, [batch.size, H, width, columns]));
}
