import { ValueError } from "../errors.ts";
import { kvLayout } from "../ops/attention.ts";
import { cast } from "../ops/cast.ts";
import { keep, type Tensor, tensor, tidy } from "../tensor/mod.ts";
import type { Batch } from "./batch.ts";
import type { AttentionOptions } from "./cache.ts";
import type { KvCache } from "./kv_cache.ts";
import { attendOver, bytesOf, type CacheDtype, type PackedKv } from "./layer_store.ts";
import { paddedKv } from "./legacy.ts";
import { selectPacked, startsOf } from "./packed_rows.ts";

/** Keys and values of an encoder's states, packed: filled once a layer, then only read. */
export class CrossCache implements Disposable {
  readonly #layers: (PackedKv & { geometry?: Tensor } | undefined)[] = [];
  #lengths: number[] = [];
  #origins: number[] = []; // which of the sequences that were filled each one is
  #starts: Tensor | undefined;
  #generation = 0;

  /** An empty cache that stores keys and values as `dtype`. */
  constructor(
    /** Dtype of keys and values. */
    readonly dtype: CacheDtype = "float32",
  ) {}

  /** What `cache` holds, of any kind: it is read once, in its dtype, and disposed of. */
  static of(cache: KvCache): CrossCache {
    using source = cache;
    const cross = new CrossCache(source.dtype), { lengths } = source;
    for (const layer of Array(source.layers).keys()) {
      const { k, v } = source.packedAt(layer);
      tidy(k.device, () => cross.fill(layer, k, v, lengths));
      k.dispose();
      v.dispose();
    }
    return cross;
  }

  /** Layers that are filled. */
  get layers(): number {
    return this.#layers.length;
  }

  /** Keys and values of `layer`, each [B, Hkv, S, Dh] with S the longest sequence; shorter ones end in zeros. */
  at(layer: number): [key: Tensor, value: Tensor] {
    const { k, v } = this.#layers[layer]!,
      { device } = k,
      [, kvHeads = 0, headDim = 0] = k.shape,
      size = this.#lengths.length;
    const spec = { device, size, kvHeads, headDim, capacity: Math.max(0, ...this.#lengths), dtype: this.dtype };
    return paddedKv({ spec, contents: () => ({ k: k.reshape(k.shape), v: v.reshape(v.shape) }) }, this.#lengths);
  }

  /** Encoder tokens of each sequence. */
  get lengths(): readonly number[] {
    return this.#lengths;
  }

  /** Bytes on the GPU. */
  get byteLength(): number {
    return bytesOf(this.#starts, ...this.#layers.flatMap((l) => [l?.k, l?.v, l?.geometry]));
  }

  /** Changes whenever the buffers do. */
  get generation(): number {
    return this.#generation;
  }

  /** Whether the keys of `layer` are there. */
  isUpdated(layer: number): boolean {
    return this.#layers[layer] !== undefined;
  }

  /** Keeps k and v [T, Hkv, Dh] of sequences of these lengths. */
  fill(layer: number, k: Tensor, v: Tensor, lengths: readonly number[]): void {
    if (this.isUpdated(layer)) {
      throw new ValueError(`Cannot fill layer ${layer} as it must be empty: the encoder's keys are filled once`);
    }
    const take = (t: Tensor) => keep(t.device, cast(t, this.dtype));
    this.#layers[layer] = { k: take(k), v: take(v) };
    this.#setLengths(lengths);
    this.#origins = [...lengths.keys()];
  }

  /** Attends with q [T, H, Dh] over all keys of each sequence; returns [T, H, Dh]. */
  attend(layer: number, q: Tensor, batch: Batch, options: Omit<AttentionOptions, "causal">): Tensor {
    const filled = this.#layers[layer];
    if (!filled) throw new ValueError(`Cannot attend to the encoder as layer ${layer} must be filled: it is empty`);
    const { device } = q, [, kvHeads = 0, headDim = 0] = filled.k.shape;
    const strides = { sequenceStride: 0, headStride: headDim, keyStride: kvHeads * headDim };
    filled.geometry ??= keep(
      device,
      kvLayout(device, { heads: q.shape[1]!, kvHeads, ...options, causal: false, ...strides }),
    );
    this.#starts ??= keep(device, tensor(device, startsOf(this.#lengths), [this.#lengths.length + 1], "uint32"));
    const kv = { k: filled.k, v: filled.v, geometry: filled.geometry, cuSeqlensK: this.#starts };
    const keys = this.#lengths.map((n, b) => n - batch.lengths[b]!); // with the queries: the longest encoder row
    return attendOver(q, kv, { batch, lengths: keys }, { ...options, causal: false });
  }

  /** Selects sequences; there may be more or fewer of them afterwards. */
  batchSelectIndices(rows: readonly number[]): void {
    const lengths = rows.map((row) => this.#lengths[row]!), origins = rows.map((row) => this.#origins[row]!);
    // beams of one row all see the same states
    if (origins.length === this.#origins.length && origins.every((n, b) => n === this.#origins[b])) return;
    this.#origins = origins;
    for (const layer of this.#layers) {
      if (!layer) continue;
      const [k, v] = [layer.k, layer.v].map((t) => keep(t.device, selectPacked(t, this.#lengths, rows)));
      layer.k.dispose();
      layer.v.dispose();
      Object.assign(layer, { k, v });
    }
    this.#setLengths(lengths);
    this.#generation++;
  }

  /** An independent copy. */
  fork(): CrossCache {
    const copy = new CrossCache(this.dtype);
    for (const [i, layer] of this.#layers.entries()) {
      if (layer) tidy(layer.k.device, () => copy.fill(i, layer.k, layer.v, this.#lengths));
    }
    return copy;
  }

  /** Forgets everything. */
  [Symbol.dispose](): void {
    for (const layer of this.#layers.splice(0)) for (const t of Object.values(layer ?? {})) t?.dispose();
    this.#setLengths([]);
    this.#generation++;
  }

  #setLengths(lengths: readonly number[]): void {
    const same = lengths.length === this.#lengths.length && lengths.every((n, b) => n === this.#lengths[b]);
    if (same) return;
    this.#lengths = [...lengths];
    this.#starts?.dispose();
    this.#starts = undefined;
  }
}
