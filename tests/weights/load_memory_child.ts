/** Loads the model folder given as its second argument and prints what that cost; the first is a small one to warm up. */
import { openDevice } from "../../src/gpu/mod.ts";
import { loadModel } from "../../src/models/mod.ts";

/** What the child prints. */
export interface Cost {
  /** Bytes by which the process's peak memory rose. */
  peak: number;
  /** Bytes by which the JS heap and its buffers rose at most. */
  heap: number;
  /** Bytes of the weights on the GPU. */
  weights: number;
  /** Milliseconds of loading. */
  load: number;
  /** Milliseconds of reading the file and nothing else. */
  read: number;
}

async function main(small: string, large: string): Promise<Cost> {
  await using device = await openDevice();
  (await loadModel(small, { device })).dispose(); // the kernels are compiled, and the driver has what it keeps
  const weightsBefore = device.pool.stats.bytesInUse;
  const peakBefore = peakMemory(), heapBefore = heapBytes();
  let heap = 0;
  const start = performance.now();
  using _model = await loadModel(large, { device, onProgress: () => heap = Math.max(heap, heapBytes() - heapBefore) });
  const load = performance.now() - start;
  const peak = peakMemory() - peakBefore;
  const weights = device.pool.stats.bytesInUse - weightsBefore;
  return { peak, heap, weights, load, read: await readTime(`${large}/model.safetensors`) };
}

async function readTime(path: string): Promise<number> {
  using file = await Deno.open(path);
  const buffer = new Uint8Array(2 * 2 ** 20);
  const start = performance.now();
  while (await file.read(buffer) !== null);
  return performance.now() - start;
}

function heapBytes(): number {
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}

/** The most memory that this process ever had, in bytes. */
function peakMemory(): number {
  return 1024 * Number(/VmHWM:\s+(\d+) kB/.exec(Deno.readTextFileSync("/proc/self/status"))![1]);
}

if (import.meta.main) console.log(JSON.stringify(await main(Deno.args[0]!, Deno.args[1]!)));
