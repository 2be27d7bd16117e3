/**
 * Loading: safetensors to the GPU against a plain read of the same file into memory, interleaved in one run. The model is
 * random, made in a temporary folder, and deleted at the end.
 *
 *     deno run -A bench/load_bench.ts [megabytes] [rounds]
 */
import process from "node:process";
import { loadModel, openDevice } from "../mod.ts";
import { writeSafetensors } from "../src/weights/save.ts";

/** Rates in MB/s, the best of the rounds; CPU milliseconds of all threads for each MB. */
export interface LoadResult {
  megabytes: number;
  load: number;
  read: number;
  loadCpu: number;
  readCpu: number;
}

const D = 1024, VOCAB = 4096;

/** Measures a model of about that size. */
export async function loadBench(megabytes = 256, rounds = 5): Promise<LoadResult> {
  const folder = await Deno.makeTempDir({ prefix: "tensaur-load-" });
  try {
    const bytes = await writeModel(folder, megabytes * 1e6), file = `${folder}/model.safetensors`;
    await using device = await openDevice();
    (await loadModel(folder, { device })).dispose(); // compiles
    const best = { load: Infinity, read: Infinity, loadCpu: Infinity, readCpu: Infinity };
    for (let round = 0; round < rounds; round++) {
      const read = await timed(() => readInto(new Uint8Array(bytes), file));
      const load = await timed(async () => (await loadModel(folder, { device })).dispose());
      device.pool.trim();
      best.read = Math.min(best.read, read.wall), best.readCpu = Math.min(best.readCpu, read.cpu);
      best.load = Math.min(best.load, load.wall), best.loadCpu = Math.min(best.loadCpu, load.cpu);
    }
    const mb = bytes / 1e6, rate = (milliseconds: number) => 1000 * mb / milliseconds;
    return {
      megabytes: mb,
      load: rate(best.load),
      read: rate(best.read),
      loadCpu: best.loadCpu / mb,
      readCpu: best.readCpu / mb,
    };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** What a plain copy of the file takes: new memory, filled by reads as large as they come. */
async function readInto(memory: Uint8Array, path: string): Promise<void> {
  using file = await Deno.open(path);
  for (let at = 0; at < memory.length;) at += (await file.read(memory.subarray(at))) ?? Infinity;
}

async function timed(work: () => Promise<void>): Promise<{ wall: number; cpu: number }> {
  const cpu = process.cpuUsage(), start = performance.now();
  await work();
  const wall = performance.now() - start, { user, system } = process.cpuUsage(cpu);
  return { wall, cpu: (user + system) / 1000 };
}

/** A Llama with float16 weights of about `bytes`; returns the file's size. */
async function writeModel(folder: string, bytes: number): Promise<number> {
  const layers = Math.max(1, Math.round((bytes - 2 * VOCAB * D) / (2 * 16 * D * D)));
  await Deno.writeTextFile(
    `${folder}/config.json`,
    JSON.stringify({
      model_type: "llama",
      architectures: ["LlamaForCausalLM"],
      vocab_size: VOCAB,
      hidden_size: D,
      intermediate_size: 4 * D,
      num_hidden_layers: layers,
      num_attention_heads: 16,
      tie_word_embeddings: true,
    }),
  );
  const block = new Uint8Array(2 ** 20);
  for (let i = 0; i < block.length; i += 2) block[i + 1] = 0x20 + Math.random() * 16, block[i] = Math.random() * 256;
  async function* data(length: number): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < length; at += block.length) yield block.subarray(0, Math.min(block.length, length - at));
  }
  const tensor = (name: string, ...shape: number[]) => ({
    name,
    dtype: "F16" as const,
    shape,
    data: data(2 * shape.reduce((product, n) => product * n)),
  });
  const tensors = [tensor("model.embed_tokens.weight", VOCAB, D), tensor("model.norm.weight", D)];
  for (let i = 0; i < layers; i++) {
    const at = `model.layers.${i}`;
    for (const p of ["q", "k", "v", "o"]) tensors.push(tensor(`${at}.self_attn.${p}_proj.weight`, D, D));
    for (const p of ["gate", "up"]) tensors.push(tensor(`${at}.mlp.${p}_proj.weight`, 4 * D, D));
    tensors.push(tensor(`${at}.mlp.down_proj.weight`, D, 4 * D));
    for (const norm of ["input", "post_attention"]) tensors.push(tensor(`${at}.${norm}_layernorm.weight`, D));
  }
  await writeSafetensors(`${folder}/model.safetensors`, tensors);
  return (await Deno.stat(`${folder}/model.safetensors`)).size;
}

/** The result as text. */
export function loadText({ megabytes, load, read, loadCpu, readCpu }: LoadResult): string {
  return `load of ${megabytes.toFixed(0)} MB: ${load.toFixed(0)} MB/s, a plain read into memory ${
    read.toFixed(0)
  } MB/s ` +
    `(${(100 * load / read).toFixed(0)} %); CPU time ${loadCpu.toFixed(2)} against ${readCpu.toFixed(2)} ms a MB`;
}

if (import.meta.main) {
  const [megabytes, rounds] = Deno.args;
  const result = await loadBench(Number(megabytes ?? 256), Number(rounds ?? 5));
  console.log(Deno.args.includes("--json") ? JSON.stringify(result) : loadText(result));
}
