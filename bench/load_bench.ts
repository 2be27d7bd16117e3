/**
 * Loading: safetensors to the GPU against a plain read of the same file into memory, interleaved in one run. The model is
 * random, made in a temporary folder, and deleted at the end.
 *
 *     deno run -A bench/load_bench.ts [megabytes] [rounds]
 */
import process from "node:process";
import { loadModel, openDevice } from "../mod.ts";
import { writeRandomModel } from "./random_model.ts";

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

/** Milliseconds of `work`: by the clock, and of all threads. */
export async function timed(work: () => Promise<void>): Promise<{ wall: number; cpu: number }> {
  const cpu = process.cpuUsage(), start = performance.now();
  await work();
  const wall = performance.now() - start, { user, system } = process.cpuUsage(cpu);
  return { wall, cpu: (user + system) / 1000 };
}

/** A Llama with float16 weights of about `bytes`; returns the file's size. */
function writeModel(folder: string, bytes: number): Promise<number> {
  const num_hidden_layers = Math.max(1, Math.round((bytes - 2 * VOCAB * D) / (2 * 16 * D * D)));
  const heads = { num_attention_heads: 16, num_key_value_heads: 16 };
  const sizes = { vocab_size: VOCAB, hidden_size: D, intermediate_size: 4 * D, num_hidden_layers };
  return writeRandomModel(folder, { ...sizes, ...heads });
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
