/**
 * The finished sequences of one search (semantics: G-48, G-49).
 *
 * @module
 */

/** When a beam search ends: at the first full list, when no better one is in sight, or when none can come. */
export type EarlyStopping = boolean | "never";

/** A finished sequence. */
export interface Hypothesis {
  /** Its new tokens. */
  tokens: number[];
  /** Sum of its log probabilities over a power of its length. */
  score: number;
  /** For each new token: the beam whose scores it was chosen from. */
  beamIndices: number[];
  /** The token that ended it; an open one was cut off. */
  eos?: number;
}

/** Settings of {@linkcode BeamHypotheses}. */
export interface HypothesisOptions {
  /** How many are kept. */
  size: number;
  /** Exponent of the length. */
  lengthPenalty: number;
  /** When to stop. */
  earlyStopping: EarlyStopping;
  /** Most new tokens. */
  newTokens: number;
}

/** The best `size` finished sequences. */
export class BeamHypotheses {
  /** In the order in which they came. */
  readonly beams: Hypothesis[] = [];
  /** No better one is looked for. */
  done = false;
  readonly #o: HypothesisOptions;

  /** An empty list. */
  constructor(o: HypothesisOptions) {
    this.#o = o;
  }

  /** Takes a sequence of `length` new tokens if there is room, or one that is worse. */
  add({ sum, ...sequence }: Omit<Hypothesis, "score"> & { sum: number }, length: number): void {
    const score = sum / length ** this.#o.lengthPenalty;
    if (this.beams.length >= this.#o.size && !(score > this.worst)) return;
    this.beams.push({ ...sequence, score });
    if (this.beams.length <= this.#o.size) return;
    this.beams.splice(this.beams.findIndex((beam) => beam.score === this.worst), 1);
  }

  /** The least score. */
  get worst(): number {
    return this.beams.reduce((least, { score }) => Math.min(least, score), Infinity);
  }

  /** Looks whether the list is full and good enough, `best` being the greatest sum after `length` new tokens. */
  settle(best: number, length: number): void {
    this.done ||= this.beams.length >= this.#o.size && this.#goodEnough(best, length);
  }

  #goodEnough(best: number, length: number): boolean {
    const { earlyStopping, lengthPenalty, newTokens } = this.#o;
    if (earlyStopping === true) return true;
    const longest = earlyStopping === "never" && lengthPenalty > 0 ? newTokens : length;
    return this.worst >= best / longest ** lengthPenalty;
  }
}
