/**
 * Diverse beam search: groups of beams that are told to differ.
 *
 * @module
 */
import { addTo, type BeamResult, type BeamSearchOptions, rank, rankTop, searchBeams } from "./beam_search.ts";
import { BeamScorer, type Candidate } from "./beam_scorer.ts";
import type { SearchContext } from "./search.ts";
import type { TopTokens } from "./step_model.ts";

/** Settings of {@linkcode groupBeamSearch}. */
export type GroupBeamOptions = BeamSearchOptions & {
  /** What a token loses for each earlier group that chose it in this step. */
  diversityPenalty: number;
};

/**
 * Beam search in groups, one after the other: each is penalised for the tokens that the groups before it have chosen at
 * the same step.
 *
 * Source: Vijayakumar et al. 2016, https://arxiv.org/abs/1610.02424 (semantics: G-54)
 */
export function groupBeamSearch(ctx: SearchContext<GroupBeamOptions>): Promise<BeamResult> {
  const { o, prompts, process } = ctx;
  const size = o.numBeams / o.numBeamGroups, scorer = new BeamScorer(prompts, o);
  // a penalty can only take tokens away that earlier groups chose: so many more hold the best
  const few = ctx.plain ? { top: scorer.candidates + o.numBeams - size } : undefined;
  return searchBeams(ctx, scorer, async (scorer, logProbs, { top }) => {
    const scores = [...logProbs], chosen: Candidate[] = [];
    for (let group = 0; group < o.numBeamGroups; group++) {
      const starts = prompts.map((_, row) => scorer.start(row, group));
      const totals = top ? [] : await penalise(starts, group);
      starts.forEach((start, row) => {
        const ranked = top ? penalised(top, start, row) : rank(totals, start, size, scorer.candidates);
        const next = scorer.sort(row, group, ranked);
        next.forEach((candidate, i) => chosen[start + i] = candidate);
      });
    }
    return { chosen, scores: top ? [] : scores };

    /** Puts a group's scores through the processors; returns the sums of all beams with them. */
    async function penalise(starts: readonly number[], group: number): Promise<Float32Array[]> {
      const beams = starts.flatMap((start) => Array.from({ length: size }, (_, i) => start + i));
      const processed = await process(
        beams.map((beam) => scorer.beams[beam]!.ids),
        beams.map((beam) => logProbs[beam]!),
        { groupIndex: group, currentTokens: scores.map((_, beam) => chosen[beam]?.token ?? 0) },
      );
      beams.forEach((beam, i) => scores[beam] = processed[i]!);
      return scores.map((row, beam) => addTo(row, scorer.beams[beam]!.score));
    }

    /** The same for the likeliest tokens alone. */
    function penalised(top: readonly TopTokens[], start: number, row: number): Candidate[] {
      const taken = chosen.slice(scorer.start(row), start).map(({ token }) => token);
      const loses = (logProb: number, token: number) =>
        taken.reduce((sum, other) => other === token ? Math.fround(sum - o.diversityPenalty) : sum, logProb);
      return rankTop(top, scorer, start, size, loses);
    }
  }, few);
}
