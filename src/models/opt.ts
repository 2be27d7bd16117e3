/**
 * OPT: learned positions after two that no token has, ReLU, norms before the blocks or, in opt-350m, behind them, where
 * narrower embeddings are projected too. https://arxiv.org/abs/2205.01068
 *
 * @module
 */
import { add } from "../ops/mod.ts";
import type { Activation } from "../ops/matmul.ts";
import { type Embedding, type Linear, tiedEmbedding } from "../quantization/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
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

interface OptConfig extends FamilyConfig {
  inner: number;
  embeddingDim: number;
  activation: Activation;
  normBefore: boolean;
  finalNorm: boolean;
  bias: boolean;
  tieWordEmbeddings: boolean;
}

interface OptWeights {
  tied?: Linear; // E -> V
  tokens: Embedding; // V x E
  positions: Embedding; // positions x D
  projectIn?: Linear; // E -> D
  layers: { norm: LayerNorm; qkv: Linear; out: Linear; mlpNorm: LayerNorm; fc1: Linear; fc2: Linear }[];
  norm?: LayerNorm;
  projectOut?: Linear; // D -> E
}

const SKIP = 2; // rows of the table of positions that no token has
const EPS = 1e-5; // torch's default, which no config changes
const ACTIVATIONS = { relu: "relu", gelu: "gelu", gelu_new: "gelu_tanh", silu: "silu", tanh: "tanh" } as const;

/** The OPT family. */
export const opt: Family = defineFamily<OptConfig, OptWeights>({
  modelTypes: ["opt"],
  prefix: "model.",
  ignore: [/^lm_head\.weight$/],
  config(json) {
    const read = new ConfigReader("opt", json);
    read.neutral("layer_norm_elementwise_affine", true);
    const shape = read.heads("hidden_size", "num_attention_heads");
    const normBefore = read.flag("do_layer_norm_before", true);
    return {
      ...shape,
      vocabSize: read.count("vocab_size"),
      maxPositionEmbeddings: read.count("max_position_embeddings", 2048),
      inner: read.count("ffn_dim"),
      embeddingDim: read.count("word_embed_proj_dim", shape.hiddenSize),
      activation: read.oneOf("activation_function", ACTIVATIONS, "relu"),
      normBefore,
      finalNorm: normBefore && !read.flag("_remove_final_layer_norm", false),
      bias: read.flag("enable_bias", true),
      tieWordEmbeddings: read.flag("tie_word_embeddings", true),
      attention: attentionOptions(read.layers("num_hidden_layers"), shape.headDim),
    };
  },
  async weights(source, c) {
    const D = c.hiddenSize, E = c.embeddingDim, at = "model.decoder", { bias } = c;
    const norm = (name: string) => loadLayerNorm(source, name, D, EPS);
    const tied = c.tieWordEmbeddings ? await source.linear(`${at}.embed_tokens`, E, c.vocabSize) : undefined;
    return {
      tied,
      tokens: tied ? tiedEmbedding(tied) : await source.embedding(`${at}.embed_tokens`, c.vocabSize, E),
      positions: await source.embedding(`${at}.embed_positions`, c.maxPositionEmbeddings, D, { skip: SKIP }),
      projectIn: E === D ? undefined : await source.linear(`${at}.project_in`, E, D),
      layers: await loadLayers(c.attention.length, async (i) => {
        const block = `${at}.layers.${i}`, self = `${block}.self_attn`;
        const qkv = [`${self}.q_proj`, `${self}.k_proj`, `${self}.v_proj`];
        return {
          norm: await norm(`${self}_layer_norm`),
          qkv: await source.linear(qkv, D, [D, D, D], { bias }),
          out: await source.linear(`${self}.out_proj`, D, D, { bias }),
          mlpNorm: await norm(`${block}.final_layer_norm`),
          fc1: await source.linear(`${block}.fc1`, D, c.inner, { bias }),
          fc2: await source.linear(`${block}.fc2`, c.inner, D, { bias }),
        };
      }),
      norm: c.finalNorm ? await norm(`${at}.final_layer_norm`) : undefined,
      projectOut: E === D ? undefined : await source.linear(`${at}.project_out`, D, E),
    };
  },
  forward(c, w, pass) {
    const { batch, cache, attentions } = pass, { heads, kvHeads, headDim } = c;
    const before = (norm: LayerNorm, x: Tensor) => c.normBefore ? norm(x) : x;
    const behind = (norm: LayerNorm, x: Tensor) => c.normBefore ? x : norm(x);
    let x = embedded(w, batch); // [T, D]
    for (const [i, l] of w.layers.entries()) {
      x = layer(pass, x, (x) => {
        const attention = { ...c.attention[i]!, weights: attentions };
        const projection = { qkv: l.qkv, heads, kvHeads, headDim };
        const o = selfAttention(pass, i, before(l.norm, x), projection, attention); // [T, D]
        const y = behind(l.norm, l.out.forward(o, { residual: x })); // [T, D]
        const h = l.fc1.forward(before(l.mlpNorm, y), { activation: c.activation }); // [T, I]
        return behind(l.mlpNorm, l.fc2.forward(h, { residual: y })); // [T, D]
      });
    }
    cache.advance(batch);
    const y = ends(w, x); // [T, E]
    pass.hiddenStates?.push(y);
    return y;
  },
  heads: {
    OPTForCausalLM: {
      task: "causal-lm",
      perToken: true,
      async load(source, c, w) {
        const output = w.tied ?? await source.linear("lm_head", c.embeddingDim, c.vocabSize);
        return (hidden) => output.forward(hidden); // [T, V]
      },
    },
  },
});

/** Tokens, projected where there is a projection, and positions, added. */
function embedded(w: OptWeights, batch: Pass["batch"]): Tensor {
  using tokens = embed(w.tokens, batch); // [T, E]
  using wide = w.projectIn?.forward(tokens); // [T, D]
  using positions = w.positions.forward(batch.positions); // [T, D]
  return add(wide ?? tokens, positions);
}

/** The last norm and projection, where there are any, of `x` [T, D], which they take. */
function ends({ norm, projectOut }: OptWeights, x: Tensor): Tensor {
  let y = x;
  for (const step of [norm, projectOut && ((x: Tensor) => projectOut.forward(x))]) {
    if (!step) continue;
    const next = step(y);
    y.dispose();
    y = next;
  }
  return y;
}
