/**
 * How one layer's keys and values lie: what the kinds of caches differ in.
 *
 * @module
 */
import { attention, attentionWeights, type CachedKeyValues, type KeyValues } from "../ops/attention.ts";
import { qkvAttention } from "../ops/qkv_attention.ts";
import { type PackedProjection, qkvRopeStore } from "../ops/qkv_rope.ts";
import type { Device } from "../gpu/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { Batch } from "./batch.ts";
import type { LayerState } from "./cache_state.ts";
import type { AttentionOptions } from "./cache.ts";
import type { OffloadedStore } from "./offloaded_store.ts";
import type { OffloadSlots } from "./offload_slots.ts";
import type { QuantizedPass } from "./quantized_store.ts";
import type { RingShape } from "./rings.ts";

/** Dtypes that keys and values can be kept in. */
export type CacheDtype = "float32" | "float16";

/** What a store is made for. */
export interface StoreSpec {
  /** Where it lies. */
  readonly device: Device;
  /** B: sequences. */
  readonly size: number;
  /** Tokens that a sequence can have. */
  readonly capacity: number;
  /** Key and value heads. */
  readonly kvHeads: number;
  /** Length of a head. */
  readonly headDim: number;
  /** What it keeps. */
  readonly dtype: CacheDtype;
}

/** One forward pass, as the stores of a cache see it. */
export interface CachePass {
  /** The batch; its `cuSeqlens` and `lengths` are read. */
  readonly batch: Pick<Batch, "cuSeqlens" | "lengths" | "size">;
  /** [B] uint32: tokens that each sequence has in the cache, on the GPU. */
  readonly past: Tensor;
  /** The same on the host. */
  readonly lengths: readonly number[];
  /** What a ring shows to the batch: [(2 + pages) · B] uint32. */
  ring(shape: RingShape): Tensor;
  /** Where there are pages: the counts and pages of the batch, [(2 + P) · B] uint32. */
  pages?(): Tensor;
  /** Where keys are quantized: how many are. */
  quantized?(): QuantizedPass;
  /** Where layers lie in host memory: the device buffers, and the layer after `store`, where it is known. */
  offload?(store: OffloadedStore): { slots: OffloadSlots; next?: OffloadedStore };
}

/** Keys and values [T, Hkv, Dh] of sequences end to end. */
export interface PackedKv {
  /** Keys. */
  k: Tensor;
  /** Values. */
  v: Tensor;
}

/** Keys and values of one layer. */
export interface LayerStore extends Disposable {
  /** What it was made for. */
  readonly spec: StoreSpec;
  /** Bytes on the GPU, as the pool counts them. */
  readonly byteLength: number;
  /** Stores k and v [T, Hkv, Dh] float32, and attends with q [T, H, Dh]. */
  attend(q: Tensor, k: Tensor, v: Tensor, pass: CachePass, options: AttentionOptions): Tensor;
  /** Stores k and v [T, Hkv, Dh] float32 behind the tokens that are there. */
  append(k: Tensor, v: Tensor, pass: CachePass): void;
  /** As `attend`, of a projection whose parts are not made yet: they are written where they stay. */
  attendProjected?(projection: PackedProjection, pass: CachePass, options: AttentionOptions): Tensor;
  /** Tokens that can be read of sequences of these lengths, where that is not all. */
  held?(lengths: readonly number[]): readonly number[];
  /** The `reach` for `crop` of a sequence of `length` of which only the tokens that can be read were stored. */
  reachOf?(length: number): number;
  /** What is there of sequences of these lengths, in the store's dtype. */
  contents(lengths: readonly number[]): PackedKv;
  /** Where `contents` are not the keys that the model made: all it holds, for a file; the tensors are its own. */
  state?(): LayerState;
  /** Takes what `state` gave; it is empty, and copies the tensors. */
  restore?(state: LayerState): void;
  /** A store of `capacity` whose sequences are `rows` of this one. */
  copy(rows: readonly number[], lengths: readonly number[], capacity: number): LayerStore;
  /**
   * Forgets all but the first `lengths[b]` tokens of each sequence, which had up to `reach[b]` since it began; throws
   * before it changes anything.
   */
  crop?(lengths: readonly number[], reach: readonly number[]): void;
}

/** Attends, and gives the probabilities where they are asked for. `keys` of the longest sequence, this batch's included. */
export function attendOver(
  q: Tensor,
  kv: KeyValues,
  { batch, lengths }: Pick<CachePass, "batch" | "lengths">,
  { weights, relativeBias: bias }: AttentionOptions,
): Tensor {
  if (weights) {
    const longest = Math.max(...batch.lengths.map((n, b) => n + (lengths[b] ?? 0)));
    weights.push(attentionWeights(q, kv, batch.cuSeqlens, longest, { bias }));
  }
  return attention(q, kv, batch.cuSeqlens, { bias });
}

/** The same of a projection whose keys and values `kv` does not have yet. */
export function attendProjected(
  projection: PackedProjection,
  kv: CachedKeyValues,
  pass: Pick<CachePass, "batch" | "lengths">,
  options: AttentionOptions,
): Tensor {
  const { cuSeqlens, lengths } = pass.batch, { qkv, table, positions } = projection;
  if (options.weights) {
    using q = qkvRopeStore(qkv, table, positions, projection, kv, cuSeqlens);
    return attendOver(q, kv, pass, options);
  }
  const single = lengths.every((n) => n === 1);
  return qkvAttention(projection, kv, cuSeqlens, { bias: options.relativeBias, single });
}

/** Bytes of the pool's buffers that these tensors have to themselves. */
export function bytesOf(...tensors: readonly (Tensor | undefined)[]): number {
  return tensors.reduce((sum, t) => sum + (t?.buffer.size ?? 0), 0);
}

/** Rows of `[B, Hkv, slots, Dh]`, in the order of packed tokens: `slot(b, i)` is where token i of sequence b lies. */
export function packedRows(
  { kvHeads, capacity }: Pick<StoreSpec, "kvHeads" | "capacity">,
  lengths: readonly number[],
  slot: (sequence: number, token: number) => number = (_, i) => i,
): Uint32Array {
  const rows = new Uint32Array(kvHeads * lengths.reduce((sum, n) => sum + n, 0));
  let at = 0;
  for (const [b, n] of lengths.entries()) {
    for (let i = 0; i < n; i++) {
      for (let h = 0; h < kvHeads; h++) rows[at++] = (b * kvHeads + h) * capacity + slot(b, i);
    }
  }
  return rows;
}
