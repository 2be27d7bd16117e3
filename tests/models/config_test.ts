/** Reading config.json: what is understood, and what is refused by name. */
import { cpuUsage } from "node:process";
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ModelFormatError, NotSupportedError, TensaurError } from "../../src/errors.ts";
import type { ConfigJson } from "../../src/models/config.ts";
import { MODEL_TYPES, type RopeConfig } from "../../src/models/mod.ts";
import { familyOf } from "../../src/models/registry.ts";
import { seed } from "../weights/fixture.ts";
import { TINY_CONFIGS } from "./tiny_model.ts";

type Kind = keyof typeof TINY_CONFIGS;
const read = (json: ConfigJson) => familyOf(json).config(json);
const wrong: Record<string, new (message: string) => TensaurError> = { ModelFormatError, NotSupportedError };

const scaledFrom = (original_max_position_embeddings: number): ConfigJson => ({
  rope_type: "longrope",
  factor: 4,
  original_max_position_embeddings,
  short_factor: [1, 1, 2],
  long_factor: [3, 4, 5],
});

/** What must be refused: the family, the keys that are changed, the error, and what its message must hold. */
const refused: [Kind, ConfigJson, "ModelFormatError" | "NotSupportedError", string][] = [
  ["llama", { model_type: "phi3" }, "NotSupportedError", `one of ${MODEL_TYPES.join(", ")}: current value is "phi3"`],
  ["llama", { model_type: "Llama" }, "NotSupportedError", 'current value is "Llama"'],
  ["llama", { model_type: "__proto__" }, "NotSupportedError", "model_type"],
  ["llama", { model_type: undefined }, "ModelFormatError", "must have a model_type: it has undefined"],
  ["llama", { model_type: ["llama"] }, "ModelFormatError", "must have a model_type"],

  ["llama", { hidden_act: "relu6" }, "NotSupportedError", "silu or swish"],
  ["llama", { hidden_act: "toString" }, "NotSupportedError", "hidden_act must be"],
  ["llama", { hidden_act: 3 }, "NotSupportedError", "current value is 3"],
  ["bert", { hidden_act: "quick_gelu" }, "NotSupportedError", "hidden_act"],
  ["gpt2", { activation_function: "mish" }, "NotSupportedError", "activation_function"],

  ["llama", { final_logit_softcapping: 30 }, "NotSupportedError", "final_logit_softcapping"],
  ["llama", { attn_logit_softcapping: 50 }, "NotSupportedError", "attn_logit_softcapping"],
  ["llama", { num_local_experts: 8 }, "NotSupportedError", "num_local_experts must be 0 or 1 or unset"],
  ["qwen3", { num_experts: 128 }, "NotSupportedError", "num_experts"],
  ["llama", { logit_scale: 0.5 }, "NotSupportedError", "logit_scale"],
  ["llama", { embedding_multiplier: 12 }, "NotSupportedError", "embedding_multiplier"],
  ["llama", { attention_multiplier: 0.1 }, "NotSupportedError", "attention_multiplier"],
  ["llama", { query_pre_attn_scalar: 256 }, "NotSupportedError", "query_pre_attn_scalar"],
  ["llama", { use_qk_norm: true }, "NotSupportedError", "use_qk_norm"],
  ["llama", { sliding_window: 4096 }, "NotSupportedError", "sliding_window must be unset"],
  ["llama", { attention_chunk_size: 8192 }, "NotSupportedError", "attention_chunk_size"],
  ["llama", { no_rope_layers: [1, 0] }, "NotSupportedError", "no_rope_layers"],
  ["llama", { clip_qkv: 8 }, "NotSupportedError", "clip_qkv"],
  ["llama", { alibi: true }, "NotSupportedError", "alibi"],
  ["llama", { is_encoder_decoder: true }, "NotSupportedError", "is_encoder_decoder"],
  ["llama", { use_bidirectional_attention: true }, "NotSupportedError", "use_bidirectional_attention"],
  ["llama", { pruned_heads: { 0: [1] } }, "NotSupportedError", "pruned_heads"],
  ["bert", { is_decoder: true }, "NotSupportedError", "is_decoder must be false or unset"],
  ["bert", { add_cross_attention: true }, "NotSupportedError", "add_cross_attention"],
  [
    "bert",
    { position_embedding_type: "relative_key" },
    "NotSupportedError",
    "position_embedding_type must be absolute",
  ],
  ["gpt2", { scale_attn_weights: false }, "NotSupportedError", "scale_attn_weights must be true"],
  ["gpt2", { scale_attn_weights: "no" }, "NotSupportedError", "scale_attn_weights"],
  ["gpt2", { scale_attn_by_inverse_layer_idx: true }, "NotSupportedError", "scale_attn_by_inverse_layer_idx"],
  ["opt", { layer_norm_elementwise_affine: false }, "NotSupportedError", "layer_norm_elementwise_affine must be true"],
  ["opt", { activation_function: "quick_gelu" }, "NotSupportedError", "activation_function must be relu"],
  ["opt", { word_embed_proj_dim: 0 }, "ModelFormatError", "word_embed_proj_dim must be a whole number from 1"],
  ["opt", { enable_bias: 1 }, "ModelFormatError", "enable_bias must be true or false"],

  ["llama", { layer_types: ["full_attention", "chunked_attention"] }, "NotSupportedError", '"chunked_attention"'],
  ["mistral", { layer_types: ["full_attention", "sliding_attention"] }, "NotSupportedError", '"full_attention"'],
  ["qwen2", { layer_types: ["full_attention", "sliding_attention"] }, "NotSupportedError", '"sliding_attention"'],
  ["qwen3", { layer_types: ["full_attention"] }, "ModelFormatError", "one kind for each of the 2 layers"],
  ["qwen3", { layer_types: "full_attention" }, "ModelFormatError", "layer_types must be a list"],

  [
    "llama",
    { num_attention_heads: 5, num_key_value_heads: 1 },
    "ModelFormatError",
    "hidden_size must be a multiple of num_attention_heads (5)",
  ],
  [
    "llama",
    { num_key_value_heads: 3 },
    "ModelFormatError",
    "num_key_value_heads must be a divisor of num_attention_heads (4)",
  ],
  ["llama", { num_key_value_heads: 8 }, "ModelFormatError", "num_key_value_heads"],
  ["llama", { head_dim: 5 }, "ModelFormatError", "even number from 2 to 5"],
  ["llama", { head_dim: 0 }, "ModelFormatError", "head_dim must be a whole number from 1 to 1024"],
  ["llama", { head_dim: 2 ** 20 }, "ModelFormatError", "head_dim"],
  ["bert", { num_attention_heads: 7 }, "ModelFormatError", "hidden_size must be a multiple"],
  ["gpt2", { n_head: 5 }, "ModelFormatError", "n_embd must be a multiple of n_head (5)"],
  ["gpt2", { n_embd: 2 ** 30, n_head: 1 }, "ModelFormatError", "at most 1024 times that"],

  ["llama", { hidden_size: -24 }, "ModelFormatError", "hidden_size must be a whole number from 1 to 2147483648"],
  ["llama", { hidden_size: "24" }, "ModelFormatError", 'current value is "24"'],
  ["llama", { hidden_size: 24.5 }, "ModelFormatError", "24.5"],
  ["llama", { hidden_size: NaN }, "ModelFormatError", "hidden_size"],
  ["llama", { hidden_size: undefined }, "ModelFormatError", "current value is unset"],
  ["llama", { vocab_size: 0 }, "ModelFormatError", "vocab_size"],
  ["llama", { vocab_size: 1e300 }, "ModelFormatError", "vocab_size"],
  ["llama", { intermediate_size: null }, "ModelFormatError", "intermediate_size"],
  [
    "llama",
    { num_hidden_layers: 2 ** 31 },
    "ModelFormatError",
    "num_hidden_layers must be a whole number from 1 to 4096",
  ],
  ["llama", { num_hidden_layers: [2] }, "ModelFormatError", "num_hidden_layers"],
  ["llama", { rms_norm_eps: 0 }, "ModelFormatError", "rms_norm_eps must be a positive number"],
  ["llama", { rms_norm_eps: "1e-5" }, "ModelFormatError", "rms_norm_eps"],
  ["llama", { rms_norm_eps: Infinity }, "ModelFormatError", "rms_norm_eps"],
  ["llama", { attention_bias: 1 }, "ModelFormatError", "attention_bias must be true or false"],
  ["llama", { tie_word_embeddings: "yes" }, "ModelFormatError", "tie_word_embeddings"],
  ["mistral", { sliding_window: 0 }, "ModelFormatError", "sliding_window"],
  ["qwen2", { use_sliding_window: true, sliding_window: -1 }, "ModelFormatError", "sliding_window"],
  ["gpt2", { n_positions: 1.5 }, "ModelFormatError", "n_positions"],
  ["bert", { type_vocab_size: {} }, "ModelFormatError", "type_vocab_size"],

  [
    "llama",
    { rope_scaling: { type: "mrope" } },
    "NotSupportedError",
    "default, linear, dynamic, yarn, longrope, llama3",
  ],
  ["llama", { rope_scaling: { rope_type: "linear" } }, "ModelFormatError", "it lacks factor"],
  [
    "llama",
    { rope_scaling: { rope_type: "linear", factor: -2 } },
    "ModelFormatError",
    "factor must be a positive number",
  ],
  ["llama", { rope_scaling: { rope_type: "llama3", factor: 8 } }, "ModelFormatError", "it lacks low_freq_factor"],
  ["llama", { rope_scaling: "linear" }, "ModelFormatError", "must be an object"],
  ["llama", { rope_scaling: [1] }, "ModelFormatError", "must be an object"],
  ["llama", { rope_theta: "10000" }, "ModelFormatError", "rope_theta"],
  ["llama", { rope_theta: Infinity }, "ModelFormatError", "rope_theta"],
  ["llama", { rope_scaling: scaledFrom(1) }, "ModelFormatError", "finite frequencies"],
  ["llama", { partial_rotary_factor: 2 }, "ModelFormatError", "rotary dimensions"],
  ["llama", { rope_parameters: { full_attention: {}, sliding_attention: {} } }, "ModelFormatError", "layer type"],
  [
    "llama",
    { rope_scaling: { type: "su", short_factor: ["1", "1", "1"], long_factor: [1, 1, 1] } },
    "ModelFormatError",
    "short_factor",
  ],
];

for (const [kind, change, error, text] of refused) {
  Deno.test(`familyOf().config() refuses ${kind} with ${Deno.inspect(change, { compact: true, breakLength: 200 })}`, () => {
    assertThrows(() => read({ ...TINY_CONFIGS[kind], ...change }), wrong[error], text);
  });
}

/** What must be accepted: keys that change nothing. */
const accepted: [Kind, ConfigJson][] = [
  ["llama", { quantization_config: null, pruned_heads: {}, is_encoder_decoder: false, num_local_experts: 0 }],
  ["llama", { sliding_window: null, layer_types: ["full_attention", "full_attention"], attention_dropout: 0.1 }],
  ["llama", { pretraining_tp: 2, use_cache: false, initializer_range: 0.5, torch_dtype: "float16", some_note: [] }],
  ["llama", { num_key_value_heads: null, head_dim: null, rope_scaling: null, rope_theta: null }],
  ["bert", { is_decoder: false, position_embedding_type: "absolute", gradient_checkpointing: true }],
  ["gpt2", { n_inner: null, scale_attn_weights: true, reorder_and_upcast_attn: false, attn_pdrop: 0.1 }],
  ["opt", { word_embed_proj_dim: null, dropout: 0.1, layerdrop: 0, _remove_final_layer_norm: true }],
  ["mistral", { layer_types: ["sliding_attention", "sliding_attention"] }],
  ["qwen2", { use_sliding_window: false, sliding_window: 4, layer_types: ["full_attention", "full_attention"] }],
];
for (const [kind, change] of accepted) {
  Deno.test(`familyOf().config() takes ${kind} with ${Deno.inspect(change, { compact: true, breakLength: 200 })}`, () => {
    read({ ...TINY_CONFIGS[kind], ...change });
  });
}

const without = (json: ConfigJson, ...keys: string[]): ConfigJson =>
  Object.fromEntries(Object.entries(json).filter(([key]) => !keys.includes(key)));

Deno.test("familyOf().config() fills in what transformers fills in for missing keys", () => {
  const sized = { num_attention_heads: 32, hidden_size: 64 };
  const mistral = without({ ...TINY_CONFIGS.mistral, ...sized }, "num_key_value_heads", "sliding_window");
  assertEquals(read(mistral).kvHeads, 8);
  assertEquals(read(mistral).attention.map((a) => a.window), [4096, 4096]);
  assertEquals(read({ ...mistral, sliding_window: null }).attention.map((a) => a.window), [undefined, undefined]);
  assertEquals(read(without(TINY_CONFIGS.llama, "num_key_value_heads")).kvHeads, 4);
  assertEquals(read(without(TINY_CONFIGS.qwen3, "head_dim")).headDim, 128);
  assertEquals(read({ ...TINY_CONFIGS.qwen3, head_dim: null }).headDim, 6);
  assertEquals(read(without(TINY_CONFIGS.llama, "max_position_embeddings")).maxPositionEmbeddings, 2048);
  assertEquals(read(without(TINY_CONFIGS.bert, "max_position_embeddings")).maxPositionEmbeddings, 512);
});

Deno.test("familyOf().config() gives Qwen's layers their windows", () => {
  const windows = (change: ConfigJson) =>
    read({ ...TINY_CONFIGS.qwen2, num_hidden_layers: 3, sliding_window: 4, ...change }).attention.map((a) => a.window);
  assertEquals(windows({}), [undefined, undefined, undefined]);
  assertEquals(windows({ use_sliding_window: true, max_window_layers: 1 }), [undefined, 4, 4]);
  assertEquals(windows({ use_sliding_window: true }), [undefined, undefined, undefined]); // from layer 28 on
  const layer_types = ["sliding_attention", "full_attention", "sliding_attention"];
  assertEquals(windows({ use_sliding_window: true, layer_types }), [4, undefined, 4]);
});

/** Each scaling, in both forms of config.json, and what of it must arrive. */
const scalings: [ConfigJson, Partial<Record<string, unknown>>][] = [
  [{ rope_type: "default" }, { ropeType: "default", rotaryDim: 6 }],
  [{ rope_type: "linear", factor: 4 }, { factor: 4 }],
  [{ type: "linear", factor: 4 }, { ropeType: "linear" }],
  [{ rope_type: "dynamic", factor: 2 }, { factor: 2, maxPositionEmbeddings: 96 }],
  [{ rope_type: "yarn", factor: 4, original_max_position_embeddings: 24 }, {
    betaFast: 32,
    betaSlow: 1,
    truncate: true,
  }],
  [
    scaledFrom(24),
    { shortFactor: [1, 1, 2], longFactor: [3, 4, 5], originalMaxPositionEmbeddings: 24 },
  ],
  [
    { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 32 },
    { lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositionEmbeddings: 32 },
  ],
];
for (const [scaling, want] of scalings) {
  Deno.test(`familyOf().config() reads the rotary scaling ${JSON.stringify(scaling)} in either form`, () => {
    for (const kind of ["llama", "mistral", "qwen2"] as const) {
      const forms = [{ rope_theta: 5e5, rope_scaling: scaling }, { rope_parameters: { rope_theta: 5e5, ...scaling } }];
      const [a, b] = forms.map((form) =>
        (read({ ...TINY_CONFIGS[kind], ...form }) as unknown as { rope: RopeConfig }).rope
      );
      assertEquals(a, b);
      for (const [key, value] of Object.entries({ ...want, ropeTheta: 5e5 })) {
        assertEquals((a as unknown as Record<string, unknown>)[key], value, key);
      }
    }
  });
}

const values = fc.oneof(
  fc.constantFrom(null, 0, -1, 1, 2, 1.5, NaN, Infinity, 1e308, 2 ** 31, 2 ** 53, "", "4", "__proto__", true, false),
  fc.constantFrom<unknown>([], {}, [1], ["full_attention"], { type: "linear", factor: 2 }, { rope_type: "yarn" }),
  fc.integer(),
  fc.double(),
  fc.jsonValue({ maxDepth: 2 }),
);
const keys = [...new Set(Object.values(TINY_CONFIGS).flatMap((json) => Object.keys(json)))];
const more = ["rope_scaling", "rope_parameters", "rope_theta", "head_dim", "hidden_act", "layer_types", "rms_norm_eps"];
const mutated = fc.tuple(
  fc.constantFrom(...Object.values(TINY_CONFIGS)),
  fc.array(fc.tuple(fc.constantFrom(...keys, ...more, "id2label", "architectures", "__proto__"), values), {
    minLength: 1,
    maxLength: 3,
  }),
).map(([json, changes]) => Object.fromEntries([...Object.entries(json), ...changes]) as ConfigJson);

Deno.test(`familyOf().config() of 2,000 damaged configs gives a config or a typed error within a second (seed ${seed})`, () => {
  const configs = fc.sample(mutated, { numRuns: 2000, seed });
  let refusals = 0;
  const start = cpuUsage();
  for (const json of configs) {
    try {
      const { hiddenSize, heads, kvHeads, headDim, attention } = read(json);
      assert([hiddenSize, heads / kvHeads, headDim, attention.length].every((n) => Number.isInteger(n) && n > 0));
    } catch (error) {
      assert(error instanceof TensaurError, `${JSON.stringify(json)}: ${error}`);
      assertStringIncludes(error.message, "Cannot ");
      refusals++;
    }
  }
  const { user, system } = cpuUsage(start), took = (user + system) / 1000; // the machine may be busy
  assert(took < 1000, `${took} ms`);
  assert(refusals > 500 && refusals < 1900, `${refusals} of 2000 were refused: the damage is not what it should be`);
});
