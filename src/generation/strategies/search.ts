/**
 * What every search is given, and what it records on its way.
 *
 * @module
 */
import type { HostTensor, StepModel, StepOutput, StepRequest } from "./step_model.ts";
import { NumericError } from "../../errors.ts";
import { gumbelNoise } from "../../ops/sample_logits.ts";
import { argmax, type Random } from "./math.ts";

/** What diverse beam search tells the processors. */
export interface GroupContext {
  /** The group whose scores these are. */
  groupIndex: number;
  /** [B · numBeams]: the tokens that earlier groups chose at this step; those of later ones mean nothing. */
  currentTokens: readonly number[];
}

/** All processors and warpers in order: scores [V] of each sequence, given its ids. The scores given may be changed. */
export type Process = (
  ids: readonly (readonly number[])[],
  scores: Float32Array[],
  context?: GroupContext,
) => Float32Array[] | Promise<Float32Array[]>;

/** What to record of each step. */
export interface OutputOptions {
  /** Scores after the processors. */
  outputScores?: boolean;
  /** Raw logits. */
  outputLogits?: boolean;
  /** Attention probabilities. */
  outputAttentions?: boolean;
  /** Hidden states. */
  outputHiddenStates?: boolean;
}

/** Settings that all searches share. */
export interface SearchOptions extends OutputOptions {
  /** Tokens that end a sequence. */
  eosTokenIds: readonly number[];
  /** What rows that ended go on with. */
  padToken: number;
  /** Most new tokens. */
  newTokens: number;
  /** Draw tokens instead of taking the likeliest. */
  doSample: boolean;
  /** Of the draws. */
  seed: number;
  /** Stops the search within a step. */
  signal?: AbortSignal;
}

/** What a search is given. */
export interface SearchContext<O extends SearchOptions = SearchOptions> {
  /** The model. */
  model: StepModel;
  /** Ids of the prompts, without padding. */
  prompts: readonly (readonly number[])[];
  /** Its settings. */
  o: O;
  /** The processors. */
  process: Process;
  /** Whether a sequence ends, for another reason than a token that ends sequences, or its length. */
  stops(ids: readonly number[]): boolean;
  /** Draws. */
  random: Random;
  /** Tokens that the next pass may have, so that the cache keeps them as it would one by one. Default: any number. */
  room?(): number;
  /** No processor changes the scores and nobody wants to see them: the likeliest tokens are enough. */
  plain: boolean;
}

/** What a step was made of, beside its tokens; [B · V] each, [L] and [L + 1] of [B, …]. */
export interface StepRecord {
  /** Scores after the processors. */
  scores?: Float32Array;
  /** Raw logits. */
  logits?: Float32Array;
  /** Attention probabilities of each layer. */
  attentions?: HostTensor[];
  /** The same of attention to the encoder's states, where there is one. */
  crossAttentions?: HostTensor[];
  /** Hidden states of each layer. */
  hiddenStates?: HostTensor[];
}

/** One step of a search that gives tokens as it goes. */
export interface SearchStep extends StepRecord {
  /** [B] */
  tokens: ArrayLike<number> & Iterable<number>;
  /** More tokens of the same round follow at once. */
  more?: boolean;
}

/** What to ask the model for. */
export function requestOf(o: OutputOptions, more: StepRequest = {}): StepRequest {
  return { attentions: o.outputAttentions, hiddenStates: o.outputHiddenStates, ...more };
}

/** What `o` asks to keep of a step. */
export function record(o: OutputOptions, output: StepOutput, scores: readonly Float32Array[]): StepRecord {
  return {
    ...o.outputScores && { scores: joined(scores) },
    ...o.outputLogits && { logits: joined(output.logits) },
    ...o.outputAttentions && { attentions: output.attentions, crossAttentions: output.crossAttentions },
    ...o.outputHiddenStates && { hiddenStates: output.hiddenStates },
  };
}

/** The output of sequences `rows`. */
export function pickRows(output: StepOutput, rows: readonly number[]): StepOutput {
  const pick = <T>(all: readonly T[]) => rows.map((row) => all[row]!);
  return {
    logits: output.top ? [] : pick(output.logits),
    top: output.top && pick(output.top),
    chances: output.chances && pick(output.chances),
    hidden: output.hidden && pick(output.hidden),
    layers: output.layers?.map(pick),
    attentions: output.attentions?.map((t) => tensorRows(t, rows)),
    crossAttentions: output.crossAttentions?.map((t) => tensorRows(t, rows)),
    hiddenStates: output.hiddenStates?.map((t) => tensorRows(t, rows)),
  };
}

function tensorRows({ data, shape: [B = 1, ...rest] }: HostTensor, rows: readonly number[]): HostTensor {
  const size = data.length / B, to = new Float32Array(rows.length * size);
  rows.forEach((row, b) => to.set(data.subarray(row * size, (row + 1) * size), b * size));
  return { data: to, shape: [rows.length, ...rest] };
}

function joined(rows: readonly Float32Array[]): Float32Array {
  const V = rows[0]?.length ?? 0, all = new Float32Array(rows.length * V);
  rows.forEach((row, b) => all.set(row, b * V));
  return all;
}

/** The likeliest token of `row`, or one drawn as the GPU draws it. */
export function tokenOf(scores: Float32Array, { doSample, seed }: SearchOptions, step: number, row: number): number {
  const noise = doSample ? gumbelNoise(seed, step, row) : () => 0;
  const token = argmax(scores.map((score, i) => score + noise(i)));
  if (Number.isFinite(scores[token])) return token;
  throw new NumericError(`Cannot choose token ${step + 1} of row ${row} as its scores must be finite: none is`, {
    hint: "Look at what your processors do, or allow more tokens.",
  });
}
