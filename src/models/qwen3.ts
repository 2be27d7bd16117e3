/**
 * Qwen 3: Llama whose query and key heads are RMS-normed. https://arxiv.org/abs/2505.09388
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
import { QWEN_DEFAULTS, qwenWindow } from "./qwen2.ts";

interface Qwen3Config extends DecoderConfig {
  attentionBias: boolean;
}

/** The Qwen 3 family (dense). */
export const qwen3: Family = defineFamily<Qwen3Config, DecoderWeights>({
  modelTypes: ["qwen3"],
  prefix: "model.",
  ignore: DECODER_IGNORE,
  config(json) {
    const read = new ConfigReader("qwen3", json, { ...QWEN_DEFAULTS, head_dim: 128 });
    return { ...decoderConfig(read, qwenWindow(read)), attentionBias: read.flag("attention_bias", false) };
  },
  rope: (c) => c.rope,
  weights: (source, c) => {
    const bias = c.attentionBias;
    return decoderWeights(source, c, { qkvBias: bias, outputBias: bias, qkNorm: true });
  },
  forward: decoderForward,
  heads: { Qwen3ForCausalLM: causalHead },
});
