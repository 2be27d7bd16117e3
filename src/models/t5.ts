/**
 * T5: an encoder and a decoder whose scores are biased by relative position. https://arxiv.org/abs/1910.10683 (v1.1 and
 * FLAN have gated MLPs, https://arxiv.org/abs/2002.05202)
 *
 * @module
 */
import { gatherRows, mul, rmsNorm } from "../ops/mod.ts";
import type { Activation } from "../ops/matmul.ts";
import { type Embedding, type Linear, tiedEmbedding } from "../quantization/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { WeightSource } from "../weights/source.ts";
import { ConfigReader } from "./config.ts";
import { crossAttention, crossKeys } from "./cross_attention.ts";
import { defineFamily, type Family, type FamilyConfig, layer, loadLayers, type Pass } from "./family.ts";
import { relativeBuckets } from "./relative_position.ts";
import { selfAttention } from "./self_attention.ts";

interface T5Config extends FamilyConfig {
  inner: number;
  encoderLayers: number;
  activation: Activation;
  gated: boolean;
  eps: number;
  buckets: number;
  maxDistance: number;
  tieWordEmbeddings: boolean;
  scaleOutputs: boolean;
}

interface T5Layer {
  norm: Tensor; // [D]
  qkv: Linear; // D -> 3 H Dh
  o: Linear; // H Dh -> D
  cross?: { norm: Tensor; q: Linear; k: Linear; v: Linear; o: Linear };
  mlpNorm: Tensor; // [D]
  up: Linear; // D -> I, or gated 2 I
  down: Linear; // I -> D
}

interface T5Stack {
  bias: Tensor; // [buckets, H]
  places: Tensor; // [2 M + 1] the bucket of each distance
  layers: T5Layer[];
  norm: Tensor; // [D]
}

interface T5Weights {
  tied?: Linear; // D -> V
  shared: Embedding; // V x D
  outputScale: Tensor; // [1]
  encoder: T5Stack;
  decoder: T5Stack;
}

const MLPS: Readonly<Record<string, Pick<T5Config, "activation" | "gated">>> = {
  relu: { activation: "relu", gated: false },
  gelu: { activation: "gelu", gated: false },
  silu: { activation: "silu", gated: false },
  "gated-gelu": { activation: "gelu_tanh", gated: true },
  "gated-relu": { activation: "relu", gated: true },
  "gated-silu": { activation: "silu", gated: true },
};

/** The T5 family. */
export const t5: Family = defineFamily<T5Config, T5Weights>({
  modelTypes: ["t5"],
  prefix: "",
  ignore: [/^(en|de)coder\.embed_tokens\.weight$/, /EncDecAttention\.relative_attention_bias\.weight$/],
  config(json) {
    const read = new ConfigReader("t5", json, {}, ["is_encoder_decoder"]);
    const shape = read.heads("d_model", "num_heads", undefined, "d_kv"), layers = read.layers("num_layers");
    const tieWordEmbeddings = read.flag("tie_word_embeddings", true);
    const one = { scale: 1, causal: true };
    return {
      ...shape,
      ...read.oneOf("feed_forward_proj", MLPS, "relu"),
      vocabSize: read.count("vocab_size"),
      maxPositionEmbeddings: 2 ** 30, // positions are relative
      inner: read.count("d_ff"),
      encoderLayers: layers,
      eps: read.positive("layer_norm_epsilon", 1e-6),
      buckets: read.count("relative_attention_num_buckets", 32, 4),
      maxDistance: read.count("relative_attention_max_distance", 128, 2, 65_536),
      tieWordEmbeddings,
      scaleOutputs: read.flag("scale_decoder_outputs", tieWordEmbeddings),
      attention: Array.from({ length: read.count("num_decoder_layers", layers) }, () => one),
    };
  },
  async weights(source, c) {
    const D = c.hiddenSize, tied = c.tieWordEmbeddings ? await source.linear("shared", D, c.vocabSize) : undefined;
    return {
      tied,
      shared: tied ? tiedEmbedding(tied) : await source.embedding("shared", c.vocabSize, D),
      outputScale: await source.constant("output scale", Float32Array.of(c.scaleOutputs ? D ** -0.5 : 1)),
      encoder: await stack(source, c, "encoder", c.encoderLayers),
      decoder: await stack(source, c, "decoder", c.attention.length),
    };
  },
  encoder: {
    forward: (c, w, pass) => run(c, w, w.encoder, pass),
    keys: (c, w, states, i) => crossKeys(w.decoder.layers[i]!.cross!, states, c),
  },
  forward(c, w, pass) {
    const y = run(c, w, w.decoder, pass);
    pass.cache.advance(pass.batch);
    return y;
  },
  heads: {
    T5ForConditionalGeneration: {
      task: "seq2seq-lm",
      perToken: true,
      async load(source, c, w) {
        const output = w.tied ?? await source.linear("lm_head", c.hiddenSize, c.vocabSize);
        if (!c.scaleOutputs) return (hidden) => output.forward(hidden); // [T, V]
        return (hidden) => {
          using scaled = mul(hidden, w.outputScale); // [T, D]
          return output.forward(scaled);
        };
      },
    },
  },
});

async function stack(source: WeightSource, c: T5Config, at: "encoder" | "decoder", layers: number): Promise<T5Stack> {
  const D = c.hiddenSize, inner = c.heads * c.headDim, buckets = c.buckets, decodes = at === "decoder";
  const norm = (name: string) => source.vector(`${name}.layer_norm.weight`, D);
  return {
    bias: await source.vector(`${at}.block.0.layer.0.SelfAttention.relative_attention_bias.weight`, [buckets, c.heads]),
    places: await source.constant(`${at}'s buckets`, relativeBuckets(buckets, c.maxDistance, !decodes)),
    layers: await loadLayers(layers, async (i) => {
      const block = `${at}.block.${i}.layer`, self = `${block}.0.SelfAttention`, other = `${block}.1.EncDecAttention`;
      const last = `${block}.${decodes ? 2 : 1}`, mlp = `${last}.DenseReluDense`, I = c.inner;
      return {
        norm: await norm(`${block}.0`),
        qkv: await source.linear([`${self}.q`, `${self}.k`, `${self}.v`], D, [inner, inner, inner]),
        o: await source.linear(`${self}.o`, inner, D),
        cross: !decodes ? undefined : {
          norm: await norm(`${block}.1`),
          q: await source.linear(`${other}.q`, D, inner),
          k: await source.linear(`${other}.k`, D, inner),
          v: await source.linear(`${other}.v`, D, inner),
          o: await source.linear(`${other}.o`, inner, D),
        },
        mlpNorm: await norm(last),
        up: c.gated
          ? await source.linear([`${mlp}.wi_0`, `${mlp}.wi_1`], D, [I, I])
          : await source.linear(`${mlp}.wi`, D, I),
        down: await source.linear(`${mlp}.wo`, I, D),
      };
    }),
    norm: await source.vector(`${at}.final_layer_norm.weight`, D),
  };
}

/** Hidden states [T, D] of a stack after its last norm. */
function run(c: T5Config, w: T5Weights, { bias, places, layers, norm }: T5Stack, pass: Pass): Tensor {
  const { eps, heads, kvHeads, headDim } = c, causal = layers[0]!.cross !== undefined;
  const act = c.gated ? { gate: c.activation } : { activation: c.activation };
  using relativeBias = gatherRows(bias, places); // [2 M + 1, H]
  let x = w.shared.forward(pass.batch.tokens); // [T, D]
  for (const [i, l] of layers.entries()) {
    x = layer(pass, x, (x) => {
      const projection = { qkv: l.qkv, norm: { weight: l.norm, eps }, heads, kvHeads, headDim };
      const attention = { scale: 1, causal, relativeBias, weights: pass.attentions };
      let y = l.o.forward(selfAttention(pass, i, x, projection, attention), { residual: x }); // [T, D]
      if (l.cross) {
        const { q, o, norm: weight } = l.cross;
        const seen = crossAttention(pass, i, y, { q, norm: { weight, eps }, heads, headDim, scale: 1 }); // [T, H·Dh]
        y = o.forward(seen, { residual: y }); // [T, D]
      }
      const h = l.up.forward(y, { norm: { weight: l.mlpNorm, eps }, ...act }); // [T, I]
      return l.down.forward(h, { residual: y }); // [T, D]
    });
  }
  const y = rmsNorm(x, norm, eps); // [T, D]
  x.dispose();
  pass.hiddenStates?.push(y);
  return y;
}
