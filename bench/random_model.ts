/**
 * Llamas with random float16 weights, for their shape alone.
 *
 *     deno run -A bench/random_model.ts FOLDER [1b|tiny]
 */
import { writeSafetensors } from "../src/weights/save.ts";

/** The sizes of a Llama, as config.json has them; the embedding is the head too. */
export interface LlamaShape {
  vocab_size: number;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
}

/** Shapes by name. `1b` is that of Llama 3.2 1B: 1.24 billion weights, 2.5 GB. */
export const SHAPES = {
  "1b": {
    vocab_size: 128256,
    hidden_size: 2048,
    intermediate_size: 8192,
    num_hidden_layers: 16,
    num_attention_heads: 32,
    num_key_value_heads: 8,
  },
  tiny: {
    vocab_size: 1024,
    hidden_size: 256,
    intermediate_size: 1024,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 1,
  },
} as const satisfies Record<string, LlamaShape>;

/** Writes a model of `shape` into `folder`; returns the size of its weights' file. */
export async function writeRandomModel(folder: string, shape: LlamaShape): Promise<number> {
  const config = { model_type: "llama", architectures: ["LlamaForCausalLM"], tie_word_embeddings: true, ...shape };
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
  const block = new Uint16Array(2 ** 19); // of either sign and below 1/64, so that no sum leaves float16
  for (let i = 0; i < block.length; i++) block[i] = 0x2000 + Math.random() * 0x400 + (Math.random() < 0.5 ? 0x8000 : 0);
  const bytes = new Uint8Array(block.buffer);
  async function* data(length: number): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < length; at += bytes.length) yield bytes.subarray(0, Math.min(bytes.length, length - at));
  }
  const tensor = (name: string, ...shape: number[]) => ({
    name,
    dtype: "F16" as const,
    shape,
    data: data(2 * shape.reduce((product, n) => product * n)),
  });
  const D = shape.hidden_size, I = shape.intermediate_size;
  const kv = D / shape.num_attention_heads * shape.num_key_value_heads;
  const tensors = [tensor("model.embed_tokens.weight", shape.vocab_size, D), tensor("model.norm.weight", D)];
  for (let i = 0; i < shape.num_hidden_layers; i++) {
    const at = `model.layers.${i}`;
    for (const [p, rows] of [["q", D], ["k", kv], ["v", kv], ["o", D]] as const) {
      tensors.push(tensor(`${at}.self_attn.${p}_proj.weight`, rows, D));
    }
    for (const p of ["gate", "up"]) tensors.push(tensor(`${at}.mlp.${p}_proj.weight`, I, D));
    tensors.push(tensor(`${at}.mlp.down_proj.weight`, D, I));
    for (const norm of ["input", "post_attention"]) tensors.push(tensor(`${at}.${norm}_layernorm.weight`, D));
  }
  await writeSafetensors(`${folder}/model.safetensors`, tensors);
  return (await Deno.stat(`${folder}/model.safetensors`)).size;
}

if (import.meta.main) {
  const [folder = "", name = "1b"] = Deno.args, shape = SHAPES[name as keyof typeof SHAPES];
  if (!folder || !shape) throw new Error(`A folder and one of ${Object.keys(SHAPES).join(", ")} must be given`);
  console.log(`${folder}: ${await writeRandomModel(folder, shape)} bytes`);
}
