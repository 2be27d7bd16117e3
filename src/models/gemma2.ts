/**
 * Gemma 2: layers that see a window and layers that see everything in turn, soft caps, norms before and after each block.
 * https://arxiv.org/abs/2408.00118
 *
 * @module
 */
import { mul, rmsNorm, softcap } from "../ops/mod.ts";
import { type Embedding, type Linear, tiedEmbedding } from "../quantization/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { WeightSource } from "../weights/source.ts";
import { ConfigReader } from "./config.ts";
import { DECODER_IGNORE, type DecoderConfig, GATES } from "./decoder.ts";
import { attentionOptions, defineFamily, embed, type Family, layer, loadLayers, type Pass } from "./family.ts";
import { ropeConfig } from "./rope.ts";
import { selfAttention } from "./self_attention.ts";

interface Gemma2Config extends DecoderConfig {
  attentionBias: boolean;
  finalSoftcap: number | undefined;
}

interface Gemma2Layer {
  inputNorm: Tensor; // [D], as all norms with 1 added
  qkv: Linear; // D -> (H + 2 Hkv) Dh
  oProj: Linear; // H Dh -> D
  postAttentionNorm: Tensor;
  preFeedforwardNorm: Tensor;
  gateUp: Linear; // D -> 2 I
  downProj: Linear; // I -> D
  postFeedforwardNorm: Tensor;
}

interface Gemma2Weights {
  tied?: Linear; // D -> V
  embedTokens: Embedding; // V x D
  scale: Tensor; // [1]
  layers: Gemma2Layer[];
  norm: Tensor; // [D]
}

const OWN = ["attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"];
const DEFAULTS = {
  head_dim: 256,
  num_key_value_heads: 4,
  sliding_window: 4096,
  attn_logit_softcapping: 50,
  final_logit_softcapping: 30,
  query_pre_attn_scalar: 256,
};

/** The Gemma 2 family. */
export const gemma2: Family = defineFamily<Gemma2Config, Gemma2Weights>({
  modelTypes: ["gemma2"],
  prefix: "model.",
  ignore: DECODER_IGNORE,
  config(json) {
    const read = new ConfigReader("gemma2", json, DEFAULTS, OWN);
    const shape = read.heads("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim");
    const layers = read.layers("num_hidden_layers");
    const types = read.layerTypes(layers, ["sliding_attention", "full_attention"]);
    const windowed = (i: number) => types ? types[i] === "sliding_attention" : i % 2 === 0;
    const cap = (key: string) => read.json[key] === null ? undefined : read.positive(key);
    const window = read.json.sliding_window === null ? undefined : read.count("sliding_window");
    const scale = read.positive("query_pre_attn_scalar") ** -0.5, softcap = cap("attn_logit_softcapping");
    const act = read.json.hidden_activation ?? read.json.hidden_act ?? "gelu_pytorch_tanh";
    return {
      ...shape,
      vocabSize: read.count("vocab_size"),
      maxPositionEmbeddings: read.count("max_position_embeddings", 8192),
      intermediateSize: read.count("intermediate_size"),
      rmsNormEps: read.positive("rms_norm_eps", 1e-6),
      hiddenAct: new ConfigReader("gemma2", { hidden_activation: act }).oneOf("hidden_activation", GATES),
      tieWordEmbeddings: read.flag("tie_word_embeddings", true),
      attentionBias: read.flag("attention_bias", false),
      finalSoftcap: cap("final_logit_softcapping"),
      rope: ropeConfig(json, shape.headDim),
      attention: attentionOptions(layers, shape.headDim, (i) => windowed(i) ? window : undefined)
        .map((options) => ({ ...options, scale, softcap })),
    };
  },
  rope: (c) => c.rope,
  async weights(source: WeightSource, c) {
    const D = c.hiddenSize, I = c.intermediateSize, Q = c.heads * c.headDim, KV = c.kvHeads * c.headDim;
    const tied = c.tieWordEmbeddings ? await source.linear("model.embed_tokens", D, c.vocabSize) : undefined;
    const norm = (name: string) => source.vector(`${name}.weight`, D, { plus: 1 });
    return {
      tied,
      embedTokens: tied ? tiedEmbedding(tied) : await source.embedding("model.embed_tokens", c.vocabSize, D),
      scale: await source.constant("embedding scale", Float32Array.of(Math.sqrt(D))),
      layers: await loadLayers(c.attention.length, async (i) => {
        const at = `model.layers.${i}`, attn = `${at}.self_attn`, mlp = `${at}.mlp`, bias = c.attentionBias;
        return {
          inputNorm: await norm(`${at}.input_layernorm`),
          qkv: await source.linear([`${attn}.q_proj`, `${attn}.k_proj`, `${attn}.v_proj`], D, [Q, KV, KV], { bias }),
          oProj: await source.linear(`${attn}.o_proj`, Q, D, { bias }),
          postAttentionNorm: await norm(`${at}.post_attention_layernorm`),
          preFeedforwardNorm: await norm(`${at}.pre_feedforward_layernorm`),
          gateUp: await source.linear([`${mlp}.gate_proj`, `${mlp}.up_proj`], D, [I, I]),
          downProj: await source.linear(`${mlp}.down_proj`, I, D),
          postFeedforwardNorm: await norm(`${at}.post_feedforward_layernorm`),
        };
      }),
      norm: await norm("model.norm"),
    };
  },
  forward(c, w, pass: Pass): Tensor {
    const { batch, cache, attentions } = pass;
    const { heads, kvHeads, headDim, rmsNormEps: eps } = c;
    let x = scaled(w, batch); // [T, D]
    for (const [i, l] of w.layers.entries()) {
      const attention = { ...c.attention[i]!, weights: attentions };
      x = layer(pass, x, (x) => {
        const projection = { qkv: l.qkv, norm: { weight: l.inputNorm, eps }, heads, kvHeads, headDim };
        const o = l.oProj.forward(selfAttention(pass, i, x, projection, attention)); // [T, D]
        const y = rmsNorm(o, l.postAttentionNorm, eps, x); // [T, D]
        const g = l.gateUp.forward(y, { norm: { weight: l.preFeedforwardNorm, eps }, gate: c.hiddenAct }); // [T, I]
        return rmsNorm(l.downProj.forward(g), l.postFeedforwardNorm, eps, y); // [T, D]
      });
    }
    cache.advance(batch);
    const y = rmsNorm(x, w.norm, eps); // [T, D]
    x.dispose();
    pass.hiddenStates?.push(y);
    return y;
  },
  heads: {
    Gemma2ForCausalLM: {
      task: "causal-lm",
      perToken: true,
      async load(source, c, w) {
        const output = w.tied ?? await source.linear("lm_head", c.hiddenSize, c.vocabSize);
        const { finalSoftcap: cap } = c;
        if (cap === undefined) return (hidden) => output.forward(hidden); // [T, V]
        return (hidden) => {
          using logits = output.forward(hidden); // [T, V]
          return softcap(logits, cap);
        };
      },
    },
  },
});

/** Embeddings, scaled. */
function scaled({ embedTokens, scale }: Gemma2Weights, batch: Pass["batch"]): Tensor {
  using tokens = embed(embedTokens, batch); // [T, D]
  return mul(tokens, scale);
}
