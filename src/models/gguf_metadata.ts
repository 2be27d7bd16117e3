/**
 * What GGUF files say of a model: the metadata of a config.json.
 *
 * @module
 */
import { NotSupportedError } from "../errors.ts";
import type { TypedValue } from "../weights/gguf_write.ts";
import type { ConfigJson } from "./config.ts";
import { ropeConfig } from "./rope.ts";

/** Metadata by key, in order. */
export type MetadataEntries = (readonly [key: string, value: TypedValue])[];

/** The keys of general.file_type, by the type of most matrices. */
const FILE_TYPES: Readonly<Record<string, number>> = { F32: 0, Q4_0: 2, Q8_0: 7, Q4_K: 14 };

/** The keys of an architecture that are the same number under another name. */
const GPT2: readonly [key: string, from: string][] = [
  ["context_length", "n_positions"],
  ["embedding_length", "n_embd"],
  ["block_count", "n_layer"],
  ["attention.head_count", "n_head"],
];
const DECODER: typeof GPT2 = [
  ["context_length", "max_position_embeddings"],
  ["embedding_length", "hidden_size"],
  ["block_count", "num_hidden_layers"],
  ["feed_forward_length", "intermediate_size"],
  ["attention.head_count", "num_attention_heads"],
];

/** The metadata of the model, but for its tokenizer; what GGUF cannot say is refused. */
export function modelMetadata(json: ConfigJson, name: string, type: string, headDim: number): MetadataEntries {
  const modelType = String(json.model_type), gpt2 = modelType === "gpt2";
  const architecture = modelType === "mistral" ? "llama" : modelType; // as llama.cpp's own converter calls it
  const entries: MetadataEntries = [
    ["general.architecture", { type: "string", value: architecture }],
    ["general.name", {
      type: "string",
      value: modelType === "mistral" && !/mistral/i.test(name) ? `mistral ${name}` : name,
    }],
    ["general.quantization_version", { type: "uint32", value: 2 }],
    ["general.file_type", { type: "uint32", value: FILE_TYPES[type]! }],
  ];
  const put = (key: string, value: unknown, kind: "uint32" | "float32" = "uint32") => {
    if (typeof value === "number") entries.push([`${architecture}.${key}`, { type: kind, value }]);
  };
  for (const [key, from] of gpt2 ? GPT2 : DECODER) put(key, json[from] ?? (from === "n_positions" ? 1024 : undefined));
  if (gpt2) {
    put("feed_forward_length", json.n_inner ?? 4 * (json.n_embd as number));
    put("attention.layer_norm_epsilon", json.layer_norm_epsilon ?? 1e-5, "float32");
    refuseUnless("activation_function", json.activation_function ?? "gelu_new", ["gelu_new", "gelu_pytorch_tanh"]);
    return entries;
  }
  refuseUnless("hidden_act", json.hidden_act ?? "silu", ["silu", "swish"]);
  put("attention.head_count_kv", json.num_key_value_heads ?? json.num_attention_heads);
  put("attention.layer_norm_rms_epsilon", json.rms_norm_eps ?? 1e-6, "float32");
  for (const key of ["attention.key_length", "attention.value_length", "rope.dimension_count"]) put(key, headDim);
  if (modelType === "mistral") put("attention.sliding_window", json.sliding_window);
  else refuseUnless("use_sliding_window", json.use_sliding_window ?? false, [false]);
  const rope = ropeConfig(json, headDim);
  put("rope.freq_base", rope.ropeTheta, "float32");
  if (rope.ropeType === "linear" || rope.ropeType === "yarn") {
    entries.push([`${architecture}.rope.scaling.type`, { type: "string", value: rope.ropeType }]);
    put("rope.scaling.factor", rope.factor, "float32");
    if (rope.ropeType === "yarn") put("rope.scaling.original_context_length", rope.originalMaxPositionEmbeddings);
  } else refuseUnless("rope_type", rope.ropeType, ["default", "llama3"]);
  return entries;
}

/** By what Llama 3 divides the frequencies of rotary embeddings; undefined where nothing does. */
export function ropeFactors(json: ConfigJson, headDim: number): Float32Array | undefined {
  if (json.model_type === "gpt2") return undefined;
  const rope = ropeConfig(json, headDim);
  if (rope.ropeType !== "llama3") return undefined;
  const { factor, lowFreqFactor: low, highFreqFactor: high, ropeTheta: theta } = rope;
  const length = rope.originalMaxPositionEmbeddings;
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** (2 * i / headDim);
    const smooth = Math.min(1, Math.max(0, (length / wavelength - low) / (high - low)));
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

function refuseUnless(key: string, value: unknown, known: readonly unknown[]): void {
  if (known.includes(value)) return;
  throw new NotSupportedError(
    `Cannot write GGUF as ${key} must be ${known.join(" or ")}: current value is ${JSON.stringify(value)}`,
  );
}
