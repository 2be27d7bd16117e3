/**
 * Attention of a layer over its own projection: what every family does before its output projection.
 *
 * @module
 */
import type { AttentionOptions } from "../cache/mod.ts";
import { mul, qkvRope, type QkvRopeOptions } from "../ops/mod.ts";
import { canStoreKv } from "../ops/qkv_rope.ts";
import type { Fusion, Linear } from "../quantization/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { Pass } from "./family.ts";

/** How a layer's input becomes queries, keys and values: a linear layer whose outputs are all three, and their heads. */
export interface Projection extends QkvRopeOptions {
  /** D -> (H + 2·Hkv)·Dh. */
  qkv: Linear;
  /** What is done to the input before. */
  norm?: Fusion["norm"];
}

/**
 * Projects `x` [T, D], rotates, stores and attends in as few kernels as the cache and the heads allow: keys and values go
 * straight into the cache where it says where, and an encoder's projection writes its three parts apart.
 *
 * @returns [T, H·Dh]
 */
export function selfAttention(
  pass: Pass,
  layer: number,
  x: Tensor,
  projection: Projection,
  options: AttentionOptions,
): Tensor {
  const o = attend(pass, layer, x, projection, options);
  const mask = pass.headMask?.[layer]; // a factor of a head's probabilities is one of its result
  return mask ? mul(o, mask) : o;
}

function attend(
  { batch, cache, table }: Pass,
  layer: number,
  x: Tensor,
  projection: Projection,
  options: AttentionOptions,
): Tensor {
  const { qkv, norm, heads, kvHeads, headDim, qNorm } = projection;
  const flat = [batch.total, heads * headDim] as const;
  const place = canStoreKv(x.device, projection, table) ? cache.place?.(layer, projection, batch, options) : undefined;
  if (place) {
    const y = qkv.forward(x, { norm }); // [T, (H + 2·Hkv)·Dh]
    return place.attend({ ...projection, qkv: y, table, positions: batch.positions }).reshape(flat);
  }
  const aligned = 4 * batch.total * heads * headDim % x.device.limits.minStorageBufferOffsetAlignment === 0;
  if (heads === kvHeads && aligned && !table && !qNorm) {
    const parts = qkv.forward(x, { norm, parts: 3 }); // [3, T, H·Dh]
    const [q, k, v] = [0, 1, 2].map((i) => parts.rows(i, i + 1).reshape([batch.total, heads, headDim]));
    return cache.attend(layer, q!, k!, v!, batch, options).reshape(flat);
  }
  const y = qkv.forward(x, { norm }); // [T, (H + 2·Hkv)·Dh]
  const { q, k, v } = qkvRope(y, table, batch.positions, projection); // [T, H | Hkv | Hkv, Dh]
  const rotary = table && { table, interleaved: projection.interleaved }; // a cache with sinks turns these keys further
  return cache.attend(layer, q, k, v, batch, { ...options, rotary }).reshape(flat);
}
