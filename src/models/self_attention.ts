/**
 * Attention of a layer over its own projection: what every family does between its first linear layer and its second.
 *
 * @module
 */
import type { AttentionOptions } from "../cache/mod.ts";
import { mul, qkvRope, type QkvRopeOptions } from "../ops/mod.ts";
import { canStoreKv, qkvRopeStore } from "../ops/qkv_rope.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { Pass } from "./family.ts";

/**
 * Splits, rotates and stores `qkv` [T, (H + 2·Hkv)·Dh], and attends; keys and values go straight into the cache where it
 * says where.
 *
 * @returns [T, H·Dh]
 */
export function selfAttention(
  pass: Pass,
  layer: number,
  qkv: Tensor,
  heads: QkvRopeOptions,
  options: AttentionOptions,
): Tensor {
  const o = attend(pass, layer, qkv, heads, options);
  const mask = pass.headMask?.[layer]; // a factor of a head's probabilities is one of its result
  return mask ? mul(o, mask) : o;
}

function attend(
  { batch, cache, table }: Pass,
  layer: number,
  qkv: Tensor,
  heads: QkvRopeOptions,
  options: AttentionOptions,
): Tensor {
  const place = canStoreKv(qkv.device, heads, table) ? cache.place?.(layer, heads, batch, options) : undefined;
  if (place) {
    const q = qkvRopeStore(qkv, table, batch.positions, heads, place.into, batch.cuSeqlens); // [T, H, Dh]
    return place.attend(q).reshape([batch.total, -1]);
  }
  const { q, k, v } = qkvRope(qkv, table, batch.positions, heads); // [T, H | Hkv | Hkv, Dh]
  const rotary = table && { table, interleaved: heads.interleaved };
  return cache.attend(layer, q, k, v, batch, { ...options, rotary }).reshape([batch.total, -1]);
}
