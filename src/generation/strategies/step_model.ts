/**
 * What a search needs of a model: logits after sequences, and a cache that follows the search. A {@linkcode Model} is one
 * by way of `gpu_step_model.ts`; a closed-form function is one in the tests.
 *
 * @module
 */

/** What to give beside the logits of the last token. */
export interface StepRequest {
  /** Of how many last tokens of each sequence the logits are wanted. Default 1. */
  last?: number;
  /** Instead of logits, give so many of the likeliest tokens: little to read. */
  top?: number;
  /** Give the last hidden state of every token that is run. */
  hidden?: boolean;
  /** With `top`: tokens of each sequence whose log probabilities are wanted too. */
  tokens?: readonly (readonly number[])[];
  /** All sequences, in lists that run one after the other, for little memory. Default: all at once. */
  turns?: readonly (readonly number[])[];
  /** Hidden states to apply the output layer to, 0 being the embeddings: for DoLa. */
  layers?: readonly number[];
  /** Give the attention probabilities of every layer. */
  attentions?: boolean;
  /** Give the hidden states of every layer. */
  hiddenStates?: boolean;
}

/** A tensor on the host. */
export interface HostTensor {
  /** Elements, row-major. */
  data: Float32Array;
  /** Length of each dimension. */
  shape: readonly number[];
}

/** The likeliest tokens, likeliest first; of equals the lower one first. */
export interface TopTokens {
  /** [top] */
  tokens: ArrayLike<number>;
  /** [top]: their log probabilities. */
  logProbs: Float32Array;
}

/** What a step gives. */
export interface StepOutput {
  /** [B · last] of [V]: raw logits of the last tokens of each sequence; none with `top`. */
  logits: Float32Array[];
  /** [B · last], with `top`. */
  top?: TopTokens[];
  /** [B] of log probabilities, with `tokens`. */
  chances?: Float32Array[];
  /** [B] of [tokens that were run · D]. */
  hidden?: Float32Array[];
  /** [layers][B] of [V]: logits of the last token, from an earlier layer. */
  layers?: Float32Array[][];
  /** [L] of [B, H, tokens, keys]. */
  attentions?: HostTensor[];
  /** [L] of [B, H, tokens, encoder's tokens], with the attentions of a model that has an encoder. */
  crossAttentions?: HostTensor[];
  /** [L + 1] of [B, tokens, D]. */
  hiddenStates?: HostTensor[];
}

/** A model with a cache, as searches see it. */
export interface StepModel {
  /** V. */
  readonly vocabSize: number;
  /** Whether the output layer is the embedding. */
  readonly tied: boolean;
  /** Number of layers. */
  readonly layers: number;
  /** Runs of each sequence what the cache does not hold yet, and keeps it. */
  forward(ids: readonly (readonly number[])[], request?: StepRequest): Promise<StepOutput>;
  /** Makes sequence b what sequence `rows[b]` was; there may be more or fewer of them. */
  select(rows: readonly number[]): Promise<void>;
  /** Keeps of sequence b the first `lengths[b]` tokens at most. */
  crop(lengths: readonly number[]): void;
}
