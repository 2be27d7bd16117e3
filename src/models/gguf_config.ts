/**
 * The config.json that a GGUF file's metadata stands for.
 *
 * @module
 */
import { ModelFormatError, NotSupportedError } from "../errors.ts";
import type { GgufHeader, GgufValue } from "../weights/gguf.ts";
import type { ConfigJson } from "./config.ts";
import { GGUF_ARCHITECTURES } from "./gguf_names.ts";

const CLASSES: Readonly<Record<string, string>> = {
  llama: "LlamaForCausalLM",
  mistral: "MistralForCausalLM",
  qwen2: "Qwen2ForCausalLM",
  qwen3: "Qwen3ForCausalLM",
  gpt2: "GPT2LMHeadModel",
};

/** The metadata of an architecture. */
interface Metadata {
  file: string;
  header: GgufHeader;
  /** The value of `ARCHITECTURE.KEY`. */
  get(key: string): GgufValue | undefined;
  /** A token's id. */
  token(name: string): number | undefined;
}

/**
 * A config.json of `header`; `frequencies` are the numbers of `rope_freqs.weight`, where it has them.
 *
 * @throws {NotSupportedError} if its architecture is not supported
 * @throws {ModelFormatError} if what every model must say is missing
 */
export function ggufConfig(header: GgufHeader, file: string, frequencies?: Float32Array): ConfigJson {
  const architecture = header.metadata.get("general.architecture");
  const known = typeof architecture === "string" && Object.hasOwn(GGUF_ARCHITECTURES, architecture);
  if (!known) {
    throw new NotSupportedError(
      `Cannot load ${file} as its architecture must be one of ${Object.keys(GGUF_ARCHITECTURES).join(", ")}: ` +
        `current value is ${JSON.stringify(architecture)}`,
    );
  }
  const metadata: Metadata = {
    file,
    header,
    get: (key) => header.metadata.get(`${architecture}.${key}`),
    token: (name) => {
      const id = header.metadata.get(`tokenizer.ggml.${name}_token_id`);
      return typeof id === "number" ? id : undefined;
    },
  };
  const modelType = familyOf(architecture, metadata);
  return {
    ...commonKeys(modelType, metadata),
    ...(modelType === "gpt2" ? gpt2(metadata) : decoder(modelType, metadata, frequencies)),
  };
}

/** Mistral's files call themselves Llama's, which they are but for the window. */
function familyOf(architecture: string, { get, header }: Metadata): string {
  const name = header.metadata.get("general.name");
  const mistral = get("attention.sliding_window") !== undefined || typeof name === "string" && /mistral/i.test(name);
  return architecture === "llama" && mistral ? "mistral" : GGUF_ARCHITECTURES[architecture]!;
}

function commonKeys(modelType: string, { header, file, token }: Metadata): ConfigJson {
  const [vocabulary] = header.tensors.get("token_embd.weight")?.shape ?? [];
  if (vocabulary === undefined) {
    throw new ModelFormatError(`Cannot load ${file} as it must hold token_embd.weight: it does not`);
  }
  const ends = [token("eos"), token("eot")].filter((id) => id !== undefined);
  return {
    architectures: [CLASSES[modelType]],
    model_type: modelType,
    vocab_size: vocabulary,
    tie_word_embeddings: !header.tensors.has("output.weight"),
    bos_token_id: token("bos") ?? null,
    eos_token_id: ends.length > 1 ? [...new Set(ends)] : ends[0] ?? null,
    pad_token_id: token("padding") ?? null,
    torch_dtype: dtypeOf(header),
  };
}

/** What matrices were before they were put into blocks: float16 unless numbers in the file say otherwise. */
function dtypeOf({ tensors }: GgufHeader): string {
  const types = new Set(tensors.values().filter(({ shape }) => shape.length > 1).map(({ type }) => type));
  if (types.has("F32") && types.size === 1) return "float32";
  return types.has("BF16") ? "bfloat16" : "float16";
}

function gpt2({ get }: Metadata): ConfigJson {
  return {
    n_embd: get("embedding_length"),
    n_head: get("attention.head_count"),
    n_layer: get("block_count"),
    n_positions: get("context_length"),
    n_inner: get("feed_forward_length"),
    layer_norm_epsilon: get("attention.layer_norm_epsilon"),
    activation_function: "gelu_new",
  };
}

function decoder(modelType: string, metadata: Metadata, frequencies: Float32Array | undefined): ConfigJson {
  const { get, header, file } = metadata, heads = get("attention.head_count"), width = get("embedding_length");
  const derived = typeof heads === "number" && typeof width === "number" ? width / heads : undefined;
  const headDim = get("attention.key_length") ?? get("rope.dimension_count") ?? derived;
  for (const key of ["attention.value_length", "rope.dimension_count"]) {
    const other = get(key);
    if (other === undefined || other === headDim) continue;
    throw new NotSupportedError(
      `Cannot load ${file} as ${key} must be the length of a key, ${headDim}: it is ${other}`,
    );
  }
  const qkvBias = header.tensors.has("blk.0.attn_q.bias");
  return {
    hidden_size: width,
    intermediate_size: get("feed_forward_length"),
    num_hidden_layers: get("block_count"),
    num_attention_heads: heads,
    num_key_value_heads: get("attention.head_count_kv") ?? heads,
    head_dim: headDim,
    max_position_embeddings: get("context_length"),
    rms_norm_eps: get("attention.layer_norm_rms_epsilon"),
    num_experts: get("expert_count"),
    hidden_act: "silu",
    ...modelType === "qwen2" ? {} : { attention_bias: qkvBias, mlp_bias: header.tensors.has("blk.0.ffn_up.bias") },
    sliding_window: modelType === "mistral" ? get("attention.sliding_window") ?? null : null,
    rope_theta: get("rope.freq_base") ?? 10000,
    rope_scaling: ropeScaling(metadata, headDim, frequencies),
  };
}

function ropeScaling({ get, file }: Metadata, headDim: unknown, frequencies?: Float32Array): ConfigJson | null {
  if (frequencies && typeof headDim === "number") {
    const theta = get("rope.freq_base");
    return ofFactors([...frequencies], headDim, typeof theta === "number" ? theta : 10000);
  }
  const type = get("rope.scaling.type") ?? "none", factor = get("rope.scaling.factor");
  const original = get("rope.scaling.original_context_length");
  switch (type) {
    case "none":
      return null;
    case "linear":
      return { rope_type: "linear", factor };
    case "yarn":
      return {
        rope_type: "yarn",
        factor,
        ...original === undefined ? {} : { original_max_position_embeddings: original },
        ...attentionFactor(get("rope.scaling.attn_factor")),
      };
    default:
      throw new NotSupportedError(
        `Cannot load ${file} as rope.scaling.type must be none, linear or yarn: current value is ${
          JSON.stringify(type)
        }`,
      );
  }
}

function attentionFactor(value: GgufValue | undefined): ConfigJson {
  return typeof value === "number" && value !== 1 ? { attention_factor: value } : {};
}

/**
 * The settings by which frequencies are divided by `factors`: Llama 3's, where they explain them, since its table does
 * not depend on the length; else the factors themselves.
 */
function ofFactors(factors: readonly number[], headDim: number, theta: number): ConfigJson {
  const factor = Math.max(...factors), [low, high] = [1, 4];
  const wavelengths = factors.map((_, i) => 2 * Math.PI * theta ** (2 * i / headDim));
  const between = factors.findIndex((f) => f > 1.001 && f < 0.999 * factor);
  const share = (f: number) => (1 / f - 1 / factor) / (1 - 1 / factor);
  const guesses = between < 0
    ? [8192]
    : [wavelengths[between]! * (share(factors[between]!) * (high - low) + low), 8192];
  for (const length of guesses.map(Math.round)) {
    const smooth = (w: number) => Math.min(1, Math.max(0, (length / w - low) / (high - low)));
    const fits = factors.every((f, i) => {
      const s = smooth(wavelengths[i]!);
      return Math.abs(f * ((1 - s) / factor + s) - 1) < 1e-4;
    });
    if (!fits) continue;
    return {
      ...{ rope_type: "llama3", factor, low_freq_factor: low, high_freq_factor: high },
      original_max_position_embeddings: length,
    };
  }
  return { rope_type: "longrope", short_factor: factors, long_factor: factors, factor: 1, attention_factor: 1 };
}
