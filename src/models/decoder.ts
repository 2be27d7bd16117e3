/**
 * The decoder that Llama made common: RMS norms before each block, rotary grouped attention, a gated MLP.
 *
 * @module
 */
import type { AttentionOptions } from "../cache/mod.ts";
import { rmsNorm } from "../ops/mod.ts";
import { type Embedding, type Linear, tiedEmbedding } from "../quantization/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { WeightSource } from "../weights/source.ts";
import type { ConfigReader } from "./config.ts";
import { attentionOptions, embed, type FamilyConfig, type Head, layer, loadLayers, type Pass } from "./family.ts";
import { type RopeConfig, ropeConfig } from "./rope.ts";
import { selfAttention } from "./self_attention.ts";

/** Config of such a decoder. */
export interface DecoderConfig extends FamilyConfig {
  /** Width of the MLP. */
  intermediateSize: number;
  /** Of every norm. */
  rmsNormEps: number;
  /** Of the MLP's gate. */
  hiddenAct: "silu" | "gelu" | "gelu_tanh";
  /** The output layer is the embedding's matrix. */
  tieWordEmbeddings: boolean;
  /** Rotary settings. */
  rope: RopeConfig;
}

/** Which optional tensors a family has. */
export interface DecoderBiases {
  /** Biases of the query, key and value projections. */
  qkvBias?: boolean;
  /** Bias of the output projection. */
  outputBias?: boolean;
  /** Biases of the MLP. */
  mlpBias?: boolean;
  /** RMS norms of each query and key head. */
  qkNorm?: boolean;
}

/** Weights of one layer. */
export interface DecoderLayer {
  inputLayernorm: Tensor; // [D]
  qkv: Linear; // D -> (H + 2 Hkv) Dh
  qNorm?: Tensor; // [Dh]
  kNorm?: Tensor; // [Dh]
  oProj: Linear; // H Dh -> D
  postAttentionLayernorm: Tensor; // [D]
  gateUp: Linear; // D -> 2 I
  downProj: Linear; // I -> D
}

/** The weight tree. */
export interface DecoderWeights {
  embedTokens: Embedding; // V x D
  tied?: Linear; // D -> V, where the output layer is the embedding
  layers: DecoderLayer[];
  norm: Tensor; // [D]
}

/** Activations of gated MLPs, by their names in config.json. */
export const GATES = {
  silu: "silu",
  swish: "silu",
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
} as const;

/** Reads the keys that these families share. */
export function decoderConfig(read: ConfigReader, window?: (layer: number) => number | undefined): DecoderConfig {
  const shape = read.heads("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim");
  return {
    ...shape,
    vocabSize: read.count("vocab_size"),
    maxPositionEmbeddings: read.count("max_position_embeddings", 2048),
    intermediateSize: read.count("intermediate_size"),
    rmsNormEps: read.positive("rms_norm_eps", 1e-6),
    hiddenAct: read.oneOf("hidden_act", GATES, "silu"),
    tieWordEmbeddings: read.flag("tie_word_embeddings", false),
    rope: ropeConfig(read.json, shape.headDim),
    attention: attentionOptions(read.layers("num_hidden_layers"), shape.headDim, window),
  };
}

/** Loads the weight tree. */
export async function decoderWeights(
  source: WeightSource,
  c: DecoderConfig,
  { qkvBias, outputBias, mlpBias, qkNorm }: DecoderBiases = {},
): Promise<DecoderWeights> {
  const D = c.hiddenSize, I = c.intermediateSize, Q = c.heads * c.headDim, KV = c.kvHeads * c.headDim;
  const tied = c.tieWordEmbeddings ? await source.linear("model.embed_tokens", D, c.vocabSize) : undefined;
  return {
    tied,
    embedTokens: tied ? tiedEmbedding(tied) : await source.embedding("model.embed_tokens", c.vocabSize, D),
    layers: await loadLayers(c.attention.length, async (i) => {
      const at = `model.layers.${i}`, attn = `${at}.self_attn`, mlp = `${at}.mlp`;
      return {
        inputLayernorm: await source.vector(`${at}.input_layernorm.weight`, D),
        qkv: await source.linear([`${attn}.q_proj`, `${attn}.k_proj`, `${attn}.v_proj`], D, [Q, KV, KV], {
          bias: qkvBias,
        }),
        qNorm: qkNorm ? await source.vector(`${attn}.q_norm.weight`, c.headDim) : undefined,
        kNorm: qkNorm ? await source.vector(`${attn}.k_norm.weight`, c.headDim) : undefined,
        oProj: await source.linear(`${attn}.o_proj`, Q, D, { bias: outputBias }),
        postAttentionLayernorm: await source.vector(`${at}.post_attention_layernorm.weight`, D),
        gateUp: await source.linear([`${mlp}.gate_proj`, `${mlp}.up_proj`], D, [I, I], { bias: mlpBias }),
        downProj: await source.linear(`${mlp}.down_proj`, I, D, { bias: mlpBias }),
      };
    }),
    norm: await source.vector("model.norm.weight", D),
  };
}

/** Hidden states [T, D] after the last norm. */
export function decoderForward(c: DecoderConfig, w: DecoderWeights, pass: Pass): Tensor {
  const { batch, cache, attentions } = pass;
  const { heads, kvHeads, headDim, rmsNormEps: eps } = c;
  let x = embed(w.embedTokens, batch); // [T, D]
  for (const [i, l] of w.layers.entries()) {
    const attention: AttentionOptions = { ...c.attention[i]!, weights: attentions };
    x = layer(pass, x, (x) => {
      const projection = { ...l, norm: { weight: l.inputLayernorm, eps }, heads, kvHeads, headDim, eps };
      const o = selfAttention(pass, i, x, projection, attention); // [T, H·Dh]
      const y = l.oProj.forward(o, { residual: x }); // [T, D]
      const g = l.gateUp.forward(y, { norm: { weight: l.postAttentionLayernorm, eps }, gate: c.hiddenAct }); // [T, I]
      return l.downProj.forward(g, { residual: y }); // [T, D]
    });
  }
  cache.advance(batch);
  const y = rmsNorm(x, w.norm, eps); // [T, D]
  x.dispose();
  pass.hiddenStates?.push(y);
  return y;
}

/** The output layer of a causal language model: `lm_head`, or the tied embedding. */
export const causalHead: Head<DecoderConfig, DecoderWeights> = {
  task: "causal-lm",
  perToken: true,
  async load(source, c, w) {
    const output = w.tied ?? await source.linear("lm_head", c.hiddenSize, c.vocabSize);
    return (hidden) => output.forward(hidden); // [T, V]
  },
};

/** Tensors that checkpoints of these families may hold without need. */
export const DECODER_IGNORE: readonly RegExp[] = [/rotary_emb\.inv_freq$/, /\.rotary_emb\.(cos|sin)_cached$/];
