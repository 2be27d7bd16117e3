/**
 * The pipe of logits processors: which there are, and in which order they come (semantics: G-25).
 *
 * @module
 */
import type { ResolvedOptions } from "../options.ts";
import { badWords, beginSuppress, minLength, minNewTokens, sequenceBias, suppress } from "./biases.ts";
import { custom } from "./custom.ts";
import { hammingDiversity } from "./diversity.ts";
import { epsilonCutoff, etaCutoff, topH, typicalP } from "./entropy_warpers.ts";
import { followGrammar } from "./grammar.ts";
import { guidance } from "./guidance.ts";
import { exponentialDecay, forcedBos, forcedEos } from "./lengths.ts";
import { encoderNoRepeatNgram, noRepeatNgram } from "./ngrams.ts";
import { encoderRepetition, occurrence, repetition } from "./penalties.ts";
import { prefixAllowed } from "./prefix_allowed.ts";
import type { HostProcessor, Processor, ProcessorContext, ProcessorOf } from "./processor.ts";
import { removeInvalid, renormalize } from "./values.ts";
import { minP, temperature, topK, topP } from "./warpers.ts";
import { watermark } from "./watermark.ts";

export type { HostProcessor, ProcessorContext, StepState } from "./processor.ts";

/** Processors in their order; a new one is a line here. */
const PROCESSORS: readonly ProcessorOf[] = [
  guidance,
  sequenceBias,
  hammingDiversity,
  encoderRepetition,
  repetition,
  occurrence,
  noRepeatNgram,
  encoderNoRepeatNgram,
  badWords,
  minLength,
  minNewTokens,
  prefixAllowed,
  followGrammar,
  forcedBos,
  forcedEos,
  removeInvalid,
  exponentialDecay,
  suppress,
  beginSuppress,
  watermark,
  custom,
];

/** Warpers in their order, which come after the processors when tokens are drawn. */
const WARPERS: readonly ProcessorOf[] = [temperature, topH, topK, topP, minP, typicalP, epsilonCutoff, etaCutoff];

/** The processors that the options ask for, in order, without warpers. */
export function processorsOf(o: ResolvedOptions, c: ProcessorContext): Processor[] {
  return PROCESSORS.flatMap((build) => build(o, c) ?? []);
}

/** The warpers that the options ask for, in order; none where nothing is drawn. Last comes `renormalizeLogits`. */
export function warpersOf(o: ResolvedOptions, c: ProcessorContext): Processor[] {
  return [...o.doSample ? WARPERS : [], renormalize].flatMap((build) => build(o, c) ?? []);
}

/** Those of {@linkcode warpersOf} that are kernels of their own; temperature, top-k, top-p and min-p are part of the draw. */
export function entropyWarpersOf(o: ResolvedOptions, c: ProcessorContext): Processor[] {
  return warpersOf(o, c).filter(({ gpu }) => gpu);
}

/**
 * All processors and warpers in their plain form as one function, for strategies that choose on the host: it changes the
 * scores [R · V] of R rows in place, given their ids so far. What is forbidden becomes -Infinity.
 *
 * `step.currentTokens` and `step.groupIndex` are what group beams have chosen so far, `step.unconditional` the logits
 * after the negative prompt for `guidanceScale`.
 */
export function hostPipe(o: ResolvedOptions, c: ProcessorContext): HostProcessor {
  const all = [...processorsOf(o, c), ...warpersOf(o, c)];
  return (ids, scores, step) => {
    for (const { host } of all) host(ids, scores, step);
  };
}
