import { type CacheDtype, KvCache } from "./kv_cache.ts";

/** What a {@linkcode DynamicCache} takes. */
export interface DynamicCacheOptions {
  /** What keys and values are stored in. Default "float32". */
  dtype?: CacheDtype;
}

/**
 * A cache that grows with its sequences: room doubles when it is used up, so that a token is copied twice at most on
 * average.
 *
 * Source: Transformers' `DynamicCache`.
 *
 * @example
 * ```ts
 * import { DynamicCache } from "@tensaur/tensaur";
 * using cache = new DynamicCache({ dtype: "float16" });
 * console.log(cache.lengths); // []: it learns its shape from the first batch
 * ```
 */
export class DynamicCache extends KvCache {
  /** An empty cache. */
  constructor({ dtype = "float32" }: DynamicCacheOptions = {}) {
    super(dtype);
  }

  /** How much room the buffers get. */
  protected override room(tokens: number, capacity: number): number {
    return Math.max(Math.ceil(tokens / 64) * 64, 2 * capacity);
  }

  /** A new, empty cache of the same kind. */
  protected override another(): KvCache {
    return new DynamicCache({ dtype: this.dtype });
  }
}
