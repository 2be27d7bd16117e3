/**
 * Caches by name: those of a fixed size are kept with the model, and serve its next generation.
 *
 * @module
 */
import { type Cache, type CacheNeeds, checkCacheChoice, isKept, type LayerKind, makeCache } from "../cache/mod.ts";
import { ValueError } from "../errors.ts";
import type { Model } from "../models/mod.ts";
import { warn } from "../warn.ts";
import type { LentCache } from "./compile.ts";
import type { ResolvedOptions } from "./options.ts";
import { cacheFor } from "./prompts.ts";

interface Kept {
  name: string;
  size: number;
  maxCacheLen: number;
  cache: Cache;
  lent: boolean;
}

const kept = new WeakMap<Model, Kept>();

/**
 * Checks the options that choose a cache.
 *
 * @throws {ValueError} if they exclude each other, or name no cache
 */
export function checkCacheOptions({ cache, cacheImplementation, cacheConfig, useCache }: ResolvedOptions): void {
  checkCacheChoice(cacheImplementation, cacheConfig);
  if (cacheImplementation === null) return;
  if (cache) {
    throw new ValueError(
      "Passing both `cacheImplementation` (used to initialize certain caches) and `cache` (a Cache object) is " +
        "unsupported. Please use only one of the two.",
    );
  }
  if (useCache) return;
  warn(
    "UserWarning",
    `You have set \`useCache\` to \`false\`, but cacheImplementation is set to ${cacheImplementation}. ` +
      "cacheImplementation will have no effect.",
  );
}

/**
 * The cache that the options name, for `size` rows of up to `length` tokens; undefined where they name none.
 *
 * @throws {ValueError} if the model cannot have it
 */
export function namedCache(model: Model, o: ResolvedOptions, size: number, length: number): LentCache | undefined {
  const { cacheImplementation: name, cacheConfig, useCache, assistantModel, returnDictInGenerate } = o;
  if (name === null || !useCache) return undefined;
  if (assistantModel && name !== "dynamic") {
    warn("UserWarning", `An assistant model is provided, using a dynamic cache instead of a cache of type='${name}'.`);
    return undefined;
  }
  const make = () => cacheFor(model, makeCache(name, needsOf(model, length), cacheConfig ?? {}));
  if (!isKept(name) || returnDictInGenerate) return plain(make()); // what the caller gets is not kept
  const known = kept.get(model);
  if (known?.lent) return plain(make()); // two generations at once
  const fits = known?.name === name && known.size === size && known.maxCacheLen >= length;
  const entry = fits ? known : { name, size, maxCacheLen: length, cache: make(), lent: false };
  if (known && !fits) known.cache[Symbol.dispose]();
  if (!known) model.keepWith({ [Symbol.dispose]: () => kept.get(model)?.cache[Symbol.dispose]() });
  kept.set(model, entry);
  entry.lent = true;
  return { cache: entry.cache, [Symbol.dispose]: () => giveBack(model, entry) };
}

/** What the layers of a model need of a cache. */
export function needsOf(model: Model, maxCacheLen: number): CacheNeeds {
  const { attention, states } = model.sizes;
  const layerKinds = attention.map(({ window }): LayerKind => states ? "recurrent" : window ? "sliding" : "full");
  const slidingWindow = attention.find(({ window }) => window)?.window;
  return { layerKinds, states, slidingWindow, dtype: model.cacheDtype, maxCacheLen };
}

function plain(cache: Cache): LentCache {
  return { cache, [Symbol.dispose]: () => cache[Symbol.dispose]() };
}

/** Empties a cache that stays as it was made; one whose rows a search has changed is made anew. */
function giveBack(model: Model, entry: Kept): void {
  entry.lent = false;
  if (model.device.guard.error || entry.cache.lengths.length === entry.size) {
    if (!model.device.guard.error) entry.cache.reset();
    return;
  }
  entry.cache[Symbol.dispose]();
}
