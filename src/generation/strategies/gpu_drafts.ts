/**
 * What drafts for windows that are checked on the GPU: a smaller model that decodes there, or the host.
 *
 * @module
 */
import type { Cache } from "../../cache/mod.ts";
import { throwIfAborted } from "../../errors.ts";
import type { Model } from "../../models/mod.ts";
import { sampleLogits, warpLogits } from "../../ops/mod.ts";
import { draftSettings, draftToken, type DrawnDraft } from "../../ops/speculation.ts";
import { keep, type Tensor, tensor } from "../../tensor/mod.ts";
import { DecodeStep } from "../decode_step.ts";
import type { DraftSource } from "./assisted_decoding.ts";
import { type DraftLength, type DraftOptions, learnLength } from "./draft_model.ts";
import type { GpuStepModel } from "./gpu_step_model.ts";
import { ReplayedStep, type StepAt, submitSteps } from "./replayed_step.ts";
import type { Round, SpeculationRounds } from "./speculation_rounds.ts";

/** A draft that is there once `steps` have run. */
export interface GpuDraft {
  /** How many tokens. */
  tokens: number;
  /** Tokens of the window that checks them: the one before them, they, and perhaps more that do not count. */
  rows: number;
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
      return { tokens: tokens.length, rows: tokens.length + 1, steps: [] };
    },
    learn: (drafted, { accepted }) => source.learn(drafted, accepted),
  };
}

const LOOK_AFTER = 2; // drafted tokens: to look costs a part of what a token does that is not to be tried

/**
 * Drafts of a smaller model, a replayed step each. Without a threshold they and the pass that checks them are one
 * submission. With one, the host looks after every other token whether one of them was unsure: the draft ends with that one,
 * as it would if each token were looked at, and no later one is tried.
 */
export class GpuDraftModel implements GpuDraftSource, Disposable {
  readonly #model: Model;
  readonly #runner: GpuStepModel;
  readonly #cache: Cache;
  readonly #rounds: SpeculationRounds;
  readonly #o: DraftOptions;
  readonly #length: DraftLength;
  readonly #pair: ReplayedStep;
  readonly #single: ReplayedStep;
  readonly #settings: Tensor;
  readonly #owned: DisposableStack;
  readonly #most: number;

  /**
   * Drafts into the window of `rounds` with `model` and its empty `cache`, whose prompts `runner` runs; greedily, or drawn
   * with settings and a seed that are not those of the model's own draws.
   */
  constructor(
    { model, cache, runner }: { model: Model; cache: Cache; runner: GpuStepModel },
    rounds: SpeculationRounds,
    o: DraftOptions,
    length: DraftLength,
    drawn?: DrawnDraft,
  ) {
    this.#model = model;
    this.#runner = runner;
    this.#cache = cache;
    this.#rounds = rounds;
    this.#o = o;
    this.#length = length;
    this.#most = drawn?.q.shape[0] ?? Infinity;
    const { device } = model, { buffers } = rounds;
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
  async draft(ids: readonly number[], most: number): Promise<GpuDraft> {
    const longest = Math.min(most, Math.floor(this.#length.tokens), this.#most);
    if (longest <= 0) return { tokens: 0, rows: 1, steps: [] };
    const { confidenceThreshold } = this.#o;
    if (confidenceThreshold === 0) return { tokens: longest, rows: longest + 1, steps: this.#steps(ids, 0, longest) };
    for (let drafted = 0, over = false;;) {
      const next = Math.min(longest, drafted + LOOK_AFTER);
      submitSteps(this.#model, this.#steps(ids, drafted, next), ids.length + longest);
      ({ drafted, over } = await this.#rounds.drafted());
      throwIfAborted(this.#o.signal, "drafting");
      if (!over && drafted < longest) continue;
      const rows = 2 ** Math.ceil(Math.log2(drafted + 1)); // few widths are recorded, and kernels have such numbers of rows
      return { tokens: drafted, rows: Math.min(rows, most + 1), steps: [] };
    }
  }

  /** Keeps of the cache what is true; drafts more after success, less after failure. */
  learn(drafted: number, { accepted }: Round, ids: readonly number[]): void {
    this.#cache.crop(this.#cache.lengths.map((n) => Math.min(n, ids.length - 2)));
    learnLength(this.#length, this.#o.schedule, drafted, accepted);
  }

  /** What drafts the tokens `from` to `until` after `ids`. */
  #steps(ids: readonly number[], from: number, until: number): StepAt[] {
    const tokens = until - from + (from === 0 ? 1 : 0); // the first step has two
    this.#cache.reserve(1, [tokens]);
    this.#cache.advanced([tokens]);
    return Array.from({ length: until - from }, (_, i) => {
      return { step: from + i === 0 ? this.#pair : this.#single, length: ids.length + from + i };
    });
  }

  /** Returns the memory; the cache stays. */
  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}
