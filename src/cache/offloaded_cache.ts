import { ValueError } from "../errors.ts";
import { type CacheDtype, KvCache } from "./kv_cache.ts";
import type { CachePass, LayerStore, StoreSpec } from "./layer_store.ts";
import { OffloadedStore } from "./offloaded_store.ts";
import { OffloadSlots } from "./offload_slots.ts";
import { expectCount } from "./sliding_window_cache.ts";
import { type CacheProperties, COMPACT, FIXED } from "./properties.ts";

/** What an {@linkcode OffloadedCache} takes. */
export interface OffloadedCacheOptions {
  /** What keys and values are stored in. Default "float32". */
  dtype?: CacheDtype;
}

/**
 * A growing cache whose layers lie in host memory; the GPU holds two of them at a time, and the next one comes while this
 * one attends. The results are those of `DynamicCache`, to the bit; generation is slower.
 *
 * Source: Transformers' `OffloadedCache`.
 *
 * @example
 * ```ts
 * import { OffloadedCache } from "@tensaur/tensaur";
 * using cache = new OffloadedCache({ dtype: "float16" });
 * console.log(cache.hostBytes); // 0
 * ```
 */
export class OffloadedCache extends KvCache {
  /** What it is good for. */
  static readonly properties: CacheProperties = COMPACT;
  /** Each pass writes keys from the host. */
  readonly replayable = false;
  readonly #slots = new OffloadSlots();

  /** An empty cache. */
  constructor({ dtype = "float32" }: OffloadedCacheOptions = {}) {
    super(dtype);
  }

  /** Bytes on the GPU: two layers, and up to 32 new tokens of each that are not in host memory yet. */
  override get byteLength(): number {
    return super.byteLength + this.#slots.byteLength;
  }

  /** Bytes in host memory. */
  get hostBytes(): number {
    return this.stores.reduce((sum, store) => sum + ((store as OffloadedStore | undefined)?.hostBytes ?? 0), 0);
  }

  /** Returns the memory. */
  override dispose(): void {
    super.dispose();
    this.#slots[Symbol.dispose]();
  }

  /** How much room the layers get. */
  protected override room(tokens: number, capacity: number): number {
    return Math.max(Math.ceil(tokens / 64) * 64, 2 * capacity);
  }

  /** A layer in host memory. */
  protected override newStore(spec: StoreSpec, layer: number): LayerStore {
    if (layer === 0 || this.stores[layer - 1]) return new OffloadedStore(spec);
    throw new ValueError(
      "OffloadedCache does not support model usage where layers are skipped. Use DynamicCache.",
    );
  }

  /** A new, empty cache of the same kind. */
  protected override another(): KvCache {
    return new OffloadedCache({ dtype: this.dtype });
  }

  /** What the stores are told. */
  protected override passFor(batch: CachePass["batch"]): CachePass {
    const pass = super.passFor(batch), slots = this.#slots;
    const offload = (store: OffloadedStore) => {
      const next = this.stores[(this.stores.indexOf(store) + 1) % this.stores.length];
      return { slots, next: next as OffloadedStore | undefined };
    };
    return pass.offload ? pass : Object.assign(pass, { offload });
  }
}

/** What an {@linkcode OffloadedStaticCache} takes. */
export interface OffloadedStaticCacheOptions extends OffloadedCacheOptions {
  /** Most tokens that a sequence can have. */
  maxCacheLen: number;
}

/**
 * An {@linkcode OffloadedCache} of a fixed capacity.
 *
 * Source: Transformers' `OffloadedStaticCache`.
 *
 * @throws {ValueError} if `maxCacheLen` is not a whole number from 1
 *
 * @example
 * ```ts
 * import { OffloadedStaticCache } from "@tensaur/tensaur";
 * using cache = new OffloadedStaticCache({ maxCacheLen: 1024 });
 * console.log(cache.getMaxCacheShape()); // 1024
 * ```
 */
export class OffloadedStaticCache extends OffloadedCache {
  /** What it is good for. */
  static override readonly properties: CacheProperties = { ...FIXED, longContext: true };
  /** Its capacity is fixed. */
  readonly isStatic = true;
  /** Most tokens that a sequence can have. */
  readonly maxCacheLen: number;

  /** An empty cache. */
  constructor({ maxCacheLen, dtype }: OffloadedStaticCacheOptions) {
    super({ dtype });
    expectCount("OffloadedStaticCache", "maxCacheLen", maxCacheLen);
    this.maxCacheLen = maxCacheLen;
  }

  /** Most tokens that a sequence can have. */
  override getMaxCacheShape(): number {
    return this.maxCacheLen;
  }

  /** How much room the layers get. */
  protected override room(): number {
    return this.maxCacheLen;
  }

  /** A new, empty cache of the same kind. */
  protected override another(): KvCache {
    return new OffloadedStaticCache({ maxCacheLen: this.maxCacheLen, dtype: this.dtype });
  }
}
