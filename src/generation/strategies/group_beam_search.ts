/**
 * Diverse beam search: groups of beams that are told to differ.
 *
 * @module
 */
import { addTo, type BeamResult, type BeamSearchOptions, rank, searchBeams } from "./beam_search.ts";
import { BeamScorer, type Candidate } from "./beam_scorer.ts";
import type { SearchContext } from "./search.ts";

/**
 * Beam search in groups, one after the other: each is penalised for the tokens that the groups before it have chosen at
 * the same step.
 *
 * Source: Vijayakumar et al. 2016, https://arxiv.org/abs/1610.02424 (semantics: G-54)
 */
export function groupBeamSearch(ctx: SearchContext<BeamSearchOptions>): Promise<BeamResult> {
  const { o, prompts, process } = ctx;
  const size = o.numBeams / o.numBeamGroups;
  return searchBeams(ctx, new BeamScorer(prompts, o), async (scorer, logProbs) => {
    const scores = [...logProbs], chosen: Candidate[] = [];
    for (let group = 0; group < o.numBeamGroups; group++) {
      const starts = prompts.map((_, row) => scorer.start(row, group));
      const beams = starts.flatMap((start) => Array.from({ length: size }, (_, i) => start + i));
      const processed = await process(
        beams.map((beam) => scorer.beams[beam]!.ids),
        beams.map((beam) => logProbs[beam]!),
        { groupIndex: group, currentTokens: scores.map((_, beam) => chosen[beam]?.token ?? 0) },
      );
      beams.forEach((beam, i) => scores[beam] = processed[i]!);
      const totals = scores.map((row, beam) => addTo(row, scorer.beams[beam]!.score));
      starts.forEach((start, row) => {
        const next = scorer.sort(row, group, rank(totals, start, size, scorer.candidates));
        next.forEach((candidate, i) => chosen[start + i] = candidate);
      });
    }
    return { chosen, scores };
  });
}
