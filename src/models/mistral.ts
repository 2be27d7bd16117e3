/**
 * Mistral: Llama whose tokens see a sliding window. https://arxiv.org/abs/2310.06825
 *
 * @module
 */
import { ConfigReader } from "./config.ts";
import { causalHead, DECODER_IGNORE, decoderConfig, decoderForward, decoderWeights } from "./decoder.ts";
import { defineFamily, type Family } from "./family.ts";

/** The Mistral family. */
export const mistral: Family = defineFamily({
  modelTypes: ["mistral"],
  prefix: "model.",
  ignore: DECODER_IGNORE,
  config(json) {
    const read = new ConfigReader("mistral", json, { num_key_value_heads: 8, sliding_window: 4096 });
    const window = read.json.sliding_window === null ? undefined : read.count("sliding_window");
    read.layerTypes(read.layers("num_hidden_layers"), [window ? "sliding_attention" : "full_attention"]);
    return decoderConfig(read, () => window);
  },
  rope: (c) => c.rope,
  weights: (source, c) => decoderWeights(source, c),
  forward: decoderForward,
  heads: { MistralForCausalLM: causalHead },
});
