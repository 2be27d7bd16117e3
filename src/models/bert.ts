/**
 * BERT: https://arxiv.org/abs/1810.04805, with the heads of Transformers; sentence embedders are base models.
 *
 * @module
 */
import { add, poolRows } from "../ops/mod.ts";
import type { Activation } from "../ops/matmul.ts";
import { type Embedding, type Linear, tiedEmbedding } from "../quantization/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { WeightSource } from "../weights/source.ts";
import { ConfigReader } from "./config.ts";
import {
  attentionOptions,
  defineFamily,
  type Family,
  type FamilyConfig,
  type Head,
  layer,
  loadLayers,
  type Pass,
} from "./family.ts";
import { type LayerNorm, loadLayerNorm } from "./layers.ts";
import { selfAttention } from "./self_attention.ts";

interface BertConfig extends FamilyConfig {
  intermediateSize: number;
  typeVocabSize: number;
  tieWordEmbeddings: boolean;
  activation: Activation;
  eps: number;
  labels: number;
}

interface BertWeights {
  tied?: Linear; // D -> V, of a language model whose output layer is the embedding
  words: Embedding; // V x D
  positions: Embedding; // positions x D
  types: Embedding; // segments x D
  norm: LayerNorm;
  layers: { qkv: Linear; attnOut: Linear; attnNorm: LayerNorm; up: Linear; down: Linear; norm: LayerNorm }[];
}

type BertHead = Head<BertConfig, BertWeights>;

const ACTIVATIONS = {
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  relu: "relu",
  silu: "silu",
} as const;

/** A head of one linear layer over each token. */
const overTokens = (task: BertHead["task"], name: string, outputs: (c: BertConfig) => number): BertHead => ({
  task,
  perToken: true,
  async load(source, c) {
    const output = await source.linear(name, c.hiddenSize, outputs(c), { bias: true });
    return (hidden) => output.forward(hidden); // [T, labels]
  },
});

const pooled = async (source: WeightSource, D: number): Promise<(hidden: Tensor, cuSeqlens: Tensor) => Tensor> => {
  const dense = await source.linear("bert.pooler.dense", D, D, { bias: true });
  return (hidden, cuSeqlens) => {
    using first = poolRows(hidden, cuSeqlens, "cls"); // [B, D]
    return dense.forward(first, { activation: "tanh" }); // [B, D]
  };
};

const heads: Record<string, BertHead> = {
  BertModel: {
    task: "base",
    perToken: false,
    async load(source, c) {
      if (!source.has("bert.pooler.dense.weight")) return undefined; // sentence embedders often leave it out
      const pool = await pooled(source, c.hiddenSize);
      return (hidden, batch) => pool(hidden, batch.cuSeqlens); // [B, D]
    },
  },
  BertForMaskedLM: {
    task: "masked-lm",
    perToken: true,
    async load(source, c, w) {
      const D = c.hiddenSize, at = "cls.predictions.transform";
      const dense = await source.linear(`${at}.dense`, D, D, { bias: true });
      const norm = await loadLayerNorm(source, `${at}.LayerNorm`, D, c.eps);
      const output = w.tied ?? await source.linear("cls.predictions.decoder", D, c.vocabSize);
      const bias = await source.vector("cls.predictions.bias", c.vocabSize);
      return (hidden) => {
        using h = dense.forward(hidden, { activation: c.activation }); // [T, D]
        using n = norm(h); // [T, D]
        using logits = output.forward(n); // [T, V]
        return add(logits, bias);
      };
    },
  },
  BertForSequenceClassification: {
    task: "sequence-classification",
    perToken: false,
    async load(source, c) {
      const pool = await pooled(source, c.hiddenSize);
      const classifier = await source.linear("classifier", c.hiddenSize, c.labels, { bias: true });
      return (hidden, batch) => {
        using x = pool(hidden, batch.cuSeqlens); // [B, D]
        return classifier.forward(x); // [B, labels]
      };
    },
  },
  BertForTokenClassification: overTokens("token-classification", "classifier", (c) => c.labels),
  BertForQuestionAnswering: overTokens("question-answering", "qa_outputs", () => 2),
};

/** The BERT family. */
export const bert: Family = defineFamily({
  modelTypes: ["bert"],
  prefix: "bert.",
  ignore: [/embeddings\.position_ids$/, /^cls\./, /pooler\.dense\./, /^classifier\./, /^qa_outputs\./],
  config(json): BertConfig {
    const read = new ConfigReader("bert", json);
    read.neutral("is_decoder", false);
    read.neutral("position_embedding_type", "absolute");
    const shape = read.heads("hidden_size", "num_attention_heads");
    const names = Object.keys(Object(json.id2label)).length;
    return {
      ...shape,
      vocabSize: read.count("vocab_size"),
      maxPositionEmbeddings: read.count("max_position_embeddings", 512),
      intermediateSize: read.count("intermediate_size"),
      typeVocabSize: read.count("type_vocab_size", 2),
      activation: read.oneOf("hidden_act", ACTIVATIONS, "gelu"),
      eps: read.positive("layer_norm_eps", 1e-12),
      tieWordEmbeddings: read.flag("tie_word_embeddings", true),
      labels: names || read.count("num_labels", 2),
      attention: attentionOptions(read.layers("num_hidden_layers"), shape.headDim, undefined, false),
    };
  },
  async weights(source: WeightSource, c): Promise<BertWeights> {
    const D = c.hiddenSize, I = c.intermediateSize, e = "bert.embeddings", bias = { bias: true };
    const shared = c.tieWordEmbeddings && source.has("cls.predictions.bias"); // with the output layer, if it is loaded
    const tied = shared ? await source.linear(`${e}.word_embeddings`, D, c.vocabSize) : undefined;
    return {
      tied,
      words: tied ? tiedEmbedding(tied) : await source.embedding(`${e}.word_embeddings`, c.vocabSize, D),
      positions: await source.embedding(`${e}.position_embeddings`, c.maxPositionEmbeddings, D),
      types: await source.embedding(`${e}.token_type_embeddings`, c.typeVocabSize, D),
      norm: await loadLayerNorm(source, `${e}.LayerNorm`, D, c.eps),
      layers: await loadLayers(c.attention.length, async (i) => {
        const at = `bert.encoder.layer.${i}`, self = `${at}.attention.self`;
        return {
          qkv: await source.linear([`${self}.query`, `${self}.key`, `${self}.value`], D, [D, D, D], bias),
          attnOut: await source.linear(`${at}.attention.output.dense`, D, D, bias),
          attnNorm: await loadLayerNorm(source, `${at}.attention.output.LayerNorm`, D, c.eps),
          up: await source.linear(`${at}.intermediate.dense`, D, I, bias),
          down: await source.linear(`${at}.output.dense`, I, D, bias),
          norm: await loadLayerNorm(source, `${at}.output.LayerNorm`, D, c.eps),
        };
      }),
    };
  },
  forward(c, w, pass: Pass): Tensor {
    const { batch, cache, attentions } = pass;
    const { heads, kvHeads, headDim } = c;
    let x = embed(w, pass); // [T, D]
    for (const [i, l] of w.layers.entries()) {
      x = layer(pass, x, (x) => {
        const attention = { ...c.attention[i]!, weights: attentions };
        const o = selfAttention(pass, i, x, { qkv: l.qkv, heads, kvHeads, headDim }, attention); // [T, D]
        const y = l.attnNorm(l.attnOut.forward(o, { residual: x })); // [T, D]
        return l.norm(l.down.forward(l.up.forward(y, { activation: c.activation }), { residual: y })); // [T, D]
      });
    }
    cache.advance(batch);
    pass.hiddenStates?.push(x);
    return x;
  },
  heads,
});

/** Sum of the three embeddings, normed. */
function embed(w: BertWeights, { batch }: Pass): Tensor {
  using words = w.words.forward(batch.tokens); // [T, D]
  using positions = w.positions.forward(batch.positions); // [T, D]
  using types = w.types.forward(batch.tokenTypes); // [T, D]
  using placed = add(words, positions); // [T, D]
  using x = add(placed, types); // [T, D]
  return w.norm(x);
}
