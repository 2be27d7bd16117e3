/**
 * One run of a model over a batch of prompts: prefill, and the decode step. All that changes from step to step lives on
 * the GPU, so that a step is recorded once and replayed (architecture.md, decisions 4 and 5).
 *
 * @module
 */
import { type Batch, type Cache, packBatch } from "../cache/mod.ts";
import { throwIfAborted } from "../errors.ts";
import type { Device } from "../gpu/mod.ts";
import type { Recording } from "../gpu/stream.ts";
import type { Model } from "../models/mod.ts";
import { type DecodeBuffers, emitTokens } from "../ops/decode_state.ts";
import { empty, keep, type Tensor, tensor, tidy } from "../tensor/mod.ts";
import { Chooser } from "./chooser.ts";
import type { ResolvedOptions } from "./options.ts";

/** Steps whose tokens the ring holds. */
export const RING = 64;

/** A model, a cache and the GPU state of one generation. */
export class Decoder implements Disposable {
  /** Ids of each row so far, on the host; the loop appends to them. */
  readonly ids: number[][];
  readonly #model: Model;
  readonly #cache: Cache;
  readonly #options: ResolvedOptions;
  readonly #chooser: Chooser;
  readonly #state: DecodeBuffers;
  readonly #fixed: Pick<Batch, "cuSeqlens" | "tokenTypes">;
  readonly #ones: readonly number[];
  #recording: Recording | undefined;
  #generation = -1;

  /** @param rows ids of the prompts, without padding; `cache` may hold a prefix of them */
  constructor(model: Model, rows: readonly (readonly number[])[], cache: Cache, options: ResolvedOptions) {
    const { device } = model, B = rows.length;
    this.ids = rows.map((row) => [...row]);
    this.#model = model;
    this.#cache = cache;
    this.#options = options;
    this.#ones = rows.map(() => 1);
    const put = (data: readonly number[]) => keep(device, tensor(device, data, [data.length], "uint32"));
    const { eosTokenIds, padToken } = options;
    this.#state = {
      tokens: put(rows.map(() => 0)),
      positions: put(rows.map((row) => row.length - 1)),
      done: put(rows.map(() => 0)),
      ring: keep(device, empty(device, [RING, B], "uint32")),
      step: put([0]),
      settings: put([padToken, RING, ...eosTokenIds]),
    };
    this.#fixed = { cuSeqlens: put([0, ...rows.map((_, b) => b + 1)]), tokenTypes: put(rows.map(() => 0)) };
    this.#chooser = new Chooser(device, options, model.sizes.vocabSize, rows, this.#state.step);
  }

  get #device(): Device {
    return this.#model.device;
  }

  /** Reads to keep in flight: one where a read comes early, else as many as hide the 10 ms that Deno sleeps. */
  get depth(): number {
    return this.#device.stream.readsEarly ? 1 : 3;
  }

  /** Runs the prompts in chunks and returns the logits [B, V] of their last tokens. */
  async prefill(): Promise<Tensor> {
    const { prefillChunkSize: size, signal } = this.#options;
    const rows = this.ids, past = rows.map((_, b) => this.#cache.lengths[b] ?? 0);
    const fresh = rows.map((row, b) => row.length - past[b]!);
    const chunks = Math.ceil(Math.max(...fresh) / size);
    const maxPosition = Math.max(...rows.map((row) => row.length));
    this.#cache.reserve(rows.length, fresh);
    for (let chunk = 0;; chunk++) {
      throwIfAborted(signal, "generating");
      // aligned to the prompts' ends: each row has a token in the last chunk
      const from = rows.map((row, b) => Math.max(past[b]!, row.length - (chunks - chunk) * size));
      const to = rows.map((row, b) => Math.max(past[b]!, row.length - (chunks - chunk - 1) * size));
      const pieces = rows.map((row, b) => row.slice(from[b], to[b]));
      const positions = pieces.flatMap((piece, b) => piece.map((_, i) => from[b]! + i));
      const lengths = pieces.map((piece) => piece.length);
      using batch = packBatch(this.#device, pieces.flat(), positions, lengths, undefined, maxPosition);
      const last = chunk === chunks - 1;
      const result = tidy(this.#device, () => {
        return last ? this.#model.nextLogits(batch, this.#cache) : this.#model.hidden(batch, this.#cache);
      });
      this.#cache.advanced(lengths);
      if (last) return keep(this.#device, result);
      result.dispose();
      await this.#device.synchronize(); // bounds the work in flight, and lets an abort through
    }
  }

  /** Logits [B, V] after the tokens of the step before. */
  logits(maxPosition: number): Tensor {
    return this.#model.nextLogits(this.#batch(maxPosition), this.#cache);
  }

  /** Makes room for `steps` more tokens of each row. */
  reserve(steps: number): void {
    this.#cache.reserve(this.ids.length, this.#ones.map(() => steps));
  }

  /** Counts a step in the cache. */
  advanced(): void {
    this.#cache.advanced(this.#ones);
  }

  /** Scores after the processors: what tokens are chosen from. */
  process(logits: Tensor): Tensor {
    return this.#chooser.process(logits);
  }

  /** Chooses a token of each row from `scores` and makes it the next input. */
  choose(scores: Tensor): void {
    tidy(this.#device, () => {
      emitTokens(this.#chooser.choose(scores), scores, this.#state);
      this.#chooser.count(this.#state.tokens, this.#fixed.cuSeqlens);
    });
  }

  /** Tokens of the last {@linkcode RING} steps, [RING, B]; step s is in row s % RING. */
  async read(early = true): Promise<Uint32Array> {
    return await this.#state.ring.read({ early }) as Uint32Array;
  }

  /**
   * Submits one step, replayed from a recording where one serves all lengths up to `until`.
   *
   * @param length of the longest row before the step
   */
  step(length: number, until: number): void {
    this.reserve(1);
    if (!this.#model.prepareReplay(length + 1, until)) this.#run(length + 1);
    else this.#device.stream.replay(this.#recorded(until));
    this.advanced();
  }

  /** Resolves when nothing of this run is pending. */
  async settled(): Promise<void> {
    await this.#device.stream.settled();
  }

  /** Returns the memory; the cache stays. */
  [Symbol.dispose](): void {
    this.#recording?.dispose();
    this.#chooser[Symbol.dispose]();
    for (const t of [...Object.values(this.#state), ...Object.values(this.#fixed)]) t.dispose();
  }

  #run(maxPosition: number): void {
    tidy(this.#device, () => this.choose(this.process(this.logits(maxPosition))));
  }

  #recorded(until: number): Recording {
    if (this.#recording && this.#generation === this.#cache.generation) return this.#recording;
    this.#recording?.dispose();
    this.#recording = this.#device.stream.capture(() => this.#run(until));
    this.#generation = this.#cache.generation;
    return this.#recording;
  }

  #batch(maxPosition: number): Batch {
    const { tokens, positions } = this.#state, size = this.ids.length;
    return {
      ...this.#fixed,
      tokens,
      positions,
      size,
      total: size,
      lengths: this.#ones,
      maxPosition,
      [Symbol.dispose]() {},
    };
  }
}
