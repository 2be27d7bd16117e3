/**
 * Keys and values as padded tensors: the form that Transformers gave before caches were classes.
 *
 * @module
 */
import { ShapeError } from "../errors.ts";
import { cast } from "../ops/cast.ts";
import { gatherRows } from "../ops/gather_rows.ts";
import { scatterRows } from "../ops/scatter_rows.ts";
import { type Tensor, tensor, tidy } from "../tensor/mod.ts";
import { type CachePass, type LayerStore, type PackedKv, packedRows } from "./layer_store.ts";

/** Keys and values of each layer, [B, Hkv, S, Dh]. */
export type LegacyCache = readonly (readonly [key: Tensor, value: Tensor])[];

/** What `store` holds of sequences of these lengths, padded with zeros at the end. */
export function paddedKv(
  store: Pick<LayerStore, "spec" | "contents" | "held">,
  lengths: readonly number[],
): [Tensor, Tensor] {
  const { device, kvHeads, headDim } = store.spec;
  const held = store.held?.(lengths) ?? lengths, S = Math.max(0, ...held);
  const rows = packedRows({ kvHeads, capacity: S }, held);
  return tidy(device, () => {
    const { k, v } = store.contents(lengths);
    const index = tensor(device, rows, [rows.length], "uint32");
    const padded = (t: Tensor) => {
      const flat = scatterRows(t.reshape([-1, headDim]), index, lengths.length * kvHeads * S);
      return flat.reshape([lengths.length, kvHeads, S, headDim]);
    };
    return [padded(k), padded(v)] satisfies [Tensor, Tensor];
  });
}

/** Puts `lengths[b]` tokens of k and v [B, Hkv, S, Dh], from `from[b]` on, behind what `store` holds. */
export function appendPadded(
  store: LayerStore,
  k: Tensor,
  v: Tensor,
  passOf: (batch: CachePass["batch"]) => CachePass,
  lengths: readonly number[],
  from: readonly number[],
): void {
  const { device, kvHeads, headDim } = store.spec;
  const [, , S = 0] = k.shape;
  const fits = (t: Tensor) => t.shape.length === 4 && `${t.shape}` === `${[lengths.length, kvHeads, S, headDim]}`;
  if (!fits(k) || !fits(v) || Math.max(...lengths) > S) {
    throw new ShapeError(
      `Cannot fill the cache as keys and values must be [${lengths.length}, ${kvHeads}, S, ${headDim}] with ` +
        `S at least ${Math.max(...lengths)}: current shapes are [${k.shape}] and [${v.shape}]`,
    );
  }
  const rows = packedRows({ kvHeads, capacity: S }, lengths, (b, i) => from[b]! + i);
  tidy(device, () => {
    const index = tensor(device, rows, [rows.length], "uint32");
    const packed = (t: Tensor) => {
      const taken = gatherRows(cast(t, "float32").reshape([-1, headDim]), index);
      return taken.reshape([rows.length / kvHeads, kvHeads, headDim]);
    };
    appendPacked(store, { k: packed(k), v: packed(v) }, passOf, lengths);
  });
}

/** Puts packed keys and values of any dtype, `lengths[b]` tokens of each sequence, behind what `store` holds. */
export function appendPacked(
  store: LayerStore,
  { k, v }: PackedKv,
  passOf: (batch: CachePass["batch"]) => CachePass,
  lengths: readonly number[],
): void {
  const { device } = store.spec, size = lengths.length;
  const starts = lengths.reduce((sums, n) => [...sums, sums.at(-1)! + n], [0]);
  tidy(device, () => {
    const cuSeqlens = tensor(device, starts, [size + 1], "uint32");
    const wide = (t: Tensor) => t.dtype === "float32" ? t : cast(t, "float32");
    store.append(wide(k), wide(v), passOf({ cuSeqlens, lengths, size }));
  });
}
