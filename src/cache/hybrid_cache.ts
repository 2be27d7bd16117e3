import { type CacheDtype, KvCache } from "./kv_cache.ts";
import type { AttentionOptions } from "./cache.ts";
import { ContiguousStore } from "./contiguous_store.ts";
import type { LayerStore, StoreSpec } from "./layer_store.ts";
import { ringShape } from "./rings.ts";
import { RingStore } from "./ring_store.ts";
import { expectCount } from "./sliding_window_cache.ts";

/** What a {@linkcode HybridCache} takes. */
export interface HybridCacheOptions {
  /** Most tokens that a sequence can have. */
  maxCacheLen: number;
  /** What keys and values are stored in. Default "float32". */
  dtype?: CacheDtype;
}

/**
 * A cache of a fixed capacity for models some of whose layers see a sliding window: those keep the window alone. How each
 * layer attends says what it is.
 *
 * Source: Transformers' `HybridCache`.
 *
 * @throws {ValueError} if `maxCacheLen` is not a whole number from 1
 *
 * @example
 * ```ts
 * import { HybridCache } from "@tensaur/tensaur";
 * using cache = new HybridCache({ maxCacheLen: 1024 });
 * console.log(cache.getMaxCacheShape()); // 1024
 * ```
 */
export class HybridCache extends KvCache {
  /** Most tokens that a sequence can have. */
  readonly maxCacheLen: number;

  /** An empty cache. */
  constructor({ maxCacheLen, dtype = "float32" }: HybridCacheOptions) {
    super(dtype);
    expectCount("HybridCache", "maxCacheLen", maxCacheLen);
    this.maxCacheLen = maxCacheLen;
  }

  /** Most tokens that a sequence can have. */
  override getMaxCacheShape(): number {
    return this.maxCacheLen;
  }

  /** How much room the layers that see everything get. */
  protected override room(): number {
    return this.maxCacheLen;
  }

  /** A ring where the layer has a window, else a buffer of the whole capacity. */
  protected override newStore(spec: StoreSpec, _layer: number, options?: AttentionOptions): LayerStore {
    const window = options?.window;
    const shorter = window && ringShape(window).pages * 64 < this.maxCacheLen; // a short cache needs no ring
    return shorter ? new RingStore(spec, ringShape(window)) : new ContiguousStore(spec);
  }

  /** A new, empty cache of the same kind. */
  protected override another(): KvCache {
    return new HybridCache({ maxCacheLen: this.maxCacheLen, dtype: this.dtype });
  }
}
