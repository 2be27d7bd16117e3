/**
 * What drafts for windows that are checked on the GPU: a smaller model that decodes there, or the host.
 *
 * @module
 */
import type { Cache } from "../../cache/mod.ts";
import type { Model } from "../../models/mod.ts";
import { draftSettings, draftToken } from "../../ops/speculation.ts";
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
  /** Learns what became of the draft, after which `ids` are what there is. */
  learn(round: Round, ids: readonly number[]): void;
}

/** Drafts of the host. */
export function hostDrafts(source: DraftSource, rounds: SpeculationRounds): GpuDraftSource {
  return {
    async draft(ids, most) {
      const { tokens } = await source.propose(ids, most);
      if (tokens.length) rounds.draft(ids.at(-1)!, tokens);
      return { tokens: tokens.length, steps: [] };
    },
    learn: ({ tried, accepted }) => source.learn(tried, accepted),
  };
}

const FIRST_GUESS = 4;

/**
 * Drafts of a smaller model, greedily, each a token's replayed step; they and the pass that checks them are one submission.
 * Where a threshold may end a draft, a round drafts as many tokens as the last rounds were sure of.
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
  #guess = FIRST_GUESS;

  /** Drafts into the window of `rounds` with `model` and its empty `cache`, whose prompts `runner` runs. */
  constructor(
    { model, cache, runner }: { model: Model; cache: Cache; runner: GpuStepModel },
    { buffers }: SpeculationRounds,
    o: DraftOptions,
    length: DraftLength,
  ) {
    this.#runner = runner;
    this.#cache = cache;
    this.#o = o;
    this.#length = length;
    const { device } = model;
    using made = new DisposableStack();
    const words = draftSettings(model.sizes.vocabSize, o.confidenceThreshold, o.eosTokenIds);
    const settings = this.#settings = made.use(keep(device, tensor(device, words, [words.length], "uint32")));
    const single = new DecodeStep(model, cache, [1]), { tokens, positions } = single;
    const use = (logits: Tensor) => draftToken(logits, { tokens, positions, settings }, buffers);
    this.#single = made.use(new ReplayedStep(model, single, use));
    const view = (t: Tensor) => keep(device, t.rows(0, 2)); // the step disposes of its own
    const pair = { tokens: view(buffers.pair), positions: view(buffers.pairPositions) };
    this.#pair = made.use(new ReplayedStep(model, new DecodeStep(model, cache, [2], pair), use));
    this.#owned = made.move(); // nothing failed: they are this one's
  }

  /** Runs all but the last two tokens, with which each draft begins: the last draft's end may not have been run. */
  async begin(ids: readonly number[]): Promise<void> {
    if (ids.length > 2) await this.#runner.forward([ids.slice(0, -2)], { top: 1 });
  }

  /** Decodes token by token. */
  draft(ids: readonly number[], most: number): Promise<GpuDraft> {
    const longest = Math.min(most, Math.floor(this.#length.tokens));
    const tokens = this.#o.confidenceThreshold > 0 ? Math.min(longest, Math.ceil(this.#guess)) : longest;
    if (tokens <= 0) return Promise.resolve({ tokens: 0, steps: [] });
    this.#cache.reserve(1, [tokens + 1]);
    const steps = Array.from({ length: tokens }, (_, i) => {
      return { step: i === 0 ? this.#pair : this.#single, length: ids.length + i };
    });
    this.#cache.advanced([tokens + 1]);
    return Promise.resolve({ tokens, steps });
  }

  /** Keeps of the cache what is true; drafts more after success, less after failure. */
  learn({ tried, accepted, over }: Round, ids: readonly number[]): void {
    this.#cache.crop(this.#cache.lengths.map((n) => Math.min(n, ids.length - 2)));
    if (tried === 0) return;
    this.#guess = over ? (this.#guess + tried) / 2 : 2 * tried;
    learnLength(this.#length, this.#o.schedule, tried, accepted);
  }

  /** Returns the memory; the cache stays. */
  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}
