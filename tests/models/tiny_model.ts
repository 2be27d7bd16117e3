/** Checkpoints made by the tests: small, random, of any family, in any dtype. */
import type { Device } from "../../src/gpu/mod.ts";
import type { ConfigJson } from "../../src/models/config.ts";
import type { Task } from "../../src/models/family.ts";
import { loadModel, type LoadOptions, type Model } from "../../src/models/mod.ts";
import { familyOf } from "../../src/models/registry.ts";
import type { Embedding, Linear } from "../../src/quantization/mod.ts";
import type { Tensor } from "../../src/tensor/mod.ts";
import { toBfloat16Bits } from "../../src/tensor/dtype.ts";
import { type TensorToSave, writeSafetensors } from "../../src/weights/save.ts";
import { hasBias, type WeightSource } from "../../src/weights/source.ts";
import { randn } from "../helpers.ts";
import { TemporaryFolder } from "../weights/fixture.ts";

/** Dtypes that checkpoints are written in. */
export type StoredDtype = "F64" | "F32" | "F16" | "BF16";

const llamaLike = {
  vocab_size: 61,
  hidden_size: 24,
  intermediate_size: 37,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 96,
};

/** A config.json of each family, with sizes that no tile divides. */
export const TINY_CONFIGS = {
  llama: { ...llamaLike, model_type: "llama", architectures: ["LlamaForCausalLM"] },
  mistral: { ...llamaLike, model_type: "mistral", architectures: ["MistralForCausalLM"], sliding_window: 5 },
  qwen2: { ...llamaLike, model_type: "qwen2", architectures: ["Qwen2ForCausalLM"], tie_word_embeddings: true },
  qwen3: { ...llamaLike, model_type: "qwen3", architectures: ["Qwen3ForCausalLM"], head_dim: 10 },
  gemma2: {
    ...llamaLike,
    model_type: "gemma2",
    architectures: ["Gemma2ForCausalLM"],
    head_dim: 10,
    query_pre_attn_scalar: 8,
    sliding_window: 5,
    attn_logit_softcapping: 4,
    final_logit_softcapping: 3,
  },
  mamba: {
    model_type: "mamba",
    architectures: ["MambaForCausalLM"],
    vocab_size: 61,
    hidden_size: 24,
    intermediate_size: 37,
    num_hidden_layers: 2,
    state_size: 5,
    conv_kernel: 3,
    time_step_rank: 3,
  },
  gpt2: {
    model_type: "gpt2",
    architectures: ["GPT2LMHeadModel"],
    vocab_size: 61,
    n_embd: 24,
    n_head: 4,
    n_layer: 2,
    n_positions: 96,
  },
  opt: {
    model_type: "opt",
    architectures: ["OPTForCausalLM"],
    vocab_size: 61,
    hidden_size: 24,
    ffn_dim: 37,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    max_position_embeddings: 96,
    word_embed_proj_dim: 24,
  },
  bert: {
    model_type: "bert",
    architectures: ["BertForMaskedLM"],
    vocab_size: 61,
    hidden_size: 24,
    intermediate_size: 37,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    max_position_embeddings: 96,
    type_vocab_size: 2,
  },
} as const satisfies Record<string, ConfigJson>;

const bartLike = {
  is_encoder_decoder: true,
  vocab_size: 61,
  d_model: 24,
  encoder_layers: 2,
  encoder_attention_heads: 2,
  encoder_ffn_dim: 37,
  decoder_layers: 1,
  decoder_attention_heads: 4,
  decoder_ffn_dim: 29,
  decoder_start_token_id: 2,
  pad_token_id: 1,
};

/** The same of encoder-decoders. */
export const TINY_ENCODER_DECODERS = {
  t5: {
    model_type: "t5",
    architectures: ["T5ForConditionalGeneration"],
    is_encoder_decoder: true,
    vocab_size: 61,
    d_model: 24,
    d_kv: 10,
    d_ff: 37,
    num_heads: 3,
    num_layers: 1,
    num_decoder_layers: 2,
    feed_forward_proj: "gated-gelu",
    relative_attention_num_buckets: 8,
    relative_attention_max_distance: 7,
    tie_word_embeddings: false,
    decoder_start_token_id: 0,
    pad_token_id: 0,
  },
  bart: {
    ...bartLike,
    model_type: "bart",
    architectures: ["BartForConditionalGeneration"],
    max_position_embeddings: 40,
    scale_embedding: true,
  },
  whisper: {
    ...bartLike,
    model_type: "whisper",
    architectures: ["WhisperForConditionalGeneration"],
    num_mel_bins: 5,
    max_source_positions: 6,
    max_target_positions: 40,
  },
} as const satisfies Record<string, ConfigJson>;

/** Names and shapes of the tensors that a model of `config` reads. */
export async function tensorShapes(config: ConfigJson): Promise<Map<string, number[]>> {
  const shapes = new Map<string, number[]>();
  const source: WeightSource = {
    has: () => true,
    vector(name, length) {
      shapes.set(name, [length].flat());
      return Promise.resolve({} as Tensor);
    },
    constant: () => Promise.resolve({} as Tensor),
    linear(names, inputs, outputs, { bias, conv1d, window } = {}) {
      for (const [i, name] of [names].flat().entries()) {
        const n = [outputs].flat()[i]!;
        shapes.set(`${name}.weight`, window ? [n, inputs / window, window] : conv1d ? [inputs, n] : [n, inputs]);
        if (hasBias(bias, i)) shapes.set(`${name}.bias`, [n]);
      }
      return Promise.resolve({} as Linear);
    },
    embedding(name, rows, width, { skip = 0 } = {}) {
      shapes.set(`${name}.weight`, [skip + rows, width]);
      return Promise.resolve({} as Embedding);
    },
  };
  const family = familyOf(config), sizes = family.config(config);
  const [architecture = ""] = Array.isArray(config.architectures) ? config.architectures : [];
  await family.heads[architecture]?.load(source, sizes, await family.weights(source, sizes));
  return shapes;
}

/** Numbers of `dtype` as the bytes of a checkpoint. */
export function bytesOf(numbers: Float32Array | Float64Array, dtype: StoredDtype): Uint8Array {
  const array = {
    F64: () => Float64Array.from(numbers),
    F32: () => Float32Array.from(numbers),
    F16: () => Float16Array.from(numbers),
    BF16: () => Uint16Array.from(numbers, toBfloat16Bits),
  }[dtype]();
  return new Uint8Array(array.buffer);
}

/** How {@linkcode writeModel} differs from config.json. */
export interface WriteOptions {
  /** Dtype of all tensors. Default "F32". */
  dtype?: StoredDtype;
  /** Seed of the numbers. */
  seed?: number;
  /** Changes the list of tensors before it is written. */
  edit?: (tensors: Map<string, TensorToSave>) => void;
}

/** Writes config.json and random weights; matrices are spread about 0, vectors about 1. */
export async function writeModel(
  folder: TemporaryFolder,
  config: ConfigJson,
  { dtype = "F32", seed = 1, edit }: WriteOptions = {},
): Promise<void> {
  folder.write("config.json", config);
  const tensors = new Map<string, TensorToSave>();
  for (const [name, shape] of await tensorShapes(config)) {
    const size = shape.reduce((product, n) => product * n, 1);
    const centre = shape.length === 1 ? 1 : 0;
    const numbers = randn(size, seed + hashOf(name)).map((x) => centre + 0.3 * x);
    tensors.set(name, { name, dtype, shape, data: bytesOf(numbers, dtype) });
  }
  edit?.(tensors);
  await writeSafetensors(`${folder.path}/model.safetensors`, tensors.values());
}

/** A tensor's numbers depend on its name, not on what else there is. */
function hashOf(name: string): number {
  return [...name].reduce((hash, c) => (31 * hash + c.charCodeAt(0)) % 65_521, 0);
}

/** A random model of `kind` in float32. */
export async function tinyModel(
  device: Device,
  kind: keyof typeof TINY_CONFIGS,
  options: LoadOptions & { task?: Task } = {},
): Promise<Model> {
  using folder = new TemporaryFolder();
  await writeModel(folder, TINY_CONFIGS[kind]);
  return await loadModel(folder.path, { device, dtype: "float32", ...options });
}
