/**
 * A loaded model and a cache as a {@linkcode StepModel}: packed batches in, logits on the host out.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { type Batch, type Cache, packBatch } from "../../cache/mod.ts";
import { throwIfAborted } from "../../errors.ts";
import { crossPart, encoderColumns, type EncoderDecoderInputs } from "../../models/encoder_decoder.ts";
import type { Model } from "../../models/mod.ts";
import type { Columns } from "../../models/pad_attentions.ts";
import { gatherRows, sliceRows } from "../../ops/mod.ts";
import { keep, type Tensor, tensor, tidy } from "../../tensor/mod.ts";
import type { PromptEmbeds } from "../prompt_embeds.ts";
import { inTurns } from "./in_turns.ts";
import type { EncoderKeys } from "./padded_outputs.ts";
import { likeliest, type PassTensors, readPass, tensorsOf } from "./pass_tensors.ts";
import { MOST_AT_ONCE, SingleStep } from "./single_step.ts";
import type { StepModel, StepOutput, StepRequest } from "./step_model.ts";

/** How a {@linkcode GpuStepModel} runs. */
export interface GpuStepOptions {
  /** Most tokens of a prompt to run at once. */
  prefillChunkSize: number;
  /** The prompts, where they came as embeddings. */
  embeds?: PromptEmbeds;
  /** What the encoder read, where there is one. */
  encoder?: EncoderDecoderInputs;
  /** Stops a prefill between its chunks. */
  signal?: AbortSignal;
  /** Whether the cache is kept from step to step; if not, all is run anew. Default true. */
  useCache?: boolean;
}

/** Runs what the cache does not hold, in chunks, and reads what is asked for. The cache stays the caller's. */
export class GpuStepModel implements StepModel, Disposable {
  readonly #model: Model;
  readonly #cache: Cache;
  readonly #o: GpuStepOptions;
  readonly #single: SingleStep;

  /** A model with `cache`, which may hold prefixes of what comes. */
  constructor(model: Model, cache: Cache, o: GpuStepOptions) {
    this.#model = model;
    this.#cache = cache;
    this.#o = o;
    this.#single = new SingleStep(model, cache);
  }

  /** V. */
  get vocabSize(): number {
    return this.#model.sizes.vocabSize;
  }

  /** Whether the output layer is the embedding. */
  get tied(): boolean {
    return this.#model.config.tie_word_embeddings === true;
  }

  /** Number of layers. */
  get layers(): number {
    return this.#model.sizes.attention.length;
  }

  /** See {@linkcode StepModel.forward}. */
  async forward(ids: readonly (readonly number[])[], request: StepRequest = {}): Promise<StepOutput> {
    if (this.#o.useCache === false) this.#cache.crop(this.#cache.lengths.map(() => 0));
    const { last = 1 } = request, past = [...this.#past(ids.length)];
    this.#cache.reserve(ids.length, ids.map((row, b) => row.length - past[b]!));
    const whole = request.hidden || request.hiddenStates || request.attentions;
    if (!whole) await this.#prefill(ids, last);
    const start = [...this.#past(ids.length)];
    const pieces = ids.map((row, b) => row.slice(start[b]));
    if (request.turns) return await inTurns(pieces, request, (some, r) => this.#finished(some, start, r));
    const plain = !whole && !request.layers && !this.#o.embeds?.has(pieces.flat());
    return await this.#finished(pieces, start, request, plain);
  }

  /** Runs the pieces and reads what comes of those that hold something; `plain`: a step of few tokens may be replayed. */
  async #finished(
    pieces: readonly (readonly number[])[],
    start: readonly number[],
    request: StepRequest,
    plain = false,
  ): Promise<StepOutput> {
    const { last = 1 } = request, window = pieces.length === 1 && last === pieces[0]!.length && last <= MOST_AT_ONCE;
    const single = plain && (window || pieces.every((piece) => piece.length === 1));
    const made = single ? this.#next(pieces, start, request) : this.#pass(pieces, start, request);
    try {
      const runs = <T>(all: readonly T[]) => all.filter((_, b) => pieces[b]!.length), past = runs(start);
      const lengths = runs(pieces).map((piece) => piece.length), { hiddenSize } = this.#model.sizes;
      const tokens = request.tokens?.map((row) => row.length);
      const encoder = made.crossAttentions && this.#encoderKeys(runs);
      const output = await readPass(made, { lengths, past, vocabSize: this.vocabSize, hiddenSize, tokens, encoder });
      await setImmediate(); // an early read resolves without letting timers and signals run
      throwIfAborted(this.#o.signal, "generating");
      return output;
    } finally {
      for (const t of tensorsOf(made)) t.dispose();
    }
  }

  /** See {@linkcode StepModel.select}. */
  select(rows: readonly number[]): Promise<void> {
    const same = rows.length === this.#cache.lengths.length;
    if (!same) this.#cache.batchSelectIndices(rows);
    else if (rows.some((row, b) => row !== b)) this.#cache.reorder(rows);
    return Promise.resolve();
  }

  /** See {@linkcode StepModel.crop}. */
  crop(lengths: readonly number[]): void {
    const kept = this.#cache.lengths.map((n, b) => Math.min(n, lengths[b]!));
    if (kept.some((n, b) => n !== this.#cache.lengths[b])) this.#cache.crop(kept);
  }

  /** The encoder's keys, of the sequences that `runs` picks. */
  #encoderKeys(runs: (columns: Columns["of"]) => Columns["of"]): EncoderKeys {
    const { lengths } = crossPart(this.#cache), { of, width } = encoderColumns(this.#o.encoder ?? {}, lengths);
    return { keys: { of: runs(of), width }, packed: Math.max(...lengths) };
  }

  #past(rows: number): readonly number[] {
    return this.#cache.lengths.length ? this.#cache.lengths : Array<number>(rows).fill(0);
  }

  /** Runs all but the last chunk, aligned to the rows' ends. */
  async #prefill(ids: readonly (readonly number[])[], last: number): Promise<void> {
    const size = Math.max(this.#o.prefillChunkSize, last), past = [...this.#past(ids.length)];
    const chunks = Math.ceil(Math.max(...ids.map((row, b) => row.length - past[b]!)) / size);
    for (let chunk = 0; chunk < chunks - 1; chunk++) {
      throwIfAborted(this.#o.signal, "generating");
      const left = (chunks - chunk) * size;
      const from = ids.map((row, b) => Math.max(past[b]!, row.length - left));
      const pieces = ids.map((row, b) => row.slice(from[b], Math.max(past[b]!, row.length - left + size)));
      using batch = this.#batch(pieces, from);
      tidy(this.#model.device, () => this.#model.hidden(batch, this.#cache)).dispose();
      this.#cache.advanced(batch.lengths);
      await this.#model.device.synchronize(); // bounds the work in flight, and lets an abort through
    }
  }

  #batch(pieces: readonly (readonly number[])[], from: readonly number[]): Batch {
    const positions = pieces.flatMap((piece, b) => piece.map((_, i) => from[b]! + i));
    const tokens = pieces.flat();
    const batch = packBatch(this.#model.device, tokens, positions, pieces.map((piece) => piece.length));
    return this.#o.embeds?.into(batch, tokens) ?? batch;
  }

  /** Returns the memory; the cache stays. */
  [Symbol.dispose](): void {
    this.#single[Symbol.dispose]();
  }

  /** Runs one token of each row, or a few of one. */
  #next(pieces: readonly (readonly number[])[], from: readonly number[], { top, tokens }: StepRequest): PassTensors {
    const all = (logits: Tensor) => ({ logits: sliceRows(logits, 0, logits.shape[0]!) });
    return this.#single.run(
      pieces,
      from,
      (logits) => this.#kept(top ? likeliest(logits, top, tokens) : all(logits)),
    );
  }

  /** Runs the pieces; the cache has them from then on. */
  #pass(pieces: readonly (readonly number[])[], from: readonly number[], request: StepRequest): PassTensors {
    const { last = 1, top, hidden, layers, attentions, hiddenStates } = request, { device } = this.#model;
    using batch = this.#batch(pieces, from);
    let end = 0;
    const ends = batch.lengths.map((n) => end += n);
    const run = ends.filter((_, b) => batch.lengths[b]! > 0);
    const rows = (n: number) => run.flatMap((end) => Array.from({ length: n }, (_, i) => end - n + i));
    const made = tidy(device, () => {
      const all: Tensor[] | undefined = hiddenStates || layers ? [] : undefined;
      const weights: Tensor[] | undefined = attentions ? [] : undefined;
      const crossAttentions: Tensor[] | undefined = attentions && this.#model.isEncoderDecoder ? [] : undefined;
      const collect = { hiddenStates: all, attentions: weights, crossAttentions };
      const x = this.#model.hidden(batch, this.#cache, collect);
      const at = (t: Tensor, n: number) => {
        return this.#model.applyHead(gatherRows(t, tensor(device, rows(n), [n * run.length], "uint32")), batch);
      };
      const logits = at(x, last);
      return this.#kept({
        ...top ? likeliest(logits, top, request.tokens) : { logits },
        hidden: hidden ? x : undefined,
        layers: layers?.map((layer) => at(all![layer]!, 1)),
        hiddenStates: hiddenStates ? all : undefined,
        attentions: weights,
        crossAttentions,
      });
    });
    this.#cache.advanced(batch.lengths);
    return made;
  }

  /** Takes the tensors out of all scopes: they are read later. */
  #kept(made: PassTensors): PassTensors {
    for (const t of tensorsOf(made)) keep(this.#model.device, t);
    return made;
  }
}
