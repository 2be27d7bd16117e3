/**
 * The interface of caches: a cache knows how its keys lie, so it attends (architecture.md, decision 2).
 *
 * @module
 */
import type { Device } from "../gpu/mod.ts";
import type { PackedProjection } from "../ops/qkv_rope.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { Batch } from "./batch.ts";
import type { CacheState } from "./cache_state.ts";
import type { CrossCache } from "./cross_cache.ts";

/** How a layer attends. */
export interface AttentionOptions {
  /** Factor of the scores: `1 / sqrt(Dh)` in most models. */
  scale: number;
  /** A token sees no later token. */
  causal: boolean;
  /** A token sees only the last `window` tokens, itself included. */
  window?: number;
  /** Scores become `softcap · tanh(score / softcap)`. */
  softcap?: number;
  /** [2·M + 1, H] float32: added to the scores by the key's place less its query's, from -M to M; farther ones get the last. */
  relativeBias?: Tensor;
  /** If given, the layer's attention probabilities [H, T, S] are pushed here. */
  weights?: Tensor[];
  /** How the keys were rotated, for caches that turn them further. */
  rotary?: Rotary;
}

/** How keys were rotated. */
export interface Rotary {
  /** [P, 2, rotaryDim / 2] float32: cosines, then sines; it reaches every position of the batch. */
  table: Tensor;
  /** Pairs are (2i, 2i + 1) instead of (i, i + rotaryDim / 2). */
  interleaved?: boolean;
}

/** Sizes of a layer's heads. */
export interface HeadShape {
  /** Query heads. */
  heads: number;
  /** Key and value heads. */
  kvHeads: number;
  /** Length of a head. */
  headDim: number;
}

/** A layer's keys and values of one batch, which the kernels that make them write where they stay. */
export interface KvPlace {
  /** Makes queries, keys and values of `projection`, whose rows are the batch's tokens, and attends as `attend` does. */
  attend(projection: PackedProjection): Tensor;
}

/** Keys and values of all layers. */
export interface Cache extends Disposable {
  /** Tokens that each sequence has in the cache. */
  readonly lengths: readonly number[];
  /** Bytes on the GPU, control buffers included: those that the device's pool counts. */
  readonly byteLength: number;
  /** Changes whenever the cache's buffers do: what was recorded against other buffers must not be replayed. */
  readonly generation: number;
  /** False where a pass writes from the host or reads what is known there only: its steps must not be recorded. */
  readonly replayable?: boolean;
  /** The decoder's own part, where the cache is an encoder-decoder's. */
  readonly selfAttentionCache?: Cache;
  /** Keys of an encoder's states, where the cache is an encoder-decoder's. */
  readonly crossAttentionCache?: CrossCache;
  /** Optional: its capacity was fixed when it was made. Default false. */
  readonly isStatic?: boolean;
  /** Optional: how many tokens more each row may get before the cache must be asked for room again. Default: any number. */
  horizon?(): number;
  /** False where tokens cannot be taken back: `crop` then takes all lengths as they are, or zeros. */
  readonly croppable?: boolean;
  /** True where a pass of several tokens sees less than single steps would: its window moves by the whole pass. */
  readonly movesByPass?: boolean;
  /** Optional: [B, I, K], the last inputs of the convolution of a state-space layer; the layer changes them. */
  convStates?(device: Device, layer: number): Tensor;
  /** Optional: [B, I, N], the states of a state-space layer; the layer changes them. */
  ssmStates?(device: Device, layer: number): Tensor;
  /** Makes room for `tokens` more in each sequence of a batch of `size`, before anything of them is written. */
  reserve(size: number, tokens: readonly number[]): void;
  /** Stores k and v [T, Hkv, Dh] of `layer`, and attends with q [T, H, Dh] over all keys; returns [T, H, Dh]. */
  attend(layer: number, q: Tensor, k: Tensor, v: Tensor, batch: Batch, options: AttentionOptions): Tensor;
  /**
   * Optional: `attend` for a projection whose parts are not made yet, so that keys and values of `layer` are written to
   * the cache as they are made and dispatches are saved. Undefined, or no such method, where they lie in another order or
   * more has to be done to them than to round them to float16 (quantized or wrapped caches): models then call `attend`.
   * After a `place`, exactly one of its `attend` and the cache's is called.
   */
  place?(layer: number, shape: HeadShape, batch: Batch, options: AttentionOptions): KvPlace | undefined;
  /**
   * Optional: the batch as the model must see it, with positions of the cache's own; called at the start of a pass.
   * `rotary`: the model rotates its keys by their positions.
   */
  prepare?(batch: Batch, rotary: boolean): Batch;
  /** Records that every layer has stored the batch: on the GPU its tokens count from then on. */
  advance(batch: Batch): void;
  /** The same on the host, each time the pass is submitted: a recording may be replayed. */
  advanced(tokens: readonly number[]): void;
  /** Keeps only the first `lengths[b]` tokens of each sequence. */
  crop(lengths: readonly number[]): void;
  /** Makes sequence b what sequence `rows[b]` was. */
  reorder(rows: readonly number[]): void;
  /** The same, but there may be fewer sequences than before, or more. */
  batchSelectIndices(rows: readonly number[]): void;
  /** An independent copy. */
  fork(): Cache;
  /** Forgets all tokens, keeps the memory. */
  reset(): void;
  /** Optional: all that it holds, where it cannot be had as keys and values; the tensors are the cache's own. */
  readonly state?: CacheState;
  /** Disposes of `resource` when it is disposed of itself, as recordings against its buffers must be. */
  keepWith?(resource: Disposable): void;
}
