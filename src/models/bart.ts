/**
 * BART: an encoder and a decoder with learned positions. https://arxiv.org/abs/1910.13461
 *
 * @module
 */
import { add, mul } from "../ops/mod.ts";
import { type Embedding, type Linear, tiedEmbedding } from "../quantization/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import { type BartConfig, bartConfig, type BartLayer, bartLayers, bartNorm, runBart } from "./bart_stack.ts";
import { ConfigReader } from "./config.ts";
import { crossKeys } from "./cross_attention.ts";
import { defineFamily, type Family, type Pass } from "./family.ts";
import type { LayerNorm } from "./layers.ts";

interface Stack {
  positions: Embedding; // positions x D
  norm: LayerNorm; // of the embeddings
  layers: BartLayer[];
}

interface BartWeights {
  tied?: Linear; // D -> V
  shared: Embedding; // V x D
  scale: Tensor; // [1]
  encoder: Stack;
  decoder: Stack;
}

const SKIP = 2; // the table of positions begins with two that no token has

/** The BART family. */
export const bart: Family = defineFamily<BartConfig, BartWeights>({
  modelTypes: ["bart"],
  prefix: "model.",
  ignore: [/^(model\.)?(en|de)coder\.embed_tokens\.weight$/, /^final_logits_bias$/, /^lm_head\.weight$/],
  config(json) {
    const read = new ConfigReader("bart", json, {}, ["is_encoder_decoder"]);
    const off = ["normalize_before", "add_final_layer_norm", "static_position_embeddings", "add_bias_logits"];
    for (const key of off) read.neutral(key, false);
    read.neutral("normalize_embedding", true);
    const config = bartConfig(read, "max_position_embeddings");
    return { ...config, maxEncoderPositions: config.maxPositionEmbeddings, normBefore: false, keyBias: true };
  },
  async weights(source, c) {
    const D = c.hiddenSize,
      tied = c.tieWordEmbeddings ? await source.linear("model.shared", D, c.vocabSize) : undefined;
    const stack = async (at: "encoder" | "decoder"): Promise<Stack> => ({
      positions: await source.embedding(`model.${at}.embed_positions`, c.maxPositionEmbeddings, D, { skip: SKIP }),
      norm: await bartNorm(source, `model.${at}.layernorm_embedding`, c),
      layers: await bartLayers(source, c, at),
    });
    return {
      tied,
      shared: tied ? tiedEmbedding(tied) : await source.embedding("model.shared", c.vocabSize, D),
      scale: await source.constant("embedding scale", Float32Array.of(c.embeddingScale)),
      encoder: await stack("encoder"),
      decoder: await stack("decoder"),
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
    BartForConditionalGeneration: {
      task: "seq2seq-lm",
      perToken: true,
      async load(source, c, w) {
        const output = w.tied ?? await source.linear("lm_head", c.hiddenSize, c.vocabSize);
        if (!source.has("final_logits_bias")) return (hidden) => output.forward(hidden); // [T, V]
        const bias = await source.vector("final_logits_bias", [1, c.vocabSize]);
        return (hidden) => {
          using logits = output.forward(hidden); // [T, V]
          return add(logits, bias.reshape([c.vocabSize]));
        };
      },
    },
  },
});

/** Hidden states [T, D] of a stack. */
function run(c: BartConfig, w: BartWeights, { positions, norm, layers }: Stack, pass: Pass): Tensor {
  using embedded = w.shared.forward(pass.batch.tokens); // [T, D]
  using tokens = mul(embedded, w.scale); // [T, D]
  using places = positions.forward(pass.batch.positions); // [T, D]
  using x = add(tokens, places); // [T, D]
  const y = runBart(c, layers, norm(x), pass);
  pass.hiddenStates?.push(y);
  return y;
}
