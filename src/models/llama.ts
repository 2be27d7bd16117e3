/**
 * Llama: https://arxiv.org/abs/2302.13971 (1), 2307.09288 (2), 2407.21783 (3).
 *
 * @module
 */
import { ConfigReader } from "./config.ts";
import {
  causalHead,
  DECODER_IGNORE,
  type DecoderConfig,
  decoderConfig,
  decoderForward,
  type DecoderWeights,
  decoderWeights,
} from "./decoder.ts";
import { defineFamily, type Family } from "./family.ts";

interface LlamaConfig extends DecoderConfig {
  attentionBias: boolean;
  mlpBias: boolean;
}

/** The Llama family. */
export const llama: Family = defineFamily<LlamaConfig, DecoderWeights>({
  modelTypes: ["llama"],
  prefix: "model.",
  ignore: DECODER_IGNORE,
  config(json) {
    const read = new ConfigReader("llama", json);
    read.neutral("sliding_window");
    read.layerTypes(read.layers("num_hidden_layers"), ["full_attention"]);
    return {
      ...decoderConfig(read),
      attentionBias: read.flag("attention_bias", false),
      mlpBias: read.flag("mlp_bias", false),
    };
  },
  rope: (c) => c.rope,
  weights: (source, c) =>
    decoderWeights(source, c, { qkvBias: c.attentionBias, outputBias: c.attentionBias, mlpBias: c.mlpBias }),
  forward: decoderForward,
  heads: { LlamaForCausalLM: causalHead },
});
