/**
 * A model whose cache follows whatever sequences it is given: what they share with the last ones is not run again.
 *
 * @module
 */
import type { StepModel, StepOutput, StepRequest } from "./step_model.ts";

/** A {@linkcode StepModel} that is told sequences only. */
export class FollowingModel {
  readonly #model: StepModel;
  #held: readonly (readonly number[])[] = [];

  /** Follows with `model`, whose cache is empty. */
  constructor(model: StepModel) {
    this.#model = model;
  }

  /** What follows each of the sequences. */
  async forward(ids: readonly (readonly number[])[], request: StepRequest = {}): Promise<StepOutput> {
    if (this.#held.length) {
      const nearest = ids.map((row) => nearestOf(row, this.#held));
      const moved = ids.length !== this.#held.length || nearest.some(({ index }, b) => index !== b);
      if (moved) await this.#model.select(nearest.map(({ index }) => index));
      this.#model.crop(nearest.map(({ common }, b) => Math.min(common, ids[b]!.length - 1)));
    }
    this.#held = [];
    const output = await this.#model.forward(ids, request);
    this.#held = ids.map((row) => [...row]);
    return output;
  }
}

/** Which of `rows` begins most like `ids`; of equals the first. */
function nearestOf(ids: readonly number[], rows: readonly (readonly number[])[]): { index: number; common: number } {
  let best = { index: 0, common: -1 };
  for (const [index, row] of rows.entries()) {
    const differ = row.findIndex((token, i) => token !== ids[i]);
    const common = differ === -1 ? row.length : differ;
    if (common > best.common) best = { index, common };
  }
  return best;
}
