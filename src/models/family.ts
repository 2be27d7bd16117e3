/**
 * What a model family has to say: its config, its weights, its forward pass, its heads.
 *
 * @module
 */
import type { AttentionOptions, Batch, Cache, MambaCacheOptions } from "../cache/mod.ts";
import { add } from "../ops/mod.ts";
import type { Embedding } from "../quantization/mod.ts";
import { expectShape, type Tensor, tidy } from "../tensor/mod.ts";
import type { WeightSource } from "../weights/source.ts";
import type { ConfigJson } from "./config.ts";
import type { RopeConfig } from "./rope.ts";

/** What a model is loaded for. */
export type Task =
  | "causal-lm"
  | "seq2seq-lm"
  | "masked-lm"
  | "sequence-classification"
  | "token-classification"
  | "question-answering"
  | "base";

/** What every family's config has. */
export interface FamilyConfig {
  /** Number of token ids. */
  vocabSize: number;
  /** D. */
  hiddenSize: number;
  /** Number of segments, for families whose tokens have one. */
  typeVocabSize?: number;
  /** Positions that the model was made for. */
  maxPositionEmbeddings: number;
  /** How each layer attends. */
  attention: readonly AttentionOptions[];
  /** H, Hkv and Dh. */
  heads: number;
  /** Key and value heads. */
  kvHeads: number;
  /** Length of a head. */
  headDim: number;
  /** Of layers that keep states instead of keys: their sizes. */
  states?: MambaCacheOptions;
  /** Most tokens that an encoder takes, where there is such a number. */
  maxEncoderPositions?: number;
  /** What an encoder takes instead of tokens: [B, channels, frames], of which it makes `states` states each. */
  features?: { channels: number; frames: number; states: number };
}

/** One forward pass. */
export interface Pass {
  /** The tokens. */
  batch: Batch;
  /** What attends, and remembers. */
  cache: Cache;
  /** Rotary table that reaches `batch.maxPosition`, for families with rotary embeddings. */
  table?: Tensor;
  /** Of an encoder that takes no tokens: [B, channels, frames]. */
  features?: Tensor;
  /** If given, the input of each layer and the final state are pushed here. */
  hiddenStates?: Tensor[];
  /** If given, each layer's attention probabilities [H, T, S] are pushed here. */
  attentions?: Tensor[];
  /** If given, each layer's probabilities of attention to the encoder's states, [H, T, S], are pushed here. */
  crossAttentions?: Tensor[];
  /** If given, what the result of each layer's attention [T, H·Dh] is multiplied by: [H·Dh] a layer. */
  headMask?: readonly Tensor[];
}

/** What a pass may leave beside its last hidden state. */
export type Collected = Pick<Pass, "hiddenStates" | "attentions" | "crossAttentions">;

/** What stands on a model's last hidden state. */
export interface Head<Config, Weights> {
  /** What it is for. */
  task: Task;
  /** Whether its logits are one row a token (else one row a sequence). */
  perToken: boolean;
  /** Loads its weights and returns how it is applied; undefined where the checkpoint has no such head. */
  load(source: WeightSource, config: Config, weights: Weights): Promise<ApplyHead | undefined>;
}

/** Hidden states [T, D] to logits [T or B, …]; of a base model, to its pooled output [B, D]. */
export type ApplyHead = (hidden: Tensor, batch: Batch) => Tensor;

/** The first stack of an encoder-decoder. */
export interface Encoder<Config, Weights> {
  /** Hidden states [S, D] of the encoder. */
  forward(config: Config, weights: Weights, pass: Pass): Tensor;
  /** Keys and values [S, Hkv, Dh] that the decoder's `layer` attends to, of the encoder's `states` [S, D]. */
  keys(config: Config, weights: Weights, states: Tensor, layer: number): { k: Tensor; v: Tensor };
}

/** A family of models. This is all a model file has to say. */
export interface Family<Config extends FamilyConfig = FamilyConfig, Weights = unknown> {
  /** `model_type` in config.json, aliases included. */
  readonly modelTypes: readonly string[];
  /** Prefix of the base model's tensors, which some checkpoints leave out. */
  readonly prefix: string;
  /** Tensors that some checkpoints hold and nothing needs. */
  readonly ignore: readonly RegExp[];
  /** Reads config.json. */
  config(json: ConfigJson): Config;
  /** Rotary settings, where there are any. */
  rope?(config: Config): RopeConfig;
  /** The typed weight tree. */
  weights(source: WeightSource, config: Config): Promise<Weights>;
  /** What runs before the decoder, in encoder-decoders. */
  readonly encoder?: Encoder<Config, Weights>;
  /** Hidden states [T, D] of the last layer; of the decoder's, in encoder-decoders. */
  forward(config: Config, weights: Weights, pass: Pass): Tensor;
  /** Heads by the architecture's name in config.json. */
  readonly heads: Readonly<Record<string, Head<Config, Weights>>>;
}

/** A family for the registry: its own types stay its own. */
export function defineFamily<Config extends FamilyConfig, Weights>(family: Family<Config, Weights>): Family {
  return family as unknown as Family;
}

/** Runs one layer: its temporaries, and its input unless hidden states are collected, return to the pool. */
export function layer(pass: Pass, x: Tensor, fn: (x: Tensor) => Tensor): Tensor {
  const { attentions, crossAttentions } = pass, kept = attentions?.length, keptCross = crossAttentions?.length;
  const { y } = tidy(x.device, () => {
    const y = fn(x);
    return { y, attentions: attentions?.slice(kept), crossAttentions: crossAttentions?.slice(keptCross) };
  });
  if (pass.hiddenStates) pass.hiddenStates.push(x);
  else x.dispose();
  return y;
}

/** Embeddings [T, D] of a batch's tokens; of those that came as embeddings, these. */
export function embed(table: Embedding, { tokens, embeds }: Batch): Tensor {
  const known = table.forward(tokens); // [T, D]
  if (!embeds) return known;
  expectShape("generate", "inputsEmbeds", embeds, [tokens.size, table.embeddingDim]);
  try {
    return add(known, embeds);
  } finally {
    known.dispose();
  }
}

/** How each of `layers` layers attends. */
export function attentionOptions(
  layers: number,
  headDim: number,
  window: (layer: number) => number | undefined = () => undefined,
  causal = true,
): AttentionOptions[] {
  return Array.from({ length: layers }, (_, i) => ({ scale: 1 / Math.sqrt(headDim), causal, window: window(i) }));
}

/** Loads `layers` layers one after the other. */
export async function loadLayers<T>(layers: number, load: (layer: number) => Promise<T>): Promise<T[]> {
  const out: T[] = [];
  for (let i = 0; i < layers; i++) out.push(await load(i));
  return out;
}
