/**
 * The fields of a generation config: names, types and defaults (semantics: G-4).
 *
 * @module
 */
import type { AnyWatermarkingConfig } from "./watermarking_config.ts";

/** Token ids, and what is added to the logit of the last of them where the others come before it. */
export type SequenceBias = readonly (readonly [ids: readonly number[], bias: number])[];

/** Fields of {@linkcode GenerationConfig}; names and meanings are those of Transformers. `null` means: not set. */
export interface GenerationConfigFields {
  /** Most tokens, prompt included. Default 20. */
  maxLength: number;
  /** Most new tokens; wins over `maxLength`. */
  maxNewTokens: number | null;
  /** No end of sequence before so many tokens, prompt included. Default 0. */
  minLength: number;
  /** No end of sequence before so many new tokens; wins over `minLength`. */
  minNewTokens: number | null;
  /** When beam search ends: true as soon as there are enough beams, false by a guess, "never" only when nothing better can come. */
  earlyStopping: boolean | "never";
  /** Seconds after which rows end; at least one token comes. */
  maxTime: number | null;
  /** Texts that end a sequence; need `tokenizer`. */
  stopStrings: string | readonly string[] | null;
  /** Draw tokens instead of taking the likeliest. Default false. */
  doSample: boolean;
  /** Beams; 1 is no beam search. Default 1. */
  numBeams: number;
  /** Groups of beams that differ from each other. Default 1. */
  numBeamGroups: number;
  /** Contrastive search: how much likeness to what came before counts against a token. */
  penaltyAlpha: number | null;
  /** DoLa: the layers that the last one is contrasted with. */
  dolaLayers: "low" | "high" | readonly number[] | null;
  /** Keep keys and values. Default true. */
  useCache: boolean;
  /** Kind of cache, where none is passed. */
  cacheImplementation: string | null;
  /** Settings of that cache. */
  cacheConfig: Readonly<Record<string, unknown>> | null;
  /** Divides the logits, when sampling. Default 1. */
  temperature: number;
  /** Draw among the k likeliest; 0 for all. Default 50. */
  topK: number;
  /** Draw among the likeliest that have this probability together. Default 1. */
  topP: number;
  /** Draw among those at least so likely as this share of the likeliest. */
  minP: number | null;
  /** Draw among the likeliest that hold this share of the entropy. */
  topH: number | null;
  /** Draw among the tokens whose information is nearest to the mean, until they have this probability together. Default 1. */
  typicalP: number;
  /** Draw among tokens at least so likely. Default 0. */
  epsilonCutoff: number;
  /** The same, but less strict where many tokens are likely. Default 0. */
  etaCutoff: number;
  /** What a token loses for each earlier group of beams that chose it in this step. Default 0. */
  diversityPenalty: number;
  /** Divides the logits of tokens that were there before (multiplies negative ones). Default 1. */
  repetitionPenalty: number;
  /** How many of a row's first tokens `repetitionPenalty` does not count; null counts all. */
  promptIgnoreLength: number | null;
  /** Divides the logits of tokens that are not in the encoder's input, above 1. Default 1. */
  encoderRepetitionPenalty: number;
  /** Subtracted from a token's logit for each time it was generated. Default 0. */
  frequencyPenalty: number;
  /** Subtracted once from the logits of tokens that were generated. Default 0. */
  presencePenalty: number;
  /** Exponent of the length that a beam's score is divided by. Default 1. */
  lengthPenalty: number;
  /** No n tokens in a row come twice; 0 for no such rule. Default 0. */
  noRepeatNgramSize: number;
  /** No n tokens in a row of the encoder's input come; 0 for no such rule. Default 0. */
  encoderNoRepeatNgramSize: number;
  /** Sequences of tokens that never come. */
  badWordsIds: readonly (readonly number[])[] | null;
  /** Sequences of tokens that must come; of a list of lists, one. */
  forceWordsIds: readonly (readonly number[] | readonly (readonly number[])[])[] | null;
  /** Constraints of constrained beam search. */
  constraints: readonly object[] | null;
  /** Make the scores log-probabilities again after all processors. Default false. */
  renormalizeLogits: boolean;
  /** The first token. */
  forcedBosTokenId: number | null;
  /** The last token, where `maxLength` ends a row. */
  forcedEosTokenId: number | readonly number[] | null;
  /** Makes NaN 0 and infinities the largest numbers. Default false. */
  removeInvalidValues: boolean;
  /** [start, factor]: the end of sequence becomes likelier with each new token after `start`. */
  exponentialDecayLengthPenalty: readonly [start: number, factor: number] | null;
  /** Tokens that never come. */
  suppressTokens: readonly number[] | null;
  /** Tokens that do not come first. */
  beginSuppressTokens: readonly number[] | null;
  /** Sequences of tokens and what is added to the logit that would complete them. */
  sequenceBias: SequenceBias | null;
  /** Tokens and what is added to their logits. */
  logitBias: Readonly<Record<number, number>> | null;
  /**
   * Let the model choose the prompt's last token anew, among those that begin as it does; needs `tokenizer`. Unlike in
   * Transformers the rest of the prompt stays as it is, with the token that begins it. Default false.
   */
  tokenHealing: boolean;
  /** Classifier-free guidance: how far to go from the logits of the negative prompt to those of the prompt, and beyond. */
  guidanceScale: number | null;
  /** Run one beam of each row at a time, and the candidates of contrastive search. */
  lowMemory: boolean | null;
  /** A watermark in the choice of tokens. */
  watermarkingConfig: AnyWatermarkingConfig | null;
  /** Sequences for each prompt. Default 1. */
  numReturnSequences: number;
  /** Give the attention weights of each step. */
  outputAttentions: boolean;
  /** Give the hidden states of each step. */
  outputHiddenStates: boolean;
  /** Give the scores after all processors, one [B, V] a step. */
  outputScores: boolean;
  /** Give the raw logits, one [B, V] a step. */
  outputLogits: boolean;
  /** Give an object with all that was asked for. */
  returnDictInGenerate: boolean;
  /** What rows that ended are filled with. Default: the first end of sequence. */
  padTokenId: number | null;
  /** The token that begins a sequence. */
  bosTokenId: number | null;
  /** Tokens that end a sequence; null for none. */
  eosTokenId: number | readonly number[] | null;
  /** What a decoder with an encoder starts with; one a row, or one for all. */
  decoderStartTokenId: number | readonly number[] | null;
  /** Tokens that the assistant drafts in a round; more than 63 are not. Default 20. */
  numAssistantTokens: number;
  /** How that number changes. Default "constant". */
  numAssistantTokensSchedule: "constant" | "heuristic" | "heuristic_transient";
  /** A draft ends with the first token that the assistant takes for less likely than this; 0: never. Default 0.4. */
  assistantConfidenceThreshold: number;
  /** Most tokens that prompt lookup drafts in a round: fewer, or none, where what it found lately was wrong. */
  promptLookupNumTokens: number | null;
  /** Longest n-gram that prompt lookup looks for. Default 2. */
  maxMatchingNgramSize: number | null;
  /** Tokens of the assistant's text that are encoded anew, where tokenizers differ. Default 10. */
  assistantLookbehind: number;
  /** The same of the model's own. Default 10. */
  targetLookbehind: number;
}

/** The default of each field. */
export const DEFAULTS: Readonly<GenerationConfigFields> = {
  maxLength: 20,
  maxNewTokens: null,
  minLength: 0,
  minNewTokens: null,
  earlyStopping: false,
  maxTime: null,
  stopStrings: null,
  doSample: false,
  numBeams: 1,
  numBeamGroups: 1,
  penaltyAlpha: null,
  dolaLayers: null,
  useCache: true,
  cacheImplementation: null,
  cacheConfig: null,
  temperature: 1,
  topK: 50,
  topP: 1,
  minP: null,
  topH: null,
  typicalP: 1,
  epsilonCutoff: 0,
  etaCutoff: 0,
  diversityPenalty: 0,
  repetitionPenalty: 1,
  promptIgnoreLength: null,
  encoderRepetitionPenalty: 1,
  frequencyPenalty: 0,
  presencePenalty: 0,
  lengthPenalty: 1,
  noRepeatNgramSize: 0,
  encoderNoRepeatNgramSize: 0,
  badWordsIds: null,
  forceWordsIds: null,
  constraints: null,
  renormalizeLogits: false,
  forcedBosTokenId: null,
  forcedEosTokenId: null,
  removeInvalidValues: false,
  exponentialDecayLengthPenalty: null,
  suppressTokens: null,
  beginSuppressTokens: null,
  sequenceBias: null,
  logitBias: null,
  tokenHealing: false,
  guidanceScale: null,
  lowMemory: null,
  watermarkingConfig: null,
  numReturnSequences: 1,
  outputAttentions: false,
  outputHiddenStates: false,
  outputScores: false,
  outputLogits: false,
  returnDictInGenerate: false,
  padTokenId: null,
  bosTokenId: null,
  eosTokenId: null,
  decoderStartTokenId: null,
  numAssistantTokens: 20,
  numAssistantTokensSchedule: "constant",
  assistantConfidenceThreshold: 0.4,
  promptLookupNumTokens: null,
  maxMatchingNgramSize: null,
  assistantLookbehind: 10,
  targetLookbehind: 10,
};

/** Names of the fields. */
export const FIELD_NAMES = Object.keys(DEFAULTS) as readonly (keyof GenerationConfigFields)[];
