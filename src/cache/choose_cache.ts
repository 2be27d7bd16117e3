/**
 * Which cache `cacheImplementation` names, and for which models and options it can be had.
 *
 * @module
 */
import { ModelFormatError, ValueError } from "../errors.ts";
import type { Device } from "../gpu/mod.ts";
import type { Cache } from "./cache.ts";
import type { CacheState } from "./cache_state.ts";
import { DynamicCache } from "./dynamic_cache.ts";
import { HybridCache } from "./hybrid_cache.ts";
import type { CacheDtype } from "./layer_store.ts";
import { MambaCache, type MambaCacheOptions } from "./mamba_cache.ts";
import { OffloadedCache, OffloadedStaticCache } from "./offloaded_cache.ts";
import { PagedCache } from "./paged_cache.ts";
import { QuantizedCache } from "./quantized_cache.ts";
import { SinkCache } from "./sink_cache.ts";
import { SlidingWindowCache } from "./sliding_window_cache.ts";
import { StaticCache } from "./static_cache.ts";

/** What a layer remembers: everything, a window, or a state. */
export type LayerKind = "full" | "sliding" | "recurrent";

/** What a cache is made for. */
export interface CacheNeeds {
  /** What each layer remembers: all that a model family says about caches. */
  readonly layerKinds: readonly LayerKind[];
  /** Sizes of the layers that keep states. */
  readonly states?: MambaCacheOptions;
  /** The window of the sliding layers. */
  readonly slidingWindow?: number;
  /** What keys and values are stored in. */
  readonly dtype: CacheDtype;
  /** Most tokens that a sequence will have. */
  readonly maxCacheLen: number;
}

interface Kind {
  make(needs: CacheNeeds, config: Readonly<Record<string, unknown>>): Cache;
  /** Whether it takes a `cacheConfig`. */
  configured?: boolean;
  /** The same cache can serve the next generation. */
  kept?: boolean;
}

const WINDOWED =
  "Setting `cacheImplementation` to 'sliding_window' requires the model config supporting sliding window attention, " +
  "please check if there is a `sliding_window` field in the model config and it's not set to None.";

const KINDS: Readonly<Record<string, Kind>> = {
  dynamic: { make: ({ dtype }) => new DynamicCache({ dtype }) },
  static: { make: ({ dtype, maxCacheLen }) => new StaticCache({ dtype, maxCacheLen }), kept: true },
  offloaded: { make: ({ dtype }) => new OffloadedCache({ dtype }) },
  offloaded_static: { make: ({ dtype, maxCacheLen }) => new OffloadedStaticCache({ dtype, maxCacheLen }), kept: true },
  sliding_window: { make: slidingWindowCache, kept: true },
  hybrid: { make: hybridCache, kept: true },
  mamba: { make: mambaCache, kept: true },
  quantized: { make: ({ dtype }, config) => new QuantizedCache({ dtype, ...config }), configured: true },
  paged: { make: ({ dtype }) => new PagedCache({ dtype }) },
};

/** The names that `cacheImplementation` takes. */
export const CACHE_IMPLEMENTATIONS: readonly string[] = Object.keys(KINDS);

/**
 * Checks the name and the config of a cache, before any is made.
 *
 * @throws {ValueError} if there is no such cache, or it takes no config
 */
export function checkCacheChoice(implementation: string | null, config: unknown): void {
  const kind = implementation === null ? undefined : KINDS[implementation];
  if (implementation !== null && !(kind && Object.hasOwn(KINDS, implementation))) {
    throw new ValueError(
      `Invalid \`cacheImplementation\` (${implementation}). Choose one of: [${
        CACHE_IMPLEMENTATIONS.map((name) => `'${name}'`).join(", ")
      }]`,
    );
  }
  if (config === null || config === undefined || kind?.configured) return;
  throw new ValueError(
    "You provided a `cacheConfig` but the cache implementation you are using " +
      `(${implementation ?? "None"}) does not require any config. Make sure to use the correct cache implementation ` +
      "matching your cache config.",
  );
}

/** Whether a cache of this name is kept for the next generation. */
export function isKept(implementation: string): boolean {
  return KINDS[implementation]?.kept ?? false;
}

/**
 * A cache by its name.
 *
 * @throws {ValueError} if the model cannot have it, or the config is wrong
 *
 * @example
 * ```ts
 * import { makeCache } from "@tensaur/tensaur";
 * const needs = { layerKinds: ["full"], dtype: "float32", maxCacheLen: 64 } as const;
 * using cache = makeCache("static", needs);
 * console.log(cache.lengths); // []
 * ```
 */
export function makeCache(
  implementation: string,
  needs: CacheNeeds,
  config: Readonly<Record<string, unknown>> = {},
): Cache {
  checkCacheChoice(implementation, Object.keys(config).length ? config : null);
  const recurrent = needs.layerKinds.includes("recurrent");
  if (recurrent && implementation !== "mamba") {
    throw new ValueError(
      `This model does not support \`cacheImplementation='${implementation}'\`: its layers keep states, not keys. ` +
        "These models only accept their own dedicated cache classes.",
    );
  }
  return KINDS[implementation]!.make(needs, config);
}

const RESTORE: Readonly<Record<string, (state: CacheState, device: Device) => Cache>> = {
  sink: SinkCache.restore,
  quantized: QuantizedCache.restore,
  mamba: MambaCache.restore,
};

/**
 * A cache of the `state` of another; the tensors are copied.
 *
 * @throws {ModelFormatError} if there is no such kind, or the tensors are not what the rest says
 */
export function restoreCache(state: CacheState, device: Device): Cache {
  if (Object.hasOwn(RESTORE, state.kind)) return RESTORE[state.kind]!(state, device);
  throw new ModelFormatError(
    `Cannot restore the cache as its kind must be one of ${Object.keys(RESTORE).join(", ")}: it is ${state.kind}`,
  );
}

function slidingWindowCache({ slidingWindow, layerKinds, maxCacheLen, dtype }: CacheNeeds): Cache {
  if (!slidingWindow) throw new ValueError(WINDOWED);
  if (layerKinds.every((kind) => kind === "sliding")) {
    return new SlidingWindowCache({ slidingWindow, maxCacheLen, dtype });
  }
  throw new ValueError(
    "Cannot make a SlidingWindowCache as every layer must see the window alone: some of this model's see everything",
    { hint: 'Use cacheImplementation: "hybrid".' },
  );
}

function hybridCache({ slidingWindow, maxCacheLen, dtype }: CacheNeeds): Cache {
  if (!slidingWindow) throw new ValueError(WINDOWED);
  return new HybridCache({ maxCacheLen, dtype });
}

function mambaCache({ states }: CacheNeeds): Cache {
  if (states) return new MambaCache(states);
  throw new ValueError(
    "Setting `cacheImplementation` to 'mamba' requires a model whose layers keep states: this model's layers keep keys.",
  );
}
