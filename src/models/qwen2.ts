/**
 * Qwen 2 and 2.5: Llama with biased query, key and value projections. https://arxiv.org/abs/2407.10671
 *
 * @module
 */
import { ConfigReader } from "./config.ts";
import { causalHead, DECODER_IGNORE, decoderConfig, decoderForward, decoderWeights } from "./decoder.ts";
import { defineFamily, type Family } from "./family.ts";

/** What Transformers takes for missing keys of both Qwen families. */
export const QWEN_DEFAULTS = { num_key_value_heads: 32, sliding_window: 4096, max_window_layers: 28 } as const;

/** The Qwen 2 family. */
export const qwen2: Family = defineFamily({
  modelTypes: ["qwen2"],
  prefix: "model.",
  ignore: DECODER_IGNORE,
  config(json) {
    const read = new ConfigReader("qwen2", json, QWEN_DEFAULTS);
    return decoderConfig(read, qwenWindow(read));
  },
  rope: (c) => c.rope,
  weights: (source, c) => decoderWeights(source, c, { qkvBias: true }),
  forward: decoderForward,
  heads: { Qwen2ForCausalLM: causalHead },
});

/** The window of each layer: with `use_sliding_window`, the layers from `max_window_layers` on have one. */
export function qwenWindow(read: ConfigReader): (layer: number) => number | undefined {
  const windowed = read.flag("use_sliding_window", false) && read.json.sliding_window !== null;
  const kinds = ["full_attention", ...windowed ? ["sliding_attention"] : []];
  const types = read.layerTypes(read.layers("num_hidden_layers"), kinds);
  if (!windowed) return () => undefined;
  const window = read.count("sliding_window"), first = read.count("max_window_layers", undefined, 0);
  return (layer) => (types ? types[layer] === "sliding_attention" : layer >= first) ? window : undefined;
}
