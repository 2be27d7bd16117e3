/**
 * The bookkeeping of beam search: which candidates go on, which are finished, which are given back. It knows no model.
 *
 * @module
 */
import { ValueError } from "../../errors.ts";
import { BeamHypotheses, type EarlyStopping, type Hypothesis } from "./beam_hypotheses.ts";

/** Settings of every beam search. */
export interface BeamOptions {
  /** Beams of each row. */
  numBeams: number;
  /** Groups that the beams are divided into. */
  numBeamGroups: number;
  /** Exponent of the length by which scores are divided. */
  lengthPenalty: number;
  /** When a row ends. */
  earlyStopping: EarlyStopping;
  /** Sequences to give for each row. */
  numReturnSequences: number;
  /** Tokens that end a sequence. */
  eosTokenIds: readonly number[];
  /** What rows that ended go on with. */
  padToken: number;
  /** Most new tokens. */
  newTokens: number;
}

/** An open sequence. */
export interface Beam {
  /** Prompt and new tokens. */
  ids: number[];
  /** Its new tokens. */
  tokens: number[];
  /** Sum of their log probabilities, rounded to float32 as it grows. */
  score: number;
  /** For each new token: the beam whose scores it was chosen from. */
  beamIndices: number[];
}

/** A token that may follow a beam. */
export interface Candidate {
  /** The token. */
  token: number;
  /** Sum of the log probabilities with it. */
  score: number;
  /** The beam, counted over all rows. */
  beam: number;
}

/** How candidates of one row become beams; constrained search has its own. */
export interface BeamRules {
  /** Whether a sequence that ends now may be given back. */
  fulfilled(ids: readonly number[]): boolean;
  /** The beams to go on with, of those that ranked best. */
  regroup(row: number, best: readonly Candidate[]): readonly Candidate[];
}

const PLAIN: BeamRules = { fulfilled: () => true, regroup: (_, best) => best };

/** Beams and finished sequences of all rows. */
export class BeamScorer {
  /** All beams: row after row, group after group. */
  beams: Beam[];
  /** Settings. */
  protected readonly o: BeamOptions;
  readonly #groupSize: number;
  readonly #lists: BeamHypotheses[];
  readonly #rules: BeamRules;

  /** The beams of `prompts`, all alike; only the first of each group counts. */
  constructor(prompts: readonly (readonly number[])[], o: BeamOptions, rules: BeamRules = PLAIN) {
    const { numBeams, numBeamGroups, lengthPenalty, earlyStopping, newTokens } = o;
    this.o = o;
    this.#rules = rules;
    const size = this.#groupSize = numBeams / numBeamGroups;
    this.beams = prompts.flatMap((prompt) =>
      Array.from({ length: numBeams }, (_, i) => ({
        ids: [...prompt],
        tokens: [],
        score: i % size === 0 ? 0 : -1e9,
        beamIndices: [],
      }))
    );
    this.#lists = prompts.flatMap(() =>
      Array.from(
        { length: numBeamGroups },
        () => new BeamHypotheses({ size, lengthPenalty, earlyStopping, newTokens }),
      )
    );
  }

  /** How many candidates of a group must be looked at. */
  get candidates(): number {
    return Math.max(2, 1 + this.o.eosTokenIds.length) * this.#groupSize;
  }

  /** Index of the first beam of a group. */
  start(row: number, group = 0): number {
    return row * this.o.numBeams + group * this.#groupSize;
  }

  /** Finished sequences of a group. */
  protected list(row: number, group = 0): BeamHypotheses {
    return this.#lists[row * this.o.numBeamGroups + group]!;
  }

  /** Whether every list of `row` is settled. */
  done(row: number): boolean {
    const { numBeamGroups: groups } = this.o, at = row * groups;
    return this.#lists.slice(at, at + groups).every((list) => list.done);
  }

  /** Sorts the `ranked` candidates of a group into finished sequences and the beams to go on with. */
  sort(row: number, group: number, ranked: readonly Candidate[]): readonly Candidate[] {
    const { eosTokenIds, padToken } = this.o, size = this.#groupSize;
    const list = this.list(row, group), start = this.start(row, group);
    if (list.done) return Array.from({ length: size }, () => ({ token: padToken, score: 0, beam: start }));
    const length = this.beams[start]!.tokens.length + 1;
    const best: Candidate[] = [];
    for (const [rank, c] of ranked.entries()) {
      if (best.length === size) break;
      if (!eosTokenIds.includes(c.token)) best.push(c);
      else if (rank < size && this.#rules.fulfilled(this.beams[c.beam]!.ids)) {
        const { tokens, beamIndices } = this.beams[c.beam]!;
        list.add({ tokens, sum: c.score, beamIndices: [...beamIndices, c.beam], eos: c.token }, length);
      }
    }
    const next = this.#rules.regroup(row, best);
    if (best.length < size) throw tooFew(size, ranked);
    list.settle(Math.max(...ranked.map(({ score }) => score)), length);
    return next;
  }

  /** Makes the chosen candidates, one of each beam, the beams; returns where each came from. */
  advance(chosen: readonly Candidate[]): number[] {
    this.beams = chosen.map(({ token, score, beam }) => {
      const { ids, tokens, beamIndices } = this.beams[beam]!;
      return { ids: [...ids, token], tokens: [...tokens, token], score, beamIndices: [...beamIndices, beam] };
    });
    return chosen.map(({ beam }) => beam);
  }

  /** The best sequences of `row`, best first; of equals the one that came later. */
  finish(row: number): Hypothesis[] {
    const { numBeamGroups: groups, numReturnSequences } = this.o;
    for (let group = 0; group < groups; group++) {
      const list = this.list(row, group);
      if (!list.done) this.#close(list, this.start(row, group));
    }
    const all = this.#lists.slice(row * groups, (row + 1) * groups).flatMap(({ beams }) => beams);
    return all.reverse().sort((a, b) => b.score - a.score).slice(0, numReturnSequences);
  }

  /** Adds the open beams; where too few keep the rules, all of them. */
  #close(list: BeamHypotheses, start: number): void {
    const open = this.beams.slice(start, start + this.#groupSize);
    const good = open.filter(({ ids }) => this.#rules.fulfilled(ids));
    const enough = good.length >= this.o.numReturnSequences;
    const spare = enough ? [] : open.filter((beam) => !good.includes(beam));
    for (const { tokens, score, beamIndices } of [...good, ...spare]) {
      list.add({ tokens, sum: score, beamIndices }, tokens.length);
    }
  }
}

function tooFew(size: number, ranked: readonly Candidate[]): ValueError {
  return new ValueError(
    `Cannot go on with beam search as ${size} of the candidates must not end the sequence: ` +
      `of ${ranked.length} too many do`,
    { hint: "Do not suppress every token but the ends of sequence." },
  );
}
