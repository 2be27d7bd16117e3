import type { Tensor } from "../tensor/mod.ts";
import type { Batch } from "./batch.ts";
import type { AttentionOptions, Cache, HeadShape, KvPlace } from "./cache.ts";
import type { CrossCache } from "./cross_cache.ts";

/**
 * The cache of an encoder-decoder: the decoder's own keys in a cache of any kind, and those of the encoder's states, which
 * are filled once and then only read.
 *
 * Source: Transformers' `EncoderDecoderCache`.
 *
 * @example
 * ```ts
 * import { CrossCache, DynamicCache, EncoderDecoderCache } from "@tensaur/tensaur";
 * using cache = new EncoderDecoderCache(new DynamicCache(), new CrossCache());
 * console.log(cache.crossAttentionCache.isUpdated(0)); // false
 * ```
 */
export class EncoderDecoderCache implements Cache {
  /** A cache of two parts, which it owns. */
  constructor(
    /** Keys of the decoder's tokens. */
    readonly selfAttentionCache: Cache,
    /** Keys of the encoder's states. */
    readonly crossAttentionCache: CrossCache,
  ) {}

  /** Decoder tokens of each sequence. */
  get lengths(): readonly number[] {
    return this.selfAttentionCache.lengths;
  }

  /** Bytes on the GPU. */
  get byteLength(): number {
    return this.selfAttentionCache.byteLength + this.crossAttentionCache.byteLength;
  }

  /** Changes whenever the buffers of either part do. */
  get generation(): number {
    return this.selfAttentionCache.generation + this.crossAttentionCache.generation;
  }

  /** Whether the decoder's part can be recorded. */
  get replayable(): boolean {
    return this.selfAttentionCache.replayable !== false;
  }

  /** Tokens that the decoder's part can take before it is asked for room again. */
  horizon(): number {
    return this.selfAttentionCache.horizon?.() ?? Infinity;
  }

  /** Decoder tokens of the longest sequence. */
  getSeqLength(): number {
    return Math.max(0, ...this.lengths);
  }

  /** Makes room for decoder tokens. */
  reserve(size: number, tokens: readonly number[]): void {
    this.selfAttentionCache.reserve(size, tokens);
  }

  /** Attends over the decoder's own keys. */
  attend(layer: number, q: Tensor, k: Tensor, v: Tensor, batch: Batch, options: AttentionOptions): Tensor {
    return this.selfAttentionCache.attend(layer, q, k, v, batch, options);
  }

  /** Where the decoder's keys go. */
  place(layer: number, shape: HeadShape, batch: Batch, options: AttentionOptions): KvPlace | undefined {
    return this.selfAttentionCache.place?.(layer, shape, batch, options);
  }

  /** The batch as the decoder's part wants it seen. */
  prepare(batch: Batch, rotary: boolean): Batch {
    return this.selfAttentionCache.prepare?.(batch, rotary) ?? batch;
  }

  /** Counts the batch's tokens on the GPU. */
  advance(batch: Batch): void {
    this.selfAttentionCache.advance(batch);
  }

  /** Counts tokens on the host. */
  advanced(tokens: readonly number[]): void {
    this.selfAttentionCache.advanced(tokens);
  }

  /** Keeps only the first decoder tokens; the encoder's stay. */
  crop(lengths: readonly number[]): void {
    this.selfAttentionCache.crop(lengths);
  }

  /** Makes sequence b what sequence `rows[b]` was, in both parts. */
  reorder(rows: readonly number[]): void {
    this.selfAttentionCache.reorder(rows);
    this.crossAttentionCache.batchSelectIndices(rows);
  }

  /** The same, with fewer sequences or more. */
  batchSelectIndices(rows: readonly number[]): void {
    this.selfAttentionCache.batchSelectIndices(rows);
    this.crossAttentionCache.batchSelectIndices(rows);
  }

  /** An independent copy. */
  fork(): EncoderDecoderCache {
    return new EncoderDecoderCache(this.selfAttentionCache.fork(), this.crossAttentionCache.fork());
  }

  /** Forgets both parts. */
  reset(): void {
    this.selfAttentionCache.reset();
    this.crossAttentionCache[Symbol.dispose]();
  }

  /** Disposes of `resource` with the cache. */
  keepWith(resource: Disposable): void {
    this.selfAttentionCache.keepWith?.(resource);
  }

  /** Returns the memory of both parts. */
  [Symbol.dispose](): void {
    this.selfAttentionCache[Symbol.dispose]();
    this.crossAttentionCache[Symbol.dispose]();
  }
}
