/**
 * What GGUF files call the tensors of each family.
 *
 * @module
 */

/** A tensor by both names. */
export interface NamedTensor {
  /** As Hugging Face's checkpoints call it. */
  readonly name: string;
  /** As GGUF files do. */
  readonly source: string;
  /** A projection of rotary heads, whose rows Llama's files have in pairs. */
  readonly rotary?: "query" | "key";
  /** Hugging Face keeps it as [in, out], GGUF as [out, in]. */
  readonly conv1d?: boolean;
}

/** Architectures of GGUF files that load, and the families that they are. */
export const GGUF_ARCHITECTURES: Readonly<Record<string, string>> = {
  llama: "llama",
  mistral: "mistral",
  qwen2: "qwen2",
  qwen3: "qwen3",
  gpt2: "gpt2",
};

const DECODER: readonly [name: string, source: string, more?: Partial<NamedTensor>][] = [
  ["input_layernorm", "attn_norm"],
  ["self_attn.q_proj", "attn_q", { rotary: "query" }],
  ["self_attn.k_proj", "attn_k", { rotary: "key" }],
  ["self_attn.v_proj", "attn_v"],
  ["self_attn.q_norm", "attn_q_norm"],
  ["self_attn.k_norm", "attn_k_norm"],
  ["self_attn.o_proj", "attn_output"],
  ["post_attention_layernorm", "ffn_norm"],
  ["mlp.gate_proj", "ffn_gate"],
  ["mlp.up_proj", "ffn_up"],
  ["mlp.down_proj", "ffn_down"],
];

const GPT2: typeof DECODER = [
  ["ln_1", "attn_norm"],
  ["attn.c_attn", "attn_qkv", { conv1d: true }],
  ["attn.c_proj", "attn_output", { conv1d: true }],
  ["ln_2", "ffn_norm"],
  ["mlp.c_fc", "ffn_up", { conv1d: true }],
  ["mlp.c_proj", "ffn_down", { conv1d: true }],
];

/** All tensors that a model of `layers` layers may have, weights and biases. */
export function ggufNames(modelType: string, layers: number): NamedTensor[] {
  const gpt2 = modelType === "gpt2";
  const ends = gpt2
    ? [["transformer.wte", "token_embd"], ["transformer.wpe", "position_embd"], ["transformer.ln_f", "output_norm"]]
    : [["model.embed_tokens", "token_embd"], ["model.norm", "output_norm"]];
  const all = [...ends, ["lm_head", "output"]].map(([name, source]) => ({ name: name!, source: source! }));
  const named: NamedTensor[] = [...all];
  for (let i = 0; i < layers; i++) {
    for (const [name, source, more] of gpt2 ? GPT2 : DECODER) {
      named.push({
        name: `${gpt2 ? "transformer.h" : "model.layers"}.${i}.${name}`,
        source: `blk.${i}.${source}`,
        ...more,
      });
    }
  }
  return named.flatMap((tensor) =>
    ["weight", "bias"].map((what) => ({
      ...tensor,
      name: `${tensor.name}.${what}`,
      source: `${tensor.source}.${what}`,
    }))
  );
}
