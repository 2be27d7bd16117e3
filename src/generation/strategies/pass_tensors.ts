/**
 * What a pass of a model leaves on the GPU, and how it comes to the host.
 *
 * @module
 */
import { NumericError } from "../../errors.ts";
import { gatherRows, logSoftmax, NO_INDEX, type TopK, topK } from "../../ops/mod.ts";
import { type Tensor, tensor } from "../../tensor/mod.ts";
import { type EncoderKeys, paddedAttentions, paddedCrossAttentions, paddedRows, splitRows } from "./padded_outputs.ts";
import type { StepOutput, StepRequest, TopTokens } from "./step_model.ts";

/** Tensors of one pass, as far as they were asked for. */
export interface PassTensors {
  /** [B · last, V] */
  logits?: Tensor;
  /** [B · last, top] */
  top?: TopK;
  /** [N]: log probabilities of the tokens that were asked for, sequence after sequence. */
  chances?: Tensor;
  /** [T, D] */
  hidden?: Tensor;
  /** [B, V] each. */
  layers?: Tensor[];
  /** [T, D] each. */
  hiddenStates?: Tensor[];
  /** [H, T, keys] each. */
  attentions?: Tensor[];
  /** [H, T, encoder's tokens] each. */
  crossAttentions?: Tensor[];
}

/** What the tensors are about. */
export interface PassShape {
  /** Tokens of each sequence that were run. */
  lengths: readonly number[];
  /** Tokens that each had before. */
  past: readonly number[];
  /** V. */
  vocabSize: number;
  /** D. */
  hiddenSize: number;
  /** Of how many tokens of each sequence the log probabilities are there. */
  tokens?: readonly number[];
  /** The encoder's keys, where attention to them was asked for. */
  encoder?: EncoderKeys;
}

/** All tensors of a pass. */
export function tensorsOf({ top, ...rest }: PassTensors): Tensor[] {
  return [top?.indices, top?.logProbs, ...Object.values(rest).flat()].filter((t) => t !== undefined);
}

/** Of `logits` [B, V] the likeliest tokens, and how likely those are that `request` names. */
export function likeliest(logits: Tensor, top: number, tokens: StepRequest["tokens"] = []): PassTensors {
  const [, V = 0] = logits.shape, named = tokens.flatMap((row, b) => row.map((token) => b * V + token));
  if (named.length === 0) return { top: topK(logits, top) };
  const logProbs = logSoftmax(logits), places = tensor(logits.device, named, [named.length], "uint32");
  return { top: topK(logProbs, top), chances: gatherRows(logProbs.reshape([-1, 1]), places) };
}

/**
 * Reads them all.
 *
 * @throws {NumericError} if the logits are not finite
 */
export async function readPass(made: PassTensors, shape: PassShape): Promise<StepOutput> {
  const { lengths, past, vocabSize: V, hiddenSize: D, encoder } = shape;
  const host = async (t: Tensor) => await t.read({ early: true }) as Float32Array;
  const all = async (tensors: readonly Tensor[] | undefined) => tensors && await Promise.all(tensors.map(host));
  const [logits, top, chances, hidden, layers, hiddenStates, attentions, crossAttentions] = await Promise.all([
    made.logits && host(made.logits),
    made.top && readTop(made.top),
    made.chances && host(made.chances),
    made.hidden && host(made.hidden),
    all(made.layers),
    all(made.hiddenStates),
    all(made.attentions),
    all(made.crossAttentions),
  ]);
  if (logits?.every(Number.isFinite) === false || top?.some(({ tokens }) => tokens[0] === NO_INDEX)) throw notFinite();
  return {
    logits: logits ? splitRows(logits, V) : [],
    top,
    chances: shape.tokens && parts(chances ?? new Float32Array(), shape.tokens),
    hidden: hidden && parts(hidden, lengths.map((n) => n * D)),
    layers: layers?.map((data) => splitRows(data, V)),
    hiddenStates: hiddenStates?.map((data) => paddedRows(data, lengths)),
    attentions: attentions?.map((data) => paddedAttentions(data, lengths, past)),
    crossAttentions: encoder && crossAttentions?.map((data) => paddedCrossAttentions(data, lengths, encoder)),
  };
}

/** Consecutive parts of these lengths. */
function parts(data: Float32Array, lengths: readonly number[]): Float32Array[] {
  let end = 0;
  return lengths.map((n) => data.slice(end, end += n));
}

async function readTop({ indices, logProbs }: TopK): Promise<TopTokens[]> {
  const [rows = 0, k = 0] = indices.shape;
  const [ids, scores] = await Promise.all([indices.read({ early: true }), logProbs.read({ early: true })]);
  return Array.from({ length: rows }, (_, r) => ({
    tokens: ids.subarray(r * k, (r + 1) * k) as Uint32Array,
    logProbs: scores.subarray(r * k, (r + 1) * k) as Float32Array,
  }));
}

function notFinite(): NumericError {
  return new NumericError("Cannot choose the next tokens as the logits must be finite: they are NaN or infinite", {
    hint: 'Load the model with dtype: "float32", or check the weights.',
  });
}
