/**
 * What a forward pass takes beside the inputs, and gives.
 *
 * @module
 */
import type { Cache } from "../cache/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { HeadMask } from "./head_mask.ts";

/** What `Model.forward` gives beside the logits. */
export interface ForwardOptions {
  /** Keys and values of earlier calls; the inputs follow them, and are added. */
  cache?: Cache;
  /**
   * Where the columns of the inputs stand in the cache, padding counted: `[0, 1, …]` at first, `[n]` for the token after n.
   * Default: behind what the cache holds; anything else is an error.
   */
  cachePosition?: readonly number[];
  /** Give the embeddings, each layer's output and the final state. */
  outputHiddenStates?: boolean;
  /** Give each layer's attention probabilities; other implementations than "eager" warn once, and compute as it does. */
  outputAttentions?: boolean;
  /** [layers][heads] or [heads]: each head's probabilities are multiplied by its factor; computed as for the above. */
  headMask?: HeadMask;
}

/** What a forward pass gives; every tensor is float32, and values at padded places are zero. */
export interface ModelOutput extends Disposable {
  /** [B, S, V] of a language model, [B, S, labels] over tokens, [B, labels] over sequences. */
  logits?: Tensor;
  /** [B, S, D]. */
  lastHiddenState?: Tensor;
  /** [B, D] of a base model that has a pooler. */
  poolerOutput?: Tensor;
  /** Embeddings, then each layer's output, the last one after the final norm: [B, S, D] each. The decoder's, of two stacks. */
  hiddenStates?: Tensor[];
  /** Attention probabilities of each layer, as above: [B, H, S, S]; after a cache with a past, [B, H, S, keys]. */
  attentions?: Tensor[];
  /**
   * Of an encoder-decoder, each layer's probabilities of attention to the encoder's states: [B, H, T, S]. Keys stand where
   * their tokens do in `inputIds`; where only a cache knows of them, in order.
   */
  crossAttentions?: Tensor[];
  /** Of an encoder-decoder whose encoder ran: [B, S, D], its last hidden state. */
  encoderLastHiddenState?: Tensor;
  /** Of an encoder that ran, as `hiddenStates` are of the decoder: [B, S, D] each. */
  encoderHiddenStates?: Tensor[];
  /** Of an encoder that ran, each layer's attention probabilities: [B, H, S, S]. */
  encoderAttentions?: Tensor[];
  /** The cache that was passed in. */
  cache?: Cache;
}
