/**
 * One run of a model over a batch of prompts: prefill, and the decode step. All that changes from step to step lives on
 * the GPU, so that a step is recorded once and replayed (architecture.md, decisions 4 and 5).
 *
 * @module
 */
import { type Cache, packBatch } from "../cache/mod.ts";
import { throwIfAborted } from "../errors.ts";
import type { Device } from "../gpu/mod.ts";
import type { Recording } from "../gpu/stream.ts";
import type { Model } from "../models/mod.ts";
import { type DecodeBuffers, emitTokens } from "../ops/decode_state.ts";
import { empty, keep, type Tensor, tensor, tidy } from "../tensor/mod.ts";
import { Chooser } from "./chooser.ts";
import { DEFAULTS } from "./config_fields.ts";
import { DecodeStep } from "./decode_step.ts";
import { negativePrompts } from "./negative_prompts.ts";
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
  readonly #step: DecodeStep;
  readonly #owned: DisposableStack;
  readonly #ones: readonly number[];
  /** Runs the negative prompts beside the prompts, for guidance. */
  readonly #guide: Decoder | undefined;
  readonly #behind: number = 0;
  #unconditional: Tensor | undefined;
  #guideLogits: Tensor | undefined;
  #choice: { recording: Recording; logits: Tensor; unconditional: Tensor | undefined } | undefined;

  /**
   * @param rows ids of the prompts, without padding; `cache` may hold a prefix of them
   * @param encoderIds what the encoder read for each, where there is one that reads tokens
   */
  constructor(
    model: Model,
    rows: readonly (readonly number[])[],
    cache: Cache,
    options: ResolvedOptions,
    encoderIds?: readonly (readonly number[])[],
  ) {
    const { device } = model, B = rows.length;
    this.ids = rows.map((row) => [...row]);
    this.#model = model;
    this.#cache = cache;
    this.#options = options;
    this.#ones = rows.map(() => 1);
    using made = new DisposableStack();
    const put = (data: readonly number[]) => made.use(keep(device, tensor(device, data, [data.length], "uint32")));
    const { eosTokenIds, padToken } = options;
    const { tokens, positions } = this.#step = made.use(DecodeStep.of(model, cache, B));
    positions.write(rows.map((row) => row.length - 1));
    this.#state = {
      tokens,
      positions,
      done: put(rows.map(() => 0)),
      ring: made.use(keep(device, empty(device, [RING, B], "uint32"))),
      step: put([0]),
      settings: put([padToken, RING, ...eosTokenIds]),
    };
    if ((options.guidanceScale ?? 1) !== 1) {
      this.#guide = made.use(guideOf(model, rows, options, made.use(model.newCache())));
      this.#behind = longest(rows) - longest(this.#guide.ids);
    }
    const { step } = this.#state, unconditional = () => this.#unconditional!;
    const context = { vocabSize: model.sizes.vocabSize, prompts: rows.map((row) => this.#seen(row)), encoderIds };
    this.#chooser = made.use(new Chooser(device, options, context, step, unconditional));
    this.#owned = made.move(); // nothing failed: they are the decoder's
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
    this.#guideBy(await this.#guide?.prefill());
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
      const tokens = pieces.flat(),
        packed = packBatch(this.#device, tokens, positions, lengths, undefined, maxPosition);
      using batch = this.#options.embeds?.into(packed, tokens) ?? packed;
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
    this.#guideBy(this.#guide?.logits(maxPosition - this.#behind));
    return this.#step.run(maxPosition);
  }

  /** Makes room for `steps` more tokens of each row. */
  reserve(steps: number): void {
    this.#cache.reserve(this.ids.length, this.#ones.map(() => steps));
    this.#guide?.reserve(steps);
  }

  /** Counts a step in the cache. */
  advanced(): void {
    this.#cache.advanced(this.#ones);
    this.#guide?.advanced();
  }

  /** Scores after the processors: what tokens are chosen from. */
  process(logits: Tensor): Tensor {
    return this.#chooser.process(logits);
  }

  /** Whether a processor is the caller's code: then {@linkcode Decoder.processOnHost} takes the place of `process`. */
  get needsHost(): boolean {
    return this.#chooser.needsHost;
  }

  /** As {@linkcode Decoder.process}, on the host. */
  processOnHost(logits: Tensor): Promise<Tensor> {
    return this.#chooser.processOnHost(logits, this.ids.map((row) => [...this.#seen(row)]), this.#unconditional);
  }

  /** A row as processors see it. */
  #seen(row: readonly number[]): readonly number[] {
    return this.#options.embeds?.seen(row) ?? row;
  }

  /** Chooses a token of each row from `scores` and makes it the next input. */
  choose(scores: Tensor): void {
    tidy(this.#device, () => {
      emitTokens(this.#chooser.choose(scores), scores, this.#state);
      this.#chooser.count(this.#state.tokens, this.#step.cuSeqlens);
      if (this.#guide) emitTokens(this.#state.tokens, scores, this.#guide.#state);
    });
  }

  /** Tokens of the last {@linkcode RING} steps, [RING, B]; step s is in row s % RING. */
  async read(early = true): Promise<Uint32Array> {
    return await this.#state.ring.read({ early }) as Uint32Array;
  }

  /**
   * Submits steps, replayed from recordings where these serve all lengths up to `until`.
   *
   * @param length of the longest row before the first of them
   */
  step(length: number, until: number, steps = 1): void {
    for (let done = 0; done < steps;) {
      const some = Math.min(steps - done, this.#cache.horizon?.() ?? steps);
      this.#steps(length + done, until, some);
      done += some;
    }
  }

  #steps(length: number, until: number, steps: number): void {
    this.reserve(steps);
    const recorded = this.#step.recorded(length + 1, until);
    const guided = this.#guide && this.#guide.#step.recorded(length + 1 - this.#behind, until - this.#behind);
    if (recorded && (guided || !this.#guide)) {
      const models = guided ? [guided.recording, recorded.recording] : [recorded.recording];
      this.#device.stream.replay([...models, this.#chooses(recorded.logits, guided?.logits)], steps);
      for (let i = 0; i < steps; i++) this.advanced();
    } else {
      for (let i = 1; i <= steps; i++) {
        this.#run(length + i);
        this.advanced();
      }
    }
  }

  /** Resolves when nothing of this run is pending. */
  async settled(): Promise<void> {
    await this.#device.stream.settled();
  }

  /** Returns the memory; the cache stays. */
  [Symbol.dispose](): void {
    this.#choice?.recording.dispose();
    this.#guideLogits?.dispose();
    this.#owned.dispose();
  }

  /** Takes the guide's logits, which outlive the scope they were made in. */
  #guideBy(logits: Tensor | undefined): void {
    this.#guideLogits?.dispose();
    this.#unconditional = this.#guideLogits = logits && keep(this.#device, logits);
  }

  #run(maxPosition: number): void {
    tidy(this.#device, () => this.choose(this.process(this.logits(maxPosition))));
  }

  /** The choice from `logits`, recorded. */
  #chooses(logits: Tensor, unconditional: Tensor | undefined): Recording {
    if (this.#choice?.logits === logits && this.#choice.unconditional === unconditional) return this.#choice.recording;
    this.#choice?.recording.dispose();
    this.#unconditional = unconditional;
    const recording = this.#device.stream.capture(() => tidy(this.#device, () => this.choose(this.process(logits))));
    this.#choice = { recording, logits, unconditional };
    return recording;
  }
}

function longest(rows: readonly (readonly number[])[]): number {
  return Math.max(...rows.map((row) => row.length));
}

/** Runs what guidance goes away from: the negative prompts, or the last token of each prompt. */
function guideOf(model: Model, rows: readonly (readonly number[])[], o: ResolvedOptions, cache: Cache): Decoder {
  const { seed, prefillChunkSize, newTokens, signal, embeds } = o, own = { eosTokenIds: [], padToken: 0, stops: [] };
  const plain = { ...DEFAULTS, ...own, seed, prefillChunkSize, newTokens, signal, embeds };
  return new Decoder(model, negativePrompts(o, rows, model.sizes.vocabSize), cache, plain);
}
