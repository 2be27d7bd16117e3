/**
 * What drafts for windows that are checked on the GPU: a smaller model that decodes there, or the host.
 *
 * @module
 */
import type { Cache } from "../../cache/mod.ts";
import type { Model } from "../../models/mod.ts";
import { sampleLogits, warpLogits } from "../../ops/mod.ts";
import { draftSettings, draftToken, type DrawnDraft } from "../../ops/speculation.ts";
import { keep, type Tensor, tensor } from "../../tensor/mod.ts";
import { DecodeStep } from "../decode_step.ts";
import type { DraftSource } from "./assisted_decoding.ts";
import { type DraftLength, type DraftOptions, learnLength } from "./draft_model.ts";
import type { GpuStepModel } from "./gpu_step_model.ts";
import { ReplayedStep, type StepAt } from "./replayed_step.ts";
import type { Round, SpeculationRounds } from "./speculation_rounds.ts";

/** A draft that is there once `steps` have run. */
export interface GpuDraft {
  /** How many tokens. */
  tokens: number;
  /** What makes them. */
  steps: readonly StepAt[];
}

/** What drafts into the window of {@linkcode SpeculationRounds}. */
export interface GpuDraftSource {
  /** Takes what comes before the first draft. */
  begin?(ids: readonly number[]): Promise<void>;
  /** Drafts at most `most` tokens after `ids`. */
  draft(ids: readonly number[], most: number): Promise<GpuDraft>;
  /** Learns what became of the draft of `drafted` tokens, after which `ids` are what there is. */
  learn(drafted: number, round: Round, ids: readonly number[]): void;
}

/** Drafts of the host. */
export function hostDrafts(source: DraftSource, rounds: SpeculationRounds): GpuDraftSource {
  return {
    async draft(ids, most) {
      const { tokens } = await source.propose(ids, most);
      if (tokens.length) rounds.draft(ids.at(-1)!, tokens);
      return { tokens: tokens.length, steps: [] };
    },
    learn: (drafted, { accepted }) => source.learn(drafted, accepted),
  };
}

const FIRST_GUESS = 4;

/**
 * Drafts of a smaller model, a replayed step each; they and the pass that checks them are one submission. So it
 * is too late for a threshold to end a draft: a round drafts as many tokens as the last rounds were sure of, and what is
 * drafted is tried.
 */
export class GpuDraftModel implements GpuDraftSource, Disposable {
  readonly #runner: GpuStepModel;
  readonly #cache: Cache;
  readonly #o: DraftOptions;
  readonly #length: DraftLength;
  readonly #pair: ReplayedStep;
  readonly #single: ReplayedStep;
  readonly #settings: Tensor;
  readonly #owned: DisposableStack;
  readonly #most: number;
  #guess = FIRST_GUESS;

  /**
   * Drafts into the window of `rounds` with `model` and its empty `cache`, whose prompts `runner` runs; greedily, or drawn
   * with settings and a seed that are not those of the model's own draws.
   */
  constructor(
    { model, cache, runner }: { model: Model; cache: Cache; runner: GpuStepModel },
    { buffers }: SpeculationRounds,
    o: DraftOptions,
    length: DraftLength,
    drawn?: DrawnDraft,
  ) {
    this.#runner = runner;
    this.#cache = cache;
    this.#o = o;
    this.#length = length;
    this.#most = drawn?.q.shape[0] ?? Infinity;
    const { device } = model;
    using made = new DisposableStack();
    const words = draftSettings(model.sizes.vocabSize, o.confidenceThreshold, o.eosTokenIds);
    const settings = this.#settings = made.use(keep(device, tensor(device, words, [words.length], "uint32")));
    const single = new DecodeStep(model, cache, [1]), { tokens, positions } = single;
    const after = (places: Tensor) => (logits: Tensor) => {
      const input = { tokens, positions, settings };
      if (!drawn) return draftToken(logits, input, buffers);
      const chosen = sampleLogits(logits, drawn.params, places); // each place draws other numbers
      draftToken(warpLogits(logits, drawn.params), input, buffers, { chosen, kept: drawn.q });
    };
    this.#single = made.use(new ReplayedStep(model, single, after(positions)));
    const view = (t: Tensor) => keep(device, t.rows(0, 2)); // the step disposes of its own
    const pair = { tokens: view(buffers.pair), positions: view(buffers.pairPositions) };
    this.#pair = made.use(new ReplayedStep(model, new DecodeStep(model, cache, [2], pair), after(pair.positions)));
    this.#owned = made.move(); // nothing failed: they are this one's
  }

  /** Runs all but the last two tokens, with which each draft begins: the last draft's end may not have been run. */
  async begin(ids: readonly number[]): Promise<void> {
    if (ids.length > 2) await this.#runner.forward([ids.slice(0, -2)], { top: 1 });
  }

  /** Decodes token by token. */
  draft(ids: readonly number[], most: number): Promise<GpuDraft> {
    const longest = Math.min(most, Math.floor(this.#length.tokens), this.#most);
    const tokens = this.#o.confidenceThreshold > 0 ? Math.min(longest, Math.round(this.#guess)) : longest;
    if (tokens <= 0) return Promise.resolve({ tokens: 0, steps: [] });
    this.#cache.reserve(1, [tokens + 1]);
    const steps = Array.from({ length: tokens }, (_, i) => {
      return { step: i === 0 ? this.#pair : this.#single, length: ids.length + i };
    });
    this.#cache.advanced([tokens + 1]);
    return Promise.resolve({ tokens, steps });
  }

  /** Keeps of the cache what is true; drafts more after success, less after failure. */
  learn(drafted: number, { accepted, sure }: Round, ids: readonly number[]): void {
    this.#cache.crop(this.#cache.lengths.map((n) => Math.min(n, ids.length - 2)));
    if (drafted === 0) return;
    this.#guess = sure === undefined ? drafted + 1 : (this.#guess + sure) / 2;
    learnLength(this.#length, this.#o.schedule, drafted, accepted);
  }

  /** Returns the memory; the cache stays. */
  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}
