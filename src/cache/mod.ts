/**
 * Caches of keys and values, and the packed batches that they attend for.
 *
 * @module
 */
export * from "./batch.ts";
export * from "./cache.ts";
export type { CacheState, LayerState } from "./cache_state.ts";
export {
  CACHE_IMPLEMENTATIONS,
  type CacheNeeds,
  checkCacheChoice,
  isKept,
  type LayerKind,
  makeCache,
  restoreCache,
} from "./choose_cache.ts";
export * from "./cross_cache.ts";
export * from "./dynamic_cache.ts";
export * from "./encoder_decoder_cache.ts";
export * from "./hybrid_cache.ts";
export { KvCache } from "./kv_cache.ts";
export { LayeredCache } from "./layered_cache.ts";
export type { CacheDtype, CachePass, LayerStore, PackedKv, StoreSpec } from "./layer_store.ts";
export type { LegacyCache } from "./legacy.ts";
export type { ContiguousStore } from "./contiguous_store.ts";
export type { OffloadedStore } from "./offloaded_store.ts";
export type { OffloadSlot, OffloadSlots } from "./offload_slots.ts";
export type { QuantizedPass } from "./quantized_store.ts";
export type { RingShape } from "./rings.ts";
export * from "./mamba_cache.ts";
export * from "./no_cache.ts";
export * from "./offloaded_cache.ts";
export * from "./paged_cache.ts";
export * from "./quantized_cache.ts";
export type { QuantizedCacheConfig } from "./quantized_config.ts";
export * from "./sink_cache.ts";
export { SlidingWindowCache, type SlidingWindowCacheOptions } from "./sliding_window_cache.ts";
export * from "./static_cache.ts";
export type { PackedProjection } from "../ops/qkv_rope.ts";
export type { CacheProperties } from "./properties.ts";
