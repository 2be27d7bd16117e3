/**
 * A step of one token a row, or of a few of one row, replayed from a recording where the cache's buffers stay where they
 * are.
 *
 * @module
 */
import type { Cache } from "../../cache/mod.ts";
import type { Model } from "../../models/mod.ts";
import { type Tensor, tidy } from "../../tensor/mod.ts";
import { DecodeStep } from "../decode_step.ts";

/** Most tokens of one row that are worth a recording of their own. */
export const MOST_AT_ONCE = 16;

const AHEAD = 64; // positions beyond the present one that a recording shall serve
const MOST_STEPS = 8; // shapes whose recordings are kept

/** Short steps of a model with a cache. */
export class SingleStep implements Disposable {
  readonly #model: Model;
  readonly #cache: Cache;
  readonly #steps = new Map<string, DecodeStep>();
  #generation: number | undefined;

  /** Makes nothing before the first step. */
  constructor(model: Model, cache: Cache) {
    this.#model = model;
    this.#cache = cache;
  }

  /**
   * Runs the pieces, one token of each row or some of one; the cache has room for them.
   *
   * @param from how many tokens each row has before
   * @param use is given the logits [T, V], which are gone afterwards
   */
  run<T>(pieces: readonly (readonly number[])[], from: readonly number[], use: (logits: Tensor) => T): T {
    const lengths = pieces.map((piece) => piece.length), positions = positionsOf(lengths, from);
    const step = this.#of(lengths), length = Math.max(...positions) + 1, { generation } = this.#cache;
    step.tokens.write(pieces.flat());
    step.positions.write(positions);
    // a search that reorders its cache moves the buffers each time: a recording would serve once
    const recorded = generation === this.#generation ? this.#recorded(step, length) : undefined;
    this.#generation = generation;
    if (recorded) this.#model.device.stream.replay(recorded.recording);
    const used = tidy(this.#model.device, () => use(recorded?.logits ?? step.run(length)));
    this.#cache.advanced(lengths);
    return used;
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    for (const step of this.#steps.values()) step[Symbol.dispose]();
    this.#steps.clear();
  }

  #recorded(step: DecodeStep, length: number) {
    const most = this.#model.sizes.maxPositionEmbeddings;
    return step.recorded(length, length < most ? Math.min(length + AHEAD, most) : length + AHEAD);
  }

  #of(lengths: readonly number[]): DecodeStep {
    const key = lengths.join(), known = this.#steps.get(key);
    if (known) return known;
    if (this.#steps.size === MOST_STEPS) this[Symbol.dispose]();
    const ones = lengths.every((n) => n === 1);
    const step = ones
      ? DecodeStep.of(this.#model, this.#cache, lengths.length)
      : new DecodeStep(this.#model, this.#cache, lengths);
    this.#steps.set(key, step);
    return step;
  }
}

function positionsOf(lengths: readonly number[], from: readonly number[]): number[] {
  return lengths.flatMap((n, b) => Array.from({ length: n }, (_, i) => from[b]! + i));
}
