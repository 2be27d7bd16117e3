/**
 * A step of one token a row, replayed from a recording where the cache's buffers stay where they are.
 *
 * @module
 */
import type { Cache } from "../../cache/mod.ts";
import type { Model } from "../../models/mod.ts";
import { type Tensor, tidy } from "../../tensor/mod.ts";
import { DecodeStep } from "../decode_step.ts";

const AHEAD = 64; // positions beyond the present one that a recording shall serve

/** Single steps of a model with a cache. */
export class SingleStep implements Disposable {
  readonly #model: Model;
  readonly #cache: Cache;
  #step: DecodeStep | undefined;
  #size = 0;
  #generation: number | undefined;

  /** Makes nothing before the first step. */
  constructor(model: Model, cache: Cache) {
    this.#model = model;
    this.#cache = cache;
  }

  /**
   * Runs one token of each row; the cache has room for it.
   *
   * @param positions where the tokens stand
   * @param use is given the logits [B, V], which are gone afterwards
   */
  run<T>(tokens: readonly number[], positions: readonly number[], use: (logits: Tensor) => T): T {
    const step = this.#of(tokens.length), length = Math.max(...positions) + 1, { generation } = this.#cache;
    step.tokens.write(tokens);
    step.positions.write(positions);
    // a search that reorders its cache moves the buffers each time: a recording would serve once
    const recorded = generation === this.#generation ? this.#recorded(step, length) : undefined;
    this.#generation = generation;
    if (recorded) this.#model.device.stream.replay(recorded.recording);
    const used = tidy(this.#model.device, () => use(recorded?.logits ?? step.run(length)));
    this.#cache.advanced(tokens.map(() => 1));
    return used;
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    this.#step?.[Symbol.dispose]();
    this.#step = undefined;
  }

  #recorded(step: DecodeStep, length: number) {
    const most = this.#model.sizes.maxPositionEmbeddings;
    return step.recorded(length, length < most ? Math.min(length + AHEAD, most) : length + AHEAD);
  }

  #of(size: number): DecodeStep {
    if (this.#step && this.#size === size) return this.#step;
    this[Symbol.dispose]();
    this.#size = size;
    return this.#step = DecodeStep.of(this.#model, this.#cache, size);
  }
}
