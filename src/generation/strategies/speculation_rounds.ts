/**
 * The target's side of speculative decoding on the GPU: one pass checks a window of tokens, and what is kept of them
 * begins the next window, all without the host.
 *
 * @module
 */
import type { Cache } from "../../cache/mod.ts";
import { NumericError } from "../../errors.ts";
import type { Model } from "../../models/mod.ts";
import { INVALID_TOKEN } from "../../ops/decode_state.ts";
import { acceptDrafts, BROKEN_DRAFT, type SpeculationBuffers, STATE_HEADER } from "../../ops/speculation.ts";
import { empty, keep, type Tensor } from "../../tensor/mod.ts";
import { DecodeStep } from "../decode_step.ts";
import { ReplayedStep } from "./replayed_step.ts";

/** What a round gave. */
export interface Round {
  /** Tokens in order: what was kept of the draft, and one of the model's own. */
  tokens: number[];
  /** Drafted tokens that were kept. */
  accepted: number;
}

/** What a draft has come to. */
export interface Drafted {
  /** Tokens until one was unsure or ends sequences, itself included. */
  drafted: number;
  /** Whether one was. */
  over: boolean;
}

/** Chooses what follows each token of a window: logits [k + 1, V] to [k + 1] uint32. */
export type ChooseNext = (logits: Tensor, buffers: SpeculationBuffers) => Tensor;

const MOST_RECORDED = 8; // widths of windows whose recordings are kept

/** The windows of one sequence. */
export class SpeculationRounds implements Disposable {
  /** What lies on the GPU. */
  readonly buffers: SpeculationBuffers;
  readonly #model: Model;
  readonly #cache: Cache;
  readonly #choose: ChooseNext;
  readonly #owned: DisposableStack;
  readonly #steps = new Map<number, ReplayedStep>();
  #emitted = 0;

  /** Windows of up to `width` tokens. */
  constructor(model: Model, cache: Cache, width: number, choose: ChooseNext) {
    this.#model = model;
    this.#cache = cache;
    this.#choose = choose;
    const { device } = model;
    using made = new DisposableStack();
    const words = (n: number) => made.use(keep(device, empty(device, [n], "uint32")));
    this.buffers = {
      window: words(width),
      positions: words(width),
      steps: words(width),
      pair: words(2),
      pairPositions: words(2),
      state: words(STATE_HEADER + width),
    };
    this.#owned = made.move(); // nothing failed: they are the rounds'
  }

  /** Most tokens that can be drafted at once. */
  get most(): number {
    return this.buffers.window.size - 1;
  }

  /** Begins after `ids`, of which the last `emitted` are new. */
  begin(ids: readonly number[], emitted: number): void {
    const { window, positions, steps, pair, pairPositions, state } = this.buffers, place = ids.length - 1;
    const places = Array.from({ length: window.size }, (_, i) => i);
    window.write(places.map((i) => i === 0 ? ids.at(-1)! : 0));
    positions.write(places.map((i) => place + i));
    steps.write(places.map((i) => emitted + i));
    pair.write([ids.at(-2) ?? 0, ids.at(-1)!]);
    pairPositions.write([Math.max(0, place - 1), place]);
    const header = [place, 0, 0, 0, emitted, 0, 0, 0];
    state.write([...header, ...Array<number>(state.size - STATE_HEADER).fill(0)]);
    this.#emitted = emitted;
  }

  /** Drafts `tokens` after `last` from the host. */
  draft(last: number, tokens: readonly number[]): void {
    const { window } = this.buffers;
    window.write([last, ...tokens, ...Array<number>(window.size - 1 - tokens.length).fill(0)]);
  }

  /** The pass that checks what follows the first of `rows` tokens of the window. */
  check(rows: number): ReplayedStep {
    const known = this.#steps.get(rows);
    this.#steps.delete(rows); // the last one used comes last
    const step = known ?? this.#newStep(rows);
    this.#steps.set(rows, step);
    for (const [old, oldest] of this.#steps) {
      if (this.#steps.size <= MOST_RECORDED) break;
      oldest[Symbol.dispose]();
      this.#steps.delete(old);
    }
    return step;
  }

  /**
   * What was drafted since the last pass.
   *
   * @throws {NumericError} if logits were not finite
   */
  async drafted(): Promise<Drafted> {
    const [, , drafted = 0, over = 0] = await this.#state();
    if (over === BROKEN_DRAFT) throw notFinite();
    return { drafted, over: over > 0 };
  }

  /**
   * What the passes since the last reading gave.
   *
   * @throws {NumericError} if logits were not finite
   */
  async read(): Promise<Round> {
    const state = await this.#state();
    const [, , , , emitted = 0, , accepted = 0, over = 0] = state, ring = state.length - STATE_HEADER;
    const tokens = Array.from({ length: emitted - this.#emitted }, (_, i) => {
      return state[STATE_HEADER + (this.#emitted + i) % ring]!;
    });
    this.#emitted = emitted;
    if (tokens.includes(INVALID_TOKEN) || over === BROKEN_DRAFT) throw notFinite();
    return { tokens, accepted };
  }

  /** Returns the memory; the cache stays. */
  [Symbol.dispose](): void {
    for (const step of this.#steps.values()) step[Symbol.dispose]();
    this.#steps.clear();
    this.#owned.dispose();
  }

  async #state(): Promise<Uint32Array> {
    return await this.buffers.state.read({ early: true }) as Uint32Array;
  }

  #newStep(rows: number): ReplayedStep {
    const { window, positions } = this.buffers, { device } = this.#model;
    const input = {
      tokens: keep(device, window.rows(0, rows)),
      positions: keep(device, positions.rows(0, rows)),
    };
    const step = new DecodeStep(this.#model, this.#cache, [rows], input);
    return new ReplayedStep(this.#model, step, (logits) => {
      acceptDrafts(this.#choose(logits, this.buffers), logits, this.buffers);
    });
  }
}

function notFinite(): NumericError {
  return new NumericError("Cannot choose the next tokens as the logits must be finite: they are NaN or infinite", {
    hint: 'Load the model with dtype: "float32", or check the weights.',
  });
}
