/**
 * What a user sees of all caches of keys and values: lengths, rows of the batch, and the layers as padded tensors.
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import type { Device } from "../gpu/mod.ts";
import { type Tensor, tensor } from "../tensor/mod.ts";
import type { AttentionOptions, Cache } from "./cache.ts";
import type { CacheState } from "./cache_state.ts";
import { LayeredCache } from "./layered_cache.ts";
import type { CacheDtype, LayerStore, PackedKv } from "./layer_store.ts";
import { appendPacked, appendPadded, type LegacyCache, paddedKv } from "./legacy.ts";

export type { CacheDtype };

/** Keys and values of a model's layers. */
export abstract class KvCache extends LayeredCache implements Cache {
  /** A new, empty cache of the same kind. */
  protected abstract override another(): KvCache;

  /** Layers that hold something. */
  get layers(): number {
    return this.stores.length;
  }

  /** Tokens of the longest sequence in `layer`; 0 where the layer holds nothing. */
  getSeqLength(layer = 0): number {
    return this.stores[layer] ? Math.max(0, ...this.lengths) : 0;
  }

  /** Whether {@linkcode at} gives the keys that a model made, for another cache to go on from. */
  get isExact(): boolean {
    return true;
  }

  /** All that it holds, where it is not exact; undefined where {@linkcode at} says all. The tensors are the cache's own. */
  get state(): CacheState | undefined {
    return undefined;
  }

  /** Most tokens that a sequence can have; null where there is no such bound. */
  getMaxCacheShape(): number | null {
    return null;
  }

  /** As {@linkcode getMaxCacheShape}: the older name. */
  getMaxLength(): number | null {
    return this.getMaxCacheShape();
  }

  /** Tokens that stay usable beside `newTokens` more: all, or what the cache's bound leaves of them. */
  getUsableLength(newTokens: number, layer = 0): number {
    const max = this.getMaxCacheShape(), length = this.getSeqLength(layer);
    return max !== null && length + newTokens > max ? max - newTokens : length;
  }

  /** Tokens seen so far. */
  get seenTokens(): number {
    return this.getSeqLength(0);
  }

  /** Selects sequences: row b becomes what row `rows[b]` was. */
  reorder(rows: readonly number[]): void {
    const size = this.lengths.length;
    if (rows.length !== size || !rows.every((row) => Number.isInteger(row) && row >= 0 && row < size)) {
      throw new ValueError(
        `Cannot reorder the cache as there must be ${size} rows from 0 to ${size - 1}: current value is ${rows}`,
      );
    }
    this.become(rows);
  }

  /** Repeats each sequence `times` times: rows 0, 0, 1, 1, … for 2. */
  batchRepeatInterleave(times: number): void {
    if (!Number.isSafeInteger(times) || times < 1) {
      throw new ValueError(`Cannot repeat the cache's rows as times must be a whole number from 1: it is ${times}`);
    }
    this.become(this.lengths.flatMap((_, b) => Array<number>(times).fill(b)));
  }

  /** Keeps the sequences `rows`, in this order; a row may come more than once. */
  batchSelectIndices(rows: readonly number[]): void {
    this.#expectRows("select rows of the cache", rows);
    this.become(rows);
  }

  /**
   * The cache in parts of `splitSize` sequences each, the last one perhaps shorter; this one stays.
   *
   * @param fullBatchSize must be the number of sequences
   */
  batchSplit(fullBatchSize: number, splitSize: number): KvCache[] {
    const size = this.lengths.length;
    if (fullBatchSize !== size || !Number.isSafeInteger(splitSize) || splitSize < 1) {
      throw new ValueError(
        `Cannot split the cache as its ${size} sequences must go in parts of 1 or more: current values are ` +
          `${fullBatchSize} in parts of ${splitSize}`,
      );
    }
    const starts = Array.from({ length: Math.ceil(size / splitSize) }, (_, i) => i * splitSize);
    return starts.map((start) => this.copyOf(range(start, Math.min(size, start + splitSize))));
  }

  /**
   * Keys and values of `layer`, each [B, Hkv, S, Dh] with S the longest sequence; shorter ones end in zeros.
   *
   * @throws {ValueError} if there is no such layer
   */
  at(layer: number): [key: Tensor, value: Tensor] {
    const store = this.stores[layer];
    if (store) return paddedKv(this.view(store), this.lengths);
    throw new ValueError(
      `Cannot read layer ${layer} as the layer must exist: the cache only has ${this.layers} layers`,
    );
  }

  /** Keys and values of `layer` end to end, [T, Hkv, Dh] in the cache's dtype. */
  packedAt(layer: number): PackedKv {
    return this.view(this.stores[layer]!).contents(this.lengths);
  }

  /** The layers in order, as {@linkcode at} gives them. */
  *[Symbol.iterator](): Generator<[key: Tensor, value: Tensor]> {
    for (let layer = 0; layer < this.layers; layer++) yield this.at(layer);
  }

  /** All layers as `[key, value]`, each [B, Hkv, S, Dh]: the form of before caches were classes. */
  toLegacyCache(): LegacyCache {
    return [...this];
  }

  /**
   * Fills an empty cache: sequences of these lengths, of which each layer has the last tokens that it keeps.
   *
   * @param layers keys and values [B, Hkv, S, Dh], as {@linkcode toLegacyCache} gives them
   * @param optionsOf how each layer attends, for caches whose layers differ by it
   * @throws {ValueError} if the cache has tokens
   * @throws {NotSupportedError} if it can be filled by forward passes only
   */
  adopt(
    layers: LegacyCache,
    lengths: readonly number[],
    optionsOf: (layer: number) => AttentionOptions | undefined = () => undefined,
  ): void {
    if (this.lengths.some((n) => n > 0)) {
      throw new ValueError(`Cannot fill the cache as it must be empty: its sequences have ${this.lengths} tokens`);
    }
    this.reserve(lengths.length, lengths);
    for (const [i, [k, v]] of layers.entries()) {
      const [, kvHeads = 0, S = 0, headDim = 0] = k.shape, { device } = k;
      const store = this.stores[i] ??= this.newStore(this.spec(device, kvHeads, headDim), i, optionsOf(i));
      const held = store.held?.(lengths) ?? lengths, before = lengths.map((n, b) => n - held[b]!);
      const from = S < Math.max(...lengths) ? held.map(() => 0) : before; // all tokens came: a window takes its last ones
      using past = tensor(device, before, [before.length], "uint32");
      appendPadded(store, k, v, (batch) => ({ ...this.passFor(batch), past, lengths: before }), held, from);
    }
    this.setPast(lengths);
    const reachOf = (n: number) => Math.max(n, ...this.stores.map((store) => store?.reachOf?.(n) ?? n));
    this.reach = lengths.map(reachOf);
  }

  /** What every kind of cache says of its state. */
  protected stateOf(kind: string, options: object): CacheState {
    const layers = this.stores.flatMap((store) => store?.state?.() ?? []);
    return { kind, options: { ...options }, lengths: [...this.lengths], reach: [...this.reach], layers };
  }

  /** Takes what {@linkcode KvCache.state} gave; it is empty, and copies the tensors. */
  protected resume({ lengths, reach, layers }: CacheState, device: Device): this {
    if (lengths.length) this.reserve(lengths.length, lengths.map(() => 1));
    try {
      for (const [i, layer] of layers.entries()) {
        const store = this.stores[i] = this.newStore(this.spec(device, layer.kvHeads, layer.headDim), i);
        store.restore!(layer);
      }
      this.setPast(lengths);
      this.reach = [...reach];
      return this;
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** How the contents of a layer are read. */
  protected view(store: LayerStore): Pick<LayerStore, "spec" | "contents" | "held"> {
    return store;
  }

  /** Takes the sequences of `parts` one after the other; this cache is empty. */
  protected join(parts: readonly KvCache[]): void {
    const lengths = parts.flatMap((part) => part.lengths);
    this.reserve(lengths.length, lengths);
    for (const layer of range(0, parts[0]?.layers ?? 0)) {
      let first = 0;
      for (const part of parts) {
        const from = part.stores[layer], size = part.lengths.length;
        const mine = lengths.map((n, b) => b >= first && b < first + size ? n : 0);
        first += size;
        if (!from) continue;
        const { device, kvHeads, headDim } = from.spec;
        const into = this.stores[layer] ??= this.newStore(this.spec(device, kvHeads, headDim), layer);
        appendPacked(into, from.contents(part.lengths), (batch) => this.passFor(batch), mine);
      }
    }
    this.setPast(lengths);
  }

  #expectRows(what: string, rows: readonly number[]): void {
    const size = this.lengths.length;
    if (rows.length > 0 && rows.every((row) => Number.isInteger(row) && row >= 0 && row < size)) return;
    throw new ValueError(`Cannot ${what} as there must be rows from 0 to ${size - 1}: current value is ${rows}`);
  }
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}
