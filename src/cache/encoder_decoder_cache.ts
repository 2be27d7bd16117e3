import type { Tensor } from "../tensor/mod.ts";
import type { Batch } from "./batch.ts";
import type { AttentionOptions, Cache, HeadShape, KvPlace } from "./cache.ts";
import { ValueError } from "../errors.ts";
import { CrossCache } from "./cross_cache.ts";
import { DynamicCache } from "./dynamic_cache.ts";
import { KvCache } from "./kv_cache.ts";

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
  /** Keys of the encoder's states. */
  readonly crossAttentionCache: CrossCache;

  /**
   * A cache of two parts, which it owns.
   *
   * @param cross a cache of any kind: what it holds is taken over, as nothing is ever added to it or taken from it
   */
  constructor(
    /** Keys of the decoder's tokens. */
    readonly selfAttentionCache: Cache,
    cross: CrossCache | KvCache,
  ) {
    this.crossAttentionCache = cross instanceof CrossCache ? cross : CrossCache.of(cross);
  }

  /**
   * A cache of what {@linkcode EncoderDecoderCache.toLegacyCache} gave: keys and values of the decoder, and of the encoder
   * where they are there. The tensors are copied.
   *
   * @param past of each layer two or four tensors [B, H, S, Dh]
   * @param lengths decoder tokens of each sequence. Default: S for all
   * @param crossLengths encoder tokens of each sequence. Default: S for all
   */
  static fromLegacyCache(
    past?: readonly (readonly Tensor[])[] | null,
    lengths?: readonly number[],
    crossLengths?: readonly number[],
  ): EncoderDecoderCache {
    const pairs = (from: number) =>
      (past ?? []).flatMap(({ [from]: k, [from + 1]: v }) => k && v ? [[k, v] as const] : []);
    const cross = CrossCache.of(DynamicCache.fromLegacyCache(pairs(2), crossLengths));
    return new EncoderDecoderCache(DynamicCache.fromLegacyCache(pairs(0), lengths), cross);
  }

  /**
   * Of each layer the decoder's keys and values, and the encoder's: [B, H, S, Dh] each.
   *
   * @throws {ValueError} if the decoder's part holds no keys
   */
  toLegacyCache(): Tensor[][] {
    const { selfAttentionCache: own, crossAttentionCache: cross } = this;
    if (!(own instanceof KvCache)) {
      throw new ValueError(
        `Cannot give the layers as the decoder's part must hold keys: it is a ${own.constructor.name}`,
      );
    }
    return own.toLegacyCache().map((pair, layer) => [...pair, ...cross.isUpdated(layer) ? cross.at(layer) : []]);
  }

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

  /** Whether the decoder's part has a fixed capacity. */
  get isStatic(): boolean {
    return this.selfAttentionCache.isStatic === true;
  }

  /** Whether tokens of the decoder's part can be taken back. */
  get croppable(): boolean {
    return this.selfAttentionCache.croppable !== false;
  }

  /** Whether the window of the decoder's part moves by whole passes. */
  get movesByPass(): boolean {
    return this.selfAttentionCache.movesByPass === true;
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

  /** Forgets both parts, keeps their memory. */
  reset(): void {
    this.selfAttentionCache.reset();
    this.crossAttentionCache.reset();
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
