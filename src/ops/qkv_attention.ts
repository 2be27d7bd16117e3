/**
 * Attention from the projection on: keys and values go into the cache and are attended over.
 *
 * @module
 */
import { empty, type Tensor } from "../tensor/mod.ts";
import { attention, type AttentionCall, type CachedKeyValues, choiceFor } from "./attention.ts";
import { checkAttention } from "./attention_checks.ts";
import type { AttentionChoice } from "./attention_choice.ts";
import { launchAttention } from "./attention_launch.ts";
import { expectStore, type PackedProjection, qkvRopeStore } from "./qkv_rope.ts";

/** What a call of {@linkcode qkvAttention} says beyond the layout. */
export interface QkvAttentionCall extends AttentionCall {
  /** Every sequence has exactly one token: a decode step. Default false. */
  single?: boolean;
}

const BUFFERS = 9; // that the one kernel binds

/**
 * `qkvRopeStore`, then `attention`: of one token a sequence in one kernel, which turns queries and keys as it reads them,
 * where heads have no norms of their own and a workgroup has all heads of a key.
 *
 * @param projection `qkv` [T, (H + 2·Hkv)·Dh] float32, and how it is split and rotated
 * @param kv the cache, whose keys and values are changed: they get those of the batch behind the `past` ones
 * @param cuSeqlens [B + 1] uint32: sequence b is the tokens from `cuSeqlens[b]` to `cuSeqlens[b + 1]`
 * @returns [T, H, Dh] float32
 * @throws as `qkvRopeStore` and `attention`
 */
export function qkvAttention(
  projection: PackedProjection,
  kv: CachedKeyValues,
  cuSeqlens: Tensor,
  { single = false, ...call }: QkvAttentionCall = {},
): Tensor {
  const { qkv, table, positions, heads, headDim } = projection, { device } = qkv;
  const T = expectStore("qkvAttention", projection, kv, cuSeqlens);
  const q = { shape: [T, heads, headDim], dtype: "float32" as const, device };
  const sizes = checkAttention("qkvAttention", { q, kv, cuSeqlens, bias: call.bias });
  const { choice, keys } = choiceFor(device, sizes, kv, call);
  if (!single || T !== sizes.B || call.bias || !isOneKernel(projection, choice)) {
    using q = qkvRopeStore(qkv, table, positions, projection, kv, cuSeqlens);
    return attention(q, kv, cuSeqlens, call);
  }
  const o = empty(device, q.shape);
  launchAttention({ q: qkv, fresh: { table, positions }, kv, cuSeqlens }, choice, keys, o);
  return o;
}

function isOneKernel(
  { qkv, table, heads, kvHeads, headDim, qNorm, interleaved }: PackedProjection,
  { body, pack }: AttentionChoice,
): boolean {
  const tiled = (body === "subgroup" || body === "workgroup") && pack === heads / kvHeads;
  const inFours = headDim % 4 === 0 && (table?.shape.at(-1) ?? 0) % 4 === 0 && !(table && interleaved);
  return tiled && inFours && !qNorm && qkv.device.limits.maxStorageBuffersPerShaderStage >= BUFFERS;
}
