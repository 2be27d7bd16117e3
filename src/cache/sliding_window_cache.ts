import { ValueError } from "../errors.ts";
import { type CacheDtype, KvCache } from "./kv_cache.ts";
import type { LayerStore, StoreSpec } from "./layer_store.ts";
import { ringShape } from "./rings.ts";
import { RingStore } from "./ring_store.ts";
import { type CacheProperties, FIXED } from "./properties.ts";

/** What a {@linkcode SlidingWindowCache} takes. */
export interface SlidingWindowCacheOptions {
  /** Tokens that a token sees, itself included: `sliding_window` of config.json. */
  slidingWindow: number;
  /** A bound on the sequences, where they stay shorter than the window. Default: none. */
  maxCacheLen?: number;
  /** What keys and values are stored in. Default "float32". */
  dtype?: CacheDtype;
}

/** Capacity of caches whose slots go round: sequences may be of any length. */
export const ENDLESS: number = 2 ** 31 - 1;

/**
 * A cache for models whose tokens all see a sliding window: it keeps the window and 64 tokens more, in slots that are used
 * in turn, so that memory and time do not grow with the length generated. Up to 64 tokens can be cropped.
 *
 * Source: Transformers' `SlidingWindowCache`.
 *
 * @throws {ValueError} if `slidingWindow` is not a whole number from 1
 *
 * @example
 * ```ts
 * import { SlidingWindowCache } from "@tensaur/tensaur";
 * using cache = new SlidingWindowCache({ slidingWindow: 4096 });
 * console.log(cache.getMaxCacheShape()); // 4096
 * ```
 */
export class SlidingWindowCache extends KvCache {
  /** What it is good for. */
  static readonly properties: CacheProperties = FIXED;
  /** Tokens that a token sees. */
  readonly slidingWindow: number;
  readonly #options: SlidingWindowCacheOptions;

  /** An empty cache. */
  constructor(options: SlidingWindowCacheOptions) {
    super(options.dtype ?? "float32");
    this.#options = options;
    this.slidingWindow = Math.min(options.slidingWindow, options.maxCacheLen ?? Infinity);
    expectCount("SlidingWindowCache", "slidingWindow", this.slidingWindow);
  }

  /** The window. */
  override getMaxCacheShape(): number {
    return this.slidingWindow;
  }

  /** A sequence may have any length. */
  protected override room(): number {
    return ENDLESS;
  }

  /** A ring. */
  protected override newStore(spec: StoreSpec): LayerStore {
    return new RingStore(spec, ringShape(this.slidingWindow));
  }

  /** A new, empty cache of the same kind. */
  protected override another(): KvCache {
    return new SlidingWindowCache(this.#options);
  }
}

/** Checks that `value` is a whole number from `least`. */
export function expectCount(kind: string, name: string, value: unknown, least = 1): void {
  if (Number.isSafeInteger(value) && value as number >= least) return;
  throw new ValueError(
    `Cannot make a ${kind} as ${name} must be a whole number from ${least}: current value is ${value}`,
  );
}
