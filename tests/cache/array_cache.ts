/** A cache of plain arrays: what the caches of the library must equal. */
import { type Cache, type KvCache, packBatch } from "../../src/cache/mod.ts";
import type { Device } from "../../src/gpu/mod.ts";
import { attentionReference } from "../../src/ops/attention.ts";
import { keep, tensor, tidy } from "../../src/tensor/mod.ts";
import { randn } from "../helpers.ts";

/** Shape of what is cached, and how it is attended to. */
export interface Geometry {
  layers: number;
  heads: number;
  kvHeads: number;
  dim: number;
  scale: number;
  window?: number;
  /** Only the first `staying` keys and the last ones are seen, `length` with the batch's own. */
  sinks?: { staying: number; length: number };
}

/** What a step reads back: its attention output, layer after layer, and what that must be. */
export interface Attended {
  got: Promise<ArrayLike<number>>[];
  want: Float32Array[];
}

type Rows = Float32Array[][]; // [B][tokens], each [Hkv · Dh]

/** Keys and values of each layer and sequence, in arrays. */
export class ArrayCache {
  /** Of each layer. */
  readonly keys: Rows[];
  /** Of each layer. */
  readonly values: Rows[];

  constructor(readonly geometry: Geometry, readonly round: (x: number) => number, rows: number) {
    const empty = () => Array.from({ length: geometry.layers }, () => Array.from({ length: rows }, () => []));
    this.keys = empty();
    this.values = empty();
  }

  get lengths(): number[] {
    return this.keys[0]!.map((row) => row.length);
  }

  /** Replaces each layer's rows. */
  #change(fn: (rows: Rows) => Rows): void {
    for (const layers of [this.keys, this.values]) layers.forEach((rows, i) => layers[i] = fn(rows));
  }

  crop(lengths: readonly number[]): void {
    this.#change((rows) => rows.map((row, b) => row.slice(0, lengths[b])));
  }

  reorder(order: readonly number[]): void {
    this.#change((rows) => order.map((b) => [...rows[b]!]));
  }

  fork(): ArrayCache {
    const copy = new ArrayCache(this.geometry, this.round, this.keys[0]!.length);
    for (const [i, rows] of this.keys.entries()) copy.keys[i] = rows.map((row) => [...row]);
    for (const [i, rows] of this.values.entries()) copy.values[i] = rows.map((row) => [...row]);
    return copy;
  }

  #seen(rows: Float32Array[]): Float32Array[] {
    const { sinks } = this.geometry;
    if (!sinks || rows.length <= sinks.length) return rows;
    return [...rows.slice(0, sinks.staying), ...rows.slice(sinks.staying - sinks.length)];
  }

  /** Stores k and v [T, Hkv, Dh] and attends with q [T, H, Dh]. */
  attend(
    layer: number,
    q: Float32Array,
    k: Float32Array,
    v: Float32Array,
    lengths: readonly number[],
    window = this.geometry.window ?? Infinity,
  ): Float32Array {
    const { heads, kvHeads, dim, scale } = this.geometry;
    const o = new Float32Array(q.length), width = kvHeads * dim;
    let start = 0;
    for (const [b, n] of lengths.entries()) {
      const allKeys = this.keys[layer]![b]!, allValues = this.values[layer]![b]!;
      for (let t = start; t < start + n; t++) {
        allKeys.push(k.slice(t * width, (t + 1) * width).map(this.round));
        allValues.push(v.slice(t * width, (t + 1) * width).map(this.round));
      }
      const [keys, values] = [allKeys, allValues].map((rows) => this.#seen(rows)) as [Float32Array[], Float32Array[]];
      const past = keys.length - n;
      for (let h = 0; h < heads; h++) {
        const g = Math.floor(h * kvHeads / heads) * dim;
        const queries = Float32Array.from({ length: n * dim }, (_, i) => {
          return q[((start + Math.floor(i / dim)) * heads + h) * dim + i % dim]!;
        });
        const head = (rows: Float32Array[]) => Float32Array.from(rows.flatMap((row) => [...row.slice(g, g + dim)]));
        const sees = (i: number) => [Math.max(0, past + i + 1 - window), past + i + 1] as const;
        const out = attentionReference(queries, head(keys), head(values), dim, scale, sees);
        out.forEach((x, i) => o[((start + Math.floor(i / dim)) * heads + h) * dim + i % dim] = x);
      }
      start += n;
    }
    return o;
  }
}

/** Runs `lengths` random tokens through both caches. */
export function step(
  device: Device,
  cache: KvCache | Cache,
  model: ArrayCache,
  lengths: number[],
  seed: number,
  windowOf: (layer: number) => number | undefined = () => model.geometry.window,
): Attended {
  const { layers, heads, kvHeads, dim, scale } = model.geometry;
  const total = lengths.reduce((sum, n) => sum + n, 0);
  cache.reserve(lengths.length, lengths); // throws before anything happens
  const positions = lengths.flatMap((n, b) => Array.from({ length: n }, (_, i) => model.lengths[b]! + i));
  using batch = packBatch(device, Array(total).fill(0), positions, lengths);
  const result: Attended = { got: [], want: [] };
  tidy(device, () => {
    for (let layer = 0; layer < layers; layer++) {
      const [q, k, v] = [heads, kvHeads, kvHeads].map((h, i) => randn(total * h * dim, seed + 10 * layer + i));
      const put = (data: Float32Array, h: number) => tensor(device, data, [total, h, dim]);
      const window = windowOf(layer), options = { scale, causal: true, window };
      const o = cache.attend(layer, put(q!, heads), put(k!, kvHeads), put(v!, kvHeads), batch, options);
      result.got.push(keep(device, o).read().finally(() => o.dispose()));
      result.want.push(model.attend(layer, q!, k!, v!, lengths, window));
    }
  });
  cache.advance(batch);
  cache.advanced(lengths);
  return result;
}
