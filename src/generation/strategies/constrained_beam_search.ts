/**
 * Constrained beam search: sequences that contain what they must.
 *
 * @module
 */
import { ValueError } from "../../errors.ts";
import { addTo, type BeamResult, type BeamSearchOptions, rank, rankTop, searchBeams } from "./beam_search.ts";
import { BeamScorer, type Candidate } from "./beam_scorer.ts";
import {
  addToken,
  advances,
  allFulfilled,
  type ConstraintList,
  constraintsAfter,
  progress,
} from "./constraint_list.ts";
import type { Constraint } from "./constraints.ts";
import type { SearchContext } from "./search.ts";

/**
 * Beam search in which each beam is also continued by the tokens that its constraints need; beams are then taken in turn
 * from banks of equal progress, and a sequence ends well only with every constraint fulfilled.
 *
 * Source: Post and Vilar 2018, https://arxiv.org/abs/1804.06609 (semantics: G-56)
 *
 * @throws {ValueError} if `numBeams` is 1
 */
export function constrainedBeamSearch(
  ctx: SearchContext<BeamSearchOptions>,
  constraints: readonly Constraint[],
): Promise<BeamResult> {
  const { o, prompts, process } = ctx;
  if (o.numBeams <= 1) {
    throw new ValueError(
      `\`numBeams\` has to be an integer strictly greater than 1, but is ${o.numBeams}. For \`numBeams\` == 1, one ` +
        "should make use of `greedySearch` instead.",
    );
  }
  let sumOf: SumOf = () => NaN;
  const scorer: BeamScorer = new BeamScorer(prompts, o, {
    fulfilled: (ids) => allFulfilled(constraintsAfter(constraints, ids)),
    regroup: (row, best) => regroup(constraints, scorer, sumOf, row, best, o.numBeams),
  });
  const known = (token: number) => token < ctx.model.vocabSize;
  const wanted = (ids: readonly number[]) => advances(constraintsAfter(constraints, ids)).filter(known);
  return searchBeams(ctx, scorer, async (scorer, logProbs, { top, chances }) => {
    const scores = top ? [] : await process(scorer.beams.map(({ ids }) => ids), logProbs);
    const totals = scores.map((row, beam) => addTo(row, scorer.beams[beam]!.score));
    sumOf = chances ? sumsOf(chances, scorer, wanted) : (beam, token) => totals[beam]![token]!;
    const chosen = prompts.flatMap((_, row) => {
      const start = scorer.start(row);
      const ranked = top ? rankTop(top, scorer, start, o.numBeams) : rank(totals, start, o.numBeams, scorer.candidates);
      return scorer.sort(row, 0, ranked);
    });
    return { chosen, scores: totals };
  }, ctx.plain ? { top: scorer.candidates, tokens: wanted } : undefined);
}

/** The sum of log probabilities that a beam has with a token that it needs. */
type SumOf = (beam: number, token: number) => number;

function sumsOf(
  chances: readonly Float32Array[],
  { beams }: BeamScorer,
  wanted: (ids: readonly number[]) => readonly number[],
): SumOf {
  return (beam, token) => {
    const { ids, score } = beams[beam]!;
    return Math.fround(chances[beam]![wanted(ids).indexOf(token)]! + score);
  };
}

interface Placed extends Candidate {
  state: ConstraintList;
}

/** The best candidates and those that make progress, the next beams among them taken bank by bank. */
function regroup(
  constraints: readonly Constraint[],
  scorer: BeamScorer,
  sumOf: SumOf,
  row: number,
  best: readonly Candidate[],
  numBeams: number,
): readonly Candidate[] {
  const start = scorer.start(row);
  const idsOf = ({ beam, token }: Candidate) => [...scorer.beams[beam]!.ids, token];
  const all: Placed[] = best.map((c) => ({ ...c, state: constraintsAfter(constraints, idsOf(c)) }));
  const seen = new Set(all.map((c) => idsOf(c).join()));
  for (let beam = start; beam < start + numBeams; beam++) {
    const state = constraintsAfter(constraints, scorer.beams[beam]!.ids);
    for (const token of allFulfilled(state) ? [] : advances(state)) {
      const candidate = { token, beam, score: sumOf(beam, token) };
      const key = idsOf(candidate).join();
      if (seen.has(key)) continue;
      seen.add(key);
      all.push({ ...candidate, state: addToken(state, token) });
    }
  }
  return all.length === best.length ? best : inTurn(all, constraints).slice(0, numBeams);
}

/** The best of each bank, most progress first; then the second of each, and so on. */
function inTurn(all: readonly Placed[], constraints: readonly Constraint[]): Placed[] {
  const longest = Math.max(...constraints.map(({ length }) => length));
  const bank = ({ state }: Placed) => progress(state, longest);
  const rankOf = (placed: Placed) => Math.max(-Number.MAX_VALUE, bank(placed) * 100 + placed.score);
  const sorted = all.toSorted((a, b) => rankOf(b) - rankOf(a));
  let turn = -1, before = sorted[0] && bank(sorted[0]);
  const turns = sorted.map((placed) => {
    turn = bank(placed) === before ? turn + 1 : 0;
    before = bank(placed);
    return { placed, turn };
  });
  return turns.sort((a, b) => a.turn - b.turn).map(({ placed }) => placed);
}
