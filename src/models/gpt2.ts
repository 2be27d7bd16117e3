/**
 * GPT-2: learned positions, layer norms, weights kept as Conv1D [in, out].
 * https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
 *
 * @module
 */
import { add } from "../ops/mod.ts";
import type { Activation } from "../ops/matmul.ts";
import { type Embedding, type Linear, tiedEmbedding } from "../quantization/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { WeightSource } from "../weights/source.ts";
import { ConfigReader } from "./config.ts";
import {
  attentionOptions,
  defineFamily,
  embed,
  type Family,
  type FamilyConfig,
  layer,
  loadLayers,
  type Pass,
} from "./family.ts";
import { type LayerNorm, loadLayerNorm } from "./layers.ts";
import { selfAttention } from "./self_attention.ts";

interface Gpt2Config extends FamilyConfig {
  inner: number;
  activation: Activation;
  eps: number;
  tieWordEmbeddings: boolean;
}

interface Gpt2Weights {
  tied?: Linear; // D -> V
  wte: Embedding; // V x D
  wpe: Embedding; // positions x D
  layers: { ln1: LayerNorm; attn: Linear; attnProj: Linear; ln2: LayerNorm; fc: Linear; proj: Linear }[];
  lnF: LayerNorm;
}

const ACTIVATIONS = {
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  gelu: "gelu",
  relu: "relu",
  silu: "silu",
  tanh: "tanh",
} as const;

/** The GPT-2 family. */
export const gpt2: Family = defineFamily({
  modelTypes: ["gpt2"],
  prefix: "transformer.",
  ignore: [/\.attn\.(masked_)?bias$/],
  config(json): Gpt2Config {
    const read = new ConfigReader("gpt2", json);
    read.neutral("scale_attn_weights", true);
    const shape = read.heads("n_embd", "n_head");
    return {
      ...shape,
      vocabSize: read.count("vocab_size"),
      maxPositionEmbeddings: read.count("n_positions", 1024),
      inner: read.count("n_inner", 4 * shape.hiddenSize),
      activation: read.oneOf("activation_function", ACTIVATIONS, "gelu_new"),
      eps: read.positive("layer_norm_epsilon", 1e-5),
      tieWordEmbeddings: read.flag("tie_word_embeddings", true),
      attention: attentionOptions(read.layers("n_layer"), shape.headDim),
    };
  },
  async weights(source: WeightSource, c): Promise<Gpt2Weights> {
    const D = c.hiddenSize, conv = { bias: true, conv1d: true };
    const tied = c.tieWordEmbeddings ? await source.linear("transformer.wte", D, c.vocabSize) : undefined;
    return {
      tied,
      wte: tied ? tiedEmbedding(tied) : await source.embedding("transformer.wte", c.vocabSize, D),
      wpe: await source.embedding("transformer.wpe", c.maxPositionEmbeddings, D),
      layers: await loadLayers(c.attention.length, async (i) => {
        const at = `transformer.h.${i}`;
        return {
          ln1: await loadLayerNorm(source, `${at}.ln_1`, D, c.eps),
          attn: await source.linear(`${at}.attn.c_attn`, D, 3 * D, conv),
          attnProj: await source.linear(`${at}.attn.c_proj`, D, D, conv),
          ln2: await loadLayerNorm(source, `${at}.ln_2`, D, c.eps),
          fc: await source.linear(`${at}.mlp.c_fc`, D, c.inner, conv),
          proj: await source.linear(`${at}.mlp.c_proj`, c.inner, D, conv),
        };
      }),
      lnF: await loadLayerNorm(source, "transformer.ln_f", D, c.eps),
    };
  },
  forward(c, w, pass: Pass): Tensor {
    const { batch, cache, attentions } = pass;
    const { heads, kvHeads, headDim } = c;
    let x = embedded(w, batch); // [T, D]
    for (const [i, l] of w.layers.entries()) {
      x = layer(pass, x, (x) => {
        const attention = { ...c.attention[i]!, weights: attentions };
        const o = selfAttention(pass, i, l.ln1(x), { qkv: l.attn, heads, kvHeads, headDim }, attention); // [T, D]
        const y = l.attnProj.forward(o, { residual: x }); // [T, D]
        const m = l.fc.forward(l.ln2(y), { activation: c.activation }); // [T, 4·D]
        return l.proj.forward(m, { residual: y }); // [T, D]
      });
    }
    cache.advance(batch);
    const y = w.lnF(x); // [T, D]
    x.dispose();
    pass.hiddenStates?.push(y);
    return y;
  },
  heads: {
    GPT2LMHeadModel: {
      task: "causal-lm",
      perToken: true,
      async load(source, c, w) {
        const output = w.tied ?? await source.linear("lm_head", c.hiddenSize, c.vocabSize);
        return (hidden) => output.forward(hidden); // [T, V]
      },
    },
  },
});

/** Tokens and positions, added. */
function embedded({ wte, wpe }: Gpt2Weights, batch: Pass["batch"]): Tensor {
  using tokens = embed(wte, batch); // [T, D]
  using positions = wpe.forward(batch.positions); // [T, D]
  return add(tokens, positions);
}
