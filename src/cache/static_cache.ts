import { type CacheDtype, KvCache } from "./kv_cache.ts";
import { expectCount } from "./sliding_window_cache.ts";
import { type CacheProperties, FIXED } from "./properties.ts";

/** What a {@linkcode StaticCache} takes. */
export interface StaticCacheOptions {
  /** Most tokens that a sequence can have. */
  maxCacheLen: number;
  /** What keys and values are stored in. Default "float32". */
  dtype?: CacheDtype;
}

/**
 * A cache of a fixed capacity: its buffers never move, so that a recorded decode step can be replayed for ever.
 *
 * Source: Transformers' `StaticCache`.
 *
 * @throws {ValueError} if `maxCacheLen` is not a whole number from 1
 *
 * @example
 * ```ts
 * import { StaticCache } from "@tensaur/tensaur";
 * using cache = new StaticCache({ maxCacheLen: 1024 });
 * console.log(cache.maxCacheLen); // 1024
 * ```
 */
export class StaticCache extends KvCache {
  /** What it is good for. */
  static readonly properties: CacheProperties = FIXED;
  /** Its capacity is fixed. */
  readonly isStatic = true;
  /** Most tokens that a sequence can have. */
  readonly maxCacheLen: number;

  /** An empty cache. */
  constructor({ maxCacheLen, dtype = "float32" }: StaticCacheOptions) {
    super(dtype);
    expectCount("StaticCache", "maxCacheLen", maxCacheLen);
    this.maxCacheLen = maxCacheLen;
  }

  /** Most tokens that a sequence can have. */
  override getMaxCacheShape(): number {
    return this.maxCacheLen;
  }

  /** How much room the buffers get. */
  protected override room(): number {
    return this.maxCacheLen;
  }

  /** A new, empty cache of the same kind. */
  protected override another(): KvCache {
    return new StaticCache({ maxCacheLen: this.maxCacheLen, dtype: this.dtype });
  }
}
