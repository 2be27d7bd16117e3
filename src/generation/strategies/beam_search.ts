/**
 * Beam search, and beam sampling: the loop over the model. What becomes of the candidates is up to
 * {@linkcode BeamScorer}.
 *
 * @module
 */
import { throwIfAborted } from "../../errors.ts";
import type { Hypothesis } from "./beam_hypotheses.ts";
import { type BeamOptions, BeamScorer, type Candidate } from "./beam_scorer.ts";
import { BeamScorerHf5 } from "./beam_scorer_hf5.ts";
import { drawDistinct, logSoftmax, type Random, topK } from "./math.ts";
import type { StepOutput, TopTokens } from "./step_model.ts";
import { pickRows, record, requestOf, type SearchContext, type SearchOptions, type StepRecord } from "./search.ts";

/** Settings of beam searches. */
export type BeamSearchOptions = SearchOptions & BeamOptions & {
  /** Whose rules to follow. Default: those of Transformers 4.46. */
  profile?: "hf4" | "hf5";
  /** Run one beam of each row at a time. */
  lowMemory?: boolean | null;
};

/** What a beam search gives. */
export interface BeamResult {
  /** The best sequences of each row, best first. */
  rows: Hypothesis[][];
  /** What each step was made of; [B · numBeams] rows. */
  steps: StepRecord[];
}

/** What a way of choosing gives: one candidate of each beam, and the scores [V] of each beam to show. */
export interface Choice {
  /** What each beam becomes. */
  chosen: Candidate[];
  /** Log probabilities after the processors. */
  scores: Float32Array[];
}

/** Chooses the next beams, given the log probabilities [V] of each beam, or of a {@linkcode Few} of its tokens. */
export type ChooseBeams = (scorer: BeamScorer, logProbs: Float32Array[], few: StepOutput) => Promise<Choice>;

/** What is enough to choose by, where nobody changes or wants to see all scores. */
export interface Few {
  /** How many of the likeliest tokens. */
  top: number;
  /** Tokens that must be looked at besides, given the ids of a beam. */
  tokens?: (ids: readonly number[]) => readonly number[];
}

/**
 * Keeps the `numBeams` likeliest sequences of each row; with `doSample`, draws them.
 *
 * Source: Transformers' beam search and beam sampling (semantics: G-46 … G-52).
 */
export function beamSearch(ctx: SearchContext<BeamSearchOptions>): Promise<BeamResult> {
  const { o, process, random, stops } = ctx, few = ctx.plain && !o.doSample;
  const scorer = o.profile === "hf5" ? new BeamScorerHf5(ctx.prompts, o, stops) : new BeamScorer(ctx.prompts, o);
  return searchBeams(ctx, scorer, async (scorer, logProbs, { top }) => {
    const scores = top ? [] : await process(scorer.beams.map(({ ids }) => ids), logProbs);
    const totals = scores.map((row, beam) => addTo(row, scorer.beams[beam]!.score));
    const draws = o.doSample ? random : undefined;
    const ranked = (row: number) =>
      top
        ? rankTop(top, scorer, scorer.start(row), o.numBeams)
        : rank(totals, scorer.start(row), o.numBeams, scorer.candidates, draws);
    return { chosen: ctx.prompts.flatMap((_, row) => scorer.sort(row, 0, ranked(row))), scores };
  }, few ? { top: scorer.candidates } : undefined);
}

/** The loop of every beam search; with `few`, no more is read of the scores. */
export async function searchBeams(
  { model, prompts, o, stops }: SearchContext<BeamSearchOptions>,
  scorer: BeamScorer,
  choose: ChooseBeams,
  few?: Few,
): Promise<BeamResult> {
  const steps: StepRecord[] = [], top = few && Math.min(few.top, model.vocabSize);
  const rowOf = prompts.flatMap((_, row) => Array<number>(o.numBeams).fill(row));
  const apart = Array.from({ length: o.numBeams }, (_, beam) => prompts.map((_, row) => row * o.numBeams + beam));
  const turns = (step: number) => o.lowMemory && step > 0 ? apart : undefined;
  for (let step = 0; step < o.newTokens; step++) {
    throwIfAborted(o.signal, "generating");
    const ids = step === 0 ? prompts : scorer.beams.map((beam) => beam.ids);
    const request = requestOf(o, { top, tokens: few?.tokens && ids.map(few.tokens), turns: turns(step) });
    const given = await model.forward(ids, request);
    const output = step === 0 ? pickRows(given, rowOf) : given;
    const { chosen, scores } = await choose(scorer, output.logits.map(logSoftmax), output);
    steps.push(record(o, output, scores));
    const from = scorer.advance(chosen);
    const ended = (row: number, beam: number) => scorer.done(row) || stops(scorer.beams[beam]!.ids);
    if (step + 1 === o.newTokens || rowOf.every(ended)) break;
    await model.select(step === 0 ? from.map((beam) => rowOf[beam]!) : from);
  }
  return { rows: prompts.map((_, row) => scorer.finish(row)), steps };
}

/** The best candidates among the likeliest tokens of `count` beams from `start` on, best first. */
export function rankTop(
  top: readonly TopTokens[],
  scorer: BeamScorer,
  start: number,
  count: number,
  change = (logProb: number, _token: number) => logProb,
): Candidate[] {
  const all = top.slice(start, start + count).flatMap(({ tokens, logProbs }, i) =>
    Array.from(tokens, (token, j) => {
      const score = Math.fround(change(logProbs[j]!, token) + scorer.beams[start + i]!.score);
      return { token, score, beam: start + i };
    })
  );
  return all.sort((a, b) => b.score - a.score || a.beam - b.beam || a.token - b.token).slice(0, scorer.candidates);
}

/** `scores + sum`, rounded to float32. */
export function addTo(scores: Float32Array, sum: number): Float32Array {
  return scores.map((score) => score + sum);
}

/** The best `k` of the scores of `count` beams from `start` on, best first; with `random`, drawn. */
export function rank(
  scores: readonly Float32Array[],
  start: number,
  count: number,
  k: number,
  random?: Random,
): Candidate[] {
  const V = scores[start]!.length, flat = new Float32Array(count * V);
  for (let i = 0; i < count; i++) flat.set(scores[start + i]!, i * V);
  const best = random ? drawDistinct(flat, k, random).sort((a, b) => flat[b]! - flat[a]!) : topK(flat, k);
  return best.map((at) => ({ token: at % V, score: flat[at]!, beam: start + Math.floor(at / V) }));
}
