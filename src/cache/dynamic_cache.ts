import { ValueError } from "../errors.ts";
import { type CacheDtype, KvCache } from "./kv_cache.ts";
import type { LegacyCache } from "./legacy.ts";
import type { CacheProperties } from "./properties.ts";

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
  /** What it is good for. */
  static readonly properties: CacheProperties = {
    memoryEfficient: false,
    compile: false,
    initRecommended: false,
    latency: "mid",
    longContext: false,
  };
  /** An empty cache. */
  constructor({ dtype = "float32" }: DynamicCacheOptions = {}) {
    super(dtype);
  }

  /**
   * A cache of what {@linkcode KvCache.toLegacyCache} gave; empty without. The tensors are copied.
   *
   * @param past keys and values of each layer, [B, Hkv, S, Dh], float32 or float16
   * @param lengths tokens of each sequence, where some are shorter than S. Default: S for all
   */
  static fromLegacyCache(past?: LegacyCache | null, lengths?: readonly number[]): DynamicCache {
    const first = past?.[0]?.[0];
    if (!past || !first) return new DynamicCache();
    const cache = new DynamicCache({ dtype: first.dtype === "float16" ? "float16" : "float32" });
    cache.adopt(past, lengths ?? Array<number>(first.shape[0]!).fill(first.shape[2]!));
    return cache;
  }

  /**
   * The sequences of several caches in one: what {@linkcode KvCache.batchSplit} took apart. The parts stay.
   *
   * @throws {ValueError} without parts, or if they have not the same layers
   */
  static fromBatchSplits(splits: readonly DynamicCache[]): DynamicCache {
    const [first] = splits;
    if (!first || splits.some(({ layers }) => layers !== first.layers)) {
      throw new ValueError(
        `Cannot join caches as there must be some, of the same layers: theirs are ${splits.map((c) => c.layers)}`,
      );
    }
    const cache = new DynamicCache({ dtype: first.dtype });
    cache.join(splits);
    return cache;
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
