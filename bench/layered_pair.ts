/**
 * A target and a draft that agree by construction: Llamas with random float16 weights, the draft being the target's first
 * layers. What the target's later layers write into the residual stream is halved again and again, so that the two seldom
 * choose differently while the target costs what its shape costs.
 */
import { type TensorToSave, writeSafetensors } from "../src/weights/save.ts";
import type { LlamaShape } from "./random_model.ts";

/** The shape of the peers' bench-120m: 158 million weights. */
export const BENCH_120M: LlamaShape = {
  vocab_size: 16384,
  hidden_size: 1024,
  intermediate_size: 2816,
  num_hidden_layers: 12,
  num_attention_heads: 16,
  num_key_value_heads: 8,
};

/** The folders of the pair. */
export interface LayeredPair {
  target: string;
  draft: string;
}

/** Which layers the draft has, and how much the target's others matter. */
export interface PairOptions {
  /** Layers of the draft. */
  layers: number;
  /** How often what the target's later layers add is halved. */
  halvings: number;
}

/** Writes the pair below `folder`. */
export async function makeLayeredPair(folder: string, shape: LlamaShape, o: PairOptions): Promise<LayeredPair> {
  const target = `${folder}/target`, draft = `${folder}/draft`;
  await write(target, shape, o);
  await write(draft, { ...shape, num_hidden_layers: o.layers }, o);
  return { target, draft };
}

async function write(folder: string, shape: LlamaShape, { layers, halvings }: PairOptions): Promise<void> {
  const config = { model_type: "llama", architectures: ["LlamaForCausalLM"], tie_word_embeddings: true, ...shape };
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify({ ...config, max_position_embeddings: 2048 }));
  const D = shape.hidden_size, I = shape.intermediate_size, tensors: TensorToSave[] = [];
  const add = (name: string, dims: number[], data: (n: number) => Generator<Uint8Array>) => {
    const made = data(dims.reduce((product, n) => product * n));
    tensors.push({
      name,
      dtype: "F16",
      shape: dims,
      data: (async function* () {
        yield* made;
      })(),
    });
  };
  const ones = (n: number) => constant(n, 0x3c00);
  const kv = D / shape.num_attention_heads * shape.num_key_value_heads;
  add("model.embed_tokens.weight", [shape.vocab_size, D], (n) => noise(n, 1));
  add("model.norm.weight", [D], ones);
  for (let i = 0; i < shape.num_hidden_layers; i++) {
    const at = `model.layers.${i}`, less = i < layers ? 0 : halvings, seed = 100 * (i + 1);
    for (const [p, rows, j] of [["q", D, 1], ["k", kv, 2], ["v", kv, 3]] as const) {
      add(`${at}.self_attn.${p}_proj.weight`, [rows, D], (n) => noise(n, seed + j));
    }
    add(`${at}.self_attn.o_proj.weight`, [D, D], (n) => noise(n, seed + 4, less));
    add(`${at}.mlp.gate_proj.weight`, [I, D], (n) => noise(n, seed + 5));
    add(`${at}.mlp.up_proj.weight`, [I, D], (n) => noise(n, seed + 6));
    add(`${at}.mlp.down_proj.weight`, [D, I], (n) => noise(n, seed + 7, less));
    for (const norm of ["input", "post_attention"]) add(`${at}.${norm}_layernorm.weight`, [D], ones);
  }
  await writeSafetensors(`${folder}/model.safetensors`, tensors);
}

function* constant(n: number, bits: number): Generator<Uint8Array> {
  yield new Uint8Array(new Uint16Array(n).fill(bits).buffer);
}

/** `n` float16 numbers of either sign from 1/128 to 1/32, halved so many times; they depend only on `seed`. */
function* noise(n: number, seed: number, halvings = 0): Generator<Uint8Array> {
  let state = Math.imul(seed, 0x9e3779b9) | 1;
  const least = 0x2000 - 0x400 * halvings;
  for (let at = 0; at < n;) {
    const block = new Uint16Array(Math.min(n - at, 2 ** 20));
    for (let i = 0; i < block.length; i++) {
      state ^= state << 13; // xorshift
      state ^= state >>> 17;
      state ^= state << 5;
      block[i] = least + (state >>> 8 & 0x7ff) | (state >>> 16 & 0x8000);
    }
    at += block.length;
    yield new Uint8Array(block.buffer);
  }
}
