import { type Cache, CrossCache, DynamicCache, EncoderDecoderCache, MambaCache, NoCache } from "../cache/mod.ts";
import type { CacheDtype } from "../cache/mod.ts";
import type { ModelParts } from "./model_parts.ts";

/** A new cache for a model: of states, of two parts, or of keys, as its layers want. */
export function newCacheOf({ config: { states }, family: { encoder } }: ModelParts, dtype: CacheDtype): Cache {
  if (states) return new MambaCache(states);
  const cache = new DynamicCache({ dtype });
  return encoder ? new EncoderDecoderCache(cache, new CrossCache(dtype)) : cache;
}

/** What a single pass runs with where the caller gives no cache. */
export function passingCacheOf({ config: { states }, family: { encoder } }: ModelParts, dtype: CacheDtype): Cache {
  if (states) return new MambaCache(states);
  const cache = new NoCache({ dtype });
  return encoder ? new EncoderDecoderCache(cache, new CrossCache(dtype)) : cache;
}
