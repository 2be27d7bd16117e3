/**
 * Qwen 2 and 2.5: Llama with biased query, key and value projections. https://arxiv.org/abs/2407.10671
 *
 * @module
 */
import { type ConfigJson, ConfigReader } from "./config.ts";
import { causalHead, DECODER_IGNORE, decoderConfig, decoderForward, decoderWeights } from "./decoder.ts";
import { defineFamily, type Family } from "./family.ts";

/** The Qwen 2 family. */
export const qwen2: Family = defineFamily({
  modelTypes: ["qwen2"],
  prefix: "model.",
  ignore: DECODER_IGNORE,
  config: (json) => decoderConfig(new ConfigReader("qwen2", json), qwenWindow("qwen2", json)),
  rope: (c) => c.rope,
  weights: (source, c) => decoderWeights(source, c, { qkvBias: true }),
  forward: decoderForward,
  heads: { Qwen2ForCausalLM: causalHead },
});

/** The window of each layer: with `use_sliding_window`, the layers from `max_window_layers` on have one. */
export function qwenWindow(family: string, json: ConfigJson): (layer: number) => number | undefined {
  const read = new ConfigReader(family, json);
  if (!read.flag("use_sliding_window", false) || json.sliding_window == null) return () => undefined;
  const window = read.count("sliding_window"), first = read.count("max_window_layers", 28, 0);
  const types = json.layer_types;
  return (layer) => (Array.isArray(types) ? types[layer] === "sliding_attention" : layer >= first) ? window : undefined;
}
