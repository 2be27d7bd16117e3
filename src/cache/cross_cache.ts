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

interface CrossLayer extends PackedKv {
  geometry?: Tensor;
  /** False after a reset: the memory waits for keys of the same lengths. */
  filled: boolean;
}

/** Keys and values of an encoder's states, packed: filled once a layer, then only read. */
export class CrossCache implements Disposable {
  readonly #layers: (CrossLayer | undefined)[] = [];
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
    return this.#layers.filter((layer) => layer?.filled).length;
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
    return this.layers ? this.#lengths : [];
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
    return this.#layers[layer]?.filled ?? false;
  }

  /**
   * Keeps k and v [T, Hkv, Dh] of sequences of these lengths; after a {@linkcode CrossCache.reset} in the memory of before,
   * where the lengths are the same.
   */
  fill(layer: number, k: Tensor, v: Tensor, lengths: readonly number[]): void {
    if (this.isUpdated(layer)) {
      throw new ValueError(`Cannot fill layer ${layer} as it must be empty: the encoder's keys are filled once`);
    }
    this.#setLengths(lengths);
    this.#origins = [...lengths.keys()];
    const known = this.#layers[layer];
    if (known && `${known.k.shape}` === `${k.shape}`) {
      for (const [from, to] of [[k, known.k], [v, known.v]] as const) {
        using same = cast(from, this.dtype);
        to.device.stream.copy(same.buffer.gpu, same.byteOffset, to.buffer.gpu, to.byteOffset, to.byteLength);
      }
      known.filled = true;
      return;
    }
    using made = new DisposableStack();
    const take = (t: Tensor) => made.use(keep(t.device, cast(t, this.dtype)));
    const fresh = { k: take(k), v: take(v), filled: true };
    made.move(); // nothing failed: they are the layer's
    if (known) this.#forget(known);
    this.#layers[layer] = fresh;
  }

  /** Attends with q [T, H, Dh] over all keys of each sequence; returns [T, H, Dh]. */
  attend(layer: number, q: Tensor, batch: Batch, options: Omit<AttentionOptions, "causal">): Tensor {
    const filled = this.#layers[layer];
    if (!filled?.filled) {
      throw new ValueError(`Cannot attend to the encoder as layer ${layer} must be filled: it is empty`);
    }
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
      if (!layer?.filled) continue;
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
      if (layer?.filled) tidy(layer.k.device, () => copy.fill(i, layer.k, layer.v, this.#lengths));
    }
    return copy;
  }

  /** Forgets everything, keeps the memory: what was recorded against it serves the next states of the same lengths. */
  reset(): void {
    for (const layer of this.#layers) if (layer) layer.filled = false;
  }

  /** Forgets everything. */
  [Symbol.dispose](): void {
    for (const layer of this.#layers.splice(0)) if (layer) this.#forget(layer);
    this.#setLengths([]);
  }

  #forget({ k, v, geometry }: CrossLayer): void {
    for (const t of [k, v, geometry]) t?.dispose();
    this.#generation++;
  }

  #setLengths(lengths: readonly number[]): void {
    const same = lengths.length === this.#lengths.length && lengths.every((n, b) => n === this.#lengths[b]);
    if (same) return;
    this.#lengths = [...lengths];
    this.#generation++;
    this.#starts?.dispose();
    this.#starts = undefined;
  }
}
