/**
 * The cache of a run: the caller's, or one of its own.
 *
 * @module
 */
import type { Cache } from "../cache/mod.ts";
import type { EncoderDecoderInputs, Model } from "../models/mod.ts";
import { lendCache, type LentCache } from "./compile.ts";
import { type EncoderRecords, recordEncoder } from "./encoder_records.ts";
import { checkCacheOptions, namedCache } from "./kept_caches.ts";
import type { ResolvedOptions } from "./options.ts";
import { fillCross } from "./prompts.ts";
import type { Rows } from "./rows.ts";
import type { Strategy } from "./strategies/choose_strategy.ts";
import type { Start } from "./strategies/start.ts";

/**
 * Makes a cache ready for a run, and leaves it as promised however the run ends: one sequence a row, holding each row
 * but its last token; after a beam search, the prompts.
 */
export class HeldCache implements AsyncDisposable {
  /** What the strategy gets. */
  readonly start: Start;
  /** How many tokens of each row the cache shall hold at the end. */
  keeps: number[];
  /** What was asked for of the encoder. */
  readonly encoded: Promise<EncoderRecords> = Promise.resolve({});
  /** Whether the run came to its end. */
  finished = false;
  readonly #lent: LentCache | undefined;

  /** Of a run of `strategy`, each prompt coming `copies` times. */
  constructor(
    { model, strategy, rows, o, copies, encoder }: {
      model: Model;
      strategy: Strategy;
      rows: Rows;
      o: ResolvedOptions;
      copies: number;
      encoder?: EncoderDecoderInputs;
    },
  ) {
    const plain = strategy === "greedy" || strategy === "sample";
    const longest = Math.max(...rows.prompts.map((row) => row.length));
    checkCacheOptions(o);
    const size = rows.prompts.length, length = longest + o.newTokens;
    const lends = plain && !o.cache && !o.returnDictInGenerate && o.cacheImplementation === null;
    this.#lent = lends ? lendCache(model, size, length) : namedCache(model, o, size, length);
    const cache = o.cache ?? this.#lent?.cache ?? model.newCache();
    this.start = { model, rows, o, cache, encoder, owned: new DisposableStack() };
    this.keeps = rows.prompts.map((row) => row.length);
    try {
      if (cache.lengths.length) this.#goOn(strategy, copies);
      if (encoder) {
        this.encoded = recordEncoder(model, cache, encoder, o);
        fillCross(model, cache, encoder, copies);
      }
    } catch (error) {
      if (!o.cache) (this.#lent ?? cache)[Symbol.dispose]();
      throw error;
    }
  }

  /** Makes a cache that holds something ready to go on from. */
  #goOn(strategy: Strategy, copies: number): void {
    const { rows, cache } = this.start;
    if (strategy === "contrastive") cache.reset(); // it looks at the hidden states of all tokens
    if (copies > 1 && cache.lengths.length * copies === rows.prompts.length) {
      cache.batchSelectIndices(rows.prompts.map((_, r) => Math.floor(r / copies)));
    }
    // a cache that holds whole prompts gives back their last tokens: something must run
    if (cache.lengths.length === rows.prompts.length) this.#crop(rows.prompts.map((row) => row.length - 1));
  }

  /** The cache, where the caller gets it. */
  get given(): { cache?: Cache } {
    const { o, cache } = this.start;
    return o.useCache && (o.cache || o.returnDictInGenerate) ? { cache } : {};
  }

  /** Ends the run. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { model, rows, cache, o, owned } = this.start;
    owned.dispose();
    await Promise.allSettled([this.encoded]);
    const own = !o.cache && !(this.finished && this.given.cache);
    try {
      if (model.device.guard.error) return;
      await model.device.stream.settled();
      if (own) return;
      const each = cache.lengths.length / rows.prompts.length;
      if (each > 1) cache.batchSelectIndices(rows.prompts.map((_, b) => b * each));
      this.#crop(this.keeps);
    } finally {
      if (own) (this.#lent ?? cache)[Symbol.dispose]();
    }
  }

  #crop(lengths: readonly number[]): void {
    const { cache } = this.start;
    if (cache.lengths.length && cache.croppable !== false) {
      cache.crop(cache.lengths.map((n, b) => Math.min(n, lengths[b]!)));
    }
  }
}
