/**
 * The closed-form language model of the vectors: V = 12, logits a function of the last two tokens. Its cache is a record
 * of what it has seen, so that a search that loses track of it is caught.
 */
import { AssertionError } from "@std/assert";
import { logSoftmax, topK } from "../../../src/generation/strategies/math.ts";
import type { StepModel, StepOutput, StepRequest } from "../../../src/generation/strategies/step_model.ts";

export const V = 12;

/** Logits after a sequence; with `shift`, those of a different model. */
export function toyLogits(ids: readonly number[], shift = 0): Float32Array {
  const a = ids.at(-1)!, b = ids.at(-2) ?? 0;
  return Float32Array.from({ length: V }, (_, j) => 2 * Math.sin(1.3 * a + 0.7 * b * j + 2.1 * j + 0.5 + shift * j));
}

/** Hidden states [2] of a token and the one before it. */
export function toyHidden(ids: readonly number[]): Float32Array {
  const a = ids.at(-1)!, b = ids.at(-2) ?? 0;
  return Float32Array.of(Math.cos(a + 0.3 * b), Math.sin(1.7 * a - b));
}

function topOf(logits: Float32Array, k: number) {
  const all = logSoftmax(logits), tokens = topK(all, k);
  return { tokens, logProbs: Float32Array.from(tokens, (token) => all[token]!) };
}

export class ToyModel implements StepModel {
  readonly vocabSize = V;
  readonly tied = false;
  readonly layers = 4;
  /** What each sequence of the cache holds. */
  cached: number[][] = [];
  forwards = 0;
  /** Called before each pass. */
  onForward = () => {};
  #shift: number;

  constructor(shift = 0) {
    this.#shift = shift;
  }

  forward(
    ids: readonly (readonly number[])[],
    { last = 1, top, tokens, hidden, layers }: StepRequest = {},
  ): Promise<StepOutput> {
    this.onForward();
    this.forwards++;
    if (this.cached.length === 0) this.cached = ids.map(() => []);
    if (this.cached.length !== ids.length) {
      throw new AssertionError({ message: `${ids.length} rows, not ${this.cached.length}` });
    }
    const fresh = ids.map((row, b) => {
      const held = this.cached[b]!;
      if (held.some((token, i) => token !== row[i])) {
        throw new AssertionError({ message: `cached ${held}, not ${row}` });
      }
      if (row.length - held.length < last) throw new AssertionError({ message: `fewer than ${last} new tokens` });
      return row.length - held.length;
    });
    this.cached = ids.map((row) => [...row]);
    const prefixes = (row: readonly number[], n: number) =>
      Array.from({ length: n }, (_, i) => row.slice(0, row.length - n + 1 + i));
    const logits = ids.flatMap((row) => prefixes(row, last).map((p) => toyLogits(p, this.#shift)));
    return Promise.resolve({
      logits: top ? [] : logits,
      ...top && { top: logits.map((row) => topOf(row, top)) },
      ...top && tokens && {
        chances: logits.map((row, b) => Float32Array.from(tokens[b]!, (token) => logSoftmax(row)[token]!)),
      },
      ...hidden && {
        hidden: ids.map((row, b) => Float32Array.from(prefixes(row, fresh[b]!).flatMap((p) => [...toyHidden(p)]))),
      },
      ...layers && { layers: layers.map((layer) => ids.map((row) => toyLogits(row, 1 + layer))) },
    });
  }

  select(rows: readonly number[]): Promise<void> {
    this.cached = rows.map((row) => [...this.cached[row]!]);
    return Promise.resolve();
  }

  crop(lengths: readonly number[]): void {
    this.cached = this.cached.map((row, b) => row.slice(0, lengths[b]));
  }
}
