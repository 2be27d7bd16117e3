/**
 * The bookkeeping of beam search as Transformers 5 does it: a sequence that reaches the greatest length, or is stopped,
 * is finished like one that ends, and what may still come is judged by the open beams alone.
 *
 * @module
 */
import type { Hypothesis } from "./beam_hypotheses.ts";
import { type BeamOptions, BeamScorer, type Candidate } from "./beam_scorer.ts";

const FINISHED = -1e9; // added to the score of a beam that must not go on

/** As {@linkcode BeamScorer}, by the rules of Transformers 5. */
export class BeamScorerHf5 extends BeamScorer {
  readonly #stops: (ids: readonly number[]) => boolean;

  /** Scores beams of `prompts`; `stops` says which sequences end for a reason of their own. */
  constructor(
    prompts: readonly (readonly number[])[],
    o: BeamOptions,
    stops: (ids: readonly number[]) => boolean,
  ) {
    super(prompts, o);
    this.#stops = stops;
  }

  /** Sorts the `ranked` candidates of a row into finished sequences and the beams to go on with. */
  override sort(row: number, _group: number, ranked: readonly Candidate[]): readonly Candidate[] {
    const { numBeams, newTokens, eosTokenIds } = this.o, list = this.list(row);
    const length = this.beams[this.start(row)]!.tokens.length + 1;
    const judged = ranked.map((candidate) => {
      const { token, beam, score } = candidate, eos = eosTokenIds.includes(token);
      const ends = eos || length === newTokens || this.#stops([...this.beams[beam]!.ids, token]);
      return { candidate, eos, ends, open: Math.fround(ends ? score + FINISHED : score) };
    });
    for (
      const { candidate: { token, beam, score: sum }, eos } of judged.slice(0, numBeams).filter(({ ends }) => ends)
    ) {
      if (list.done) break;
      const { tokens, beamIndices } = this.beams[beam]!;
      const sequence = eos ? { tokens, eos: token } : { tokens: [...tokens, token] };
      list.add({ ...sequence, sum, beamIndices: [...beamIndices, beam] }, length);
    }
    const next = judged.sort((a, b) => b.open - a.open).slice(0, numBeams);
    list.settle(next[0]!.open, length);
    return next.map(({ candidate, open }) => ({ ...candidate, score: open }));
  }

  /** The best sequences of `row`, best first; of equals the one that came first. */
  override finish(row: number): Hypothesis[] {
    return this.list(row).beams.toSorted((a, b) => b.score - a.score).slice(0, this.o.numReturnSequences);
  }
}
