/**
 * Every cache beside the others: bytes a token, and CPU time of a decoded token, after prefixes of some lengths.
 *
 *     deno run -A bench/caches_bench.ts [MODEL] [--lengths 512,4096] [--long] [--tokens 16] [--rounds 3] [--only paged] [--json]
 *
 * `--long` adds 16,384 tokens. Positions beyond the model's length are rotated as any others. The steps of all caches of
 * a length are interleaved, so that what else the machine does falls on all of them; the best round of each counts.
 */
import {
  DynamicCache,
  HybridCache,
  type KvCache,
  loadModel,
  type Model,
  OffloadedCache,
  OffloadedStaticCache,
  openDevice,
  packBatch,
  PagedCache,
  QuantizedCache,
  SinkCache,
  SlidingWindowCache,
  StaticCache,
  tidy,
} from "../mod.ts";
import { spent } from "./ceilings.ts";
import { flagValue, positional } from "./flags.ts";

/** What one cache costs at one length. */
export interface CacheResult {
  cache: string;
  /** Tokens in the cache before the first step. */
  length: number;
  /** Bytes on the GPU for each token that it has seen. */
  bytesPerToken: number;
  /** CPU milliseconds of all threads for a decoded token. */
  cpuMilliseconds: number;
  /** Milliseconds by the clock. */
  milliseconds: number;
  /** Host milliseconds of a fork, and the bytes that it takes at once; a later write may copy. */
  fork: { milliseconds: number; bytes: number };
}

const WINDOW = 256, dtype = "float16";
const KINDS: Record<string, (length: number) => KvCache> = {
  first: () => new DynamicCache({ dtype }), // what runs first costs more on lavapipe, whatever it is: not reported
  static: (maxCacheLen) => new StaticCache({ maxCacheLen, dtype }),
  dynamic: () => new DynamicCache({ dtype }),
  paged: () => new PagedCache({ dtype }),
  hybrid: (maxCacheLen) => new HybridCache({ maxCacheLen, dtype }),
  "quantized 8": () => new QuantizedCache({ nbits: 8, dtype }),
  "quantized 4": () => new QuantizedCache({ nbits: 4, dtype }),
  "quantized 2": () => new QuantizedCache({ nbits: 2, dtype }),
  "window 256": () => new SlidingWindowCache({ slidingWindow: WINDOW, dtype }),
  "sinks 256": () => new SinkCache({ windowLength: WINDOW, numSinkTokens: 4, dtype }),
  offloaded: () => new OffloadedCache({ dtype }),
  "offloaded static": (maxCacheLen) => new OffloadedStaticCache({ maxCacheLen, dtype }),
};

/** Runs `ids` and leaves the logits. */
function feed(model: Model, cache: KvCache, ids: number[]): void {
  const { device } = model, past = cache.lengths[0] ?? 0;
  cache.reserve(1, [ids.length]);
  using batch = packBatch(device, ids, ids.map((_, i) => past + i), [ids.length]);
  tidy(device, () => void model.nextLogits(batch, cache));
  cache.advanced([ids.length]);
}

/** A cache of `length` tokens: from the keys of `prefix`, or by a pass where it must make its own. */
function filled(model: Model, cache: KvCache, prefix: KvCache, ids: number[]): KvCache {
  if (cache instanceof SinkCache) {
    for (let i = 0; i < ids.length; i += WINDOW / 2) feed(model, cache, ids.slice(i, i + WINDOW / 2));
  } else if (!cache.isExact) feed(model, cache, ids);
  else {
    const layers = prefix.toLegacyCache(), { attention } = model.sizes;
    cache.adopt(layers, [ids.length], (layer) => attention[layer]);
    for (const t of layers.flat()) t.dispose();
  }
  return cache;
}

/** Measures the caches whose names have `only` in them after `length` tokens. */
export async function cachesBench(
  model: Model,
  length: number,
  { tokens = 16, rounds = 3, only = "" } = {},
): Promise<CacheResult[]> {
  const { device } = model, step = (cache: KvCache) => feed(model, cache, [7]);
  const ids = Array.from({ length }, (_, i) => 3 + i * 7 % (model.sizes.vocabSize - 3));
  using owned = new DisposableStack();
  const prefix = owned.use(new DynamicCache({ dtype }));
  for (let i = 0; i < length; i += 512) feed(model, prefix, ids.slice(i, i + 512));
  const room = length + 1 + rounds * tokens, caches: [KvCache, CacheResult][] = [];
  for (const [cache, make] of Object.entries(KINDS)) {
    if (!cache.includes(only) && cache !== "static" && cache !== "first") continue; // what the others are compared with
    const kv = filled(model, owned.use(make(room)), prefix, ids);
    step(kv); // compiles
    await device.synchronize();
    const start = performance.now(), before = device.pool.stats.bytesInUse;
    const fork = kv.fork(), milliseconds = performance.now() - start;
    const bytes = device.pool.stats.bytesInUse - before;
    fork.dispose();
    const found = { cpuMilliseconds: Infinity, milliseconds: Infinity, fork: { milliseconds, bytes } };
    caches.push([kv, { cache, length, bytesPerToken: kv.byteLength / length, ...found }]);
  }
  for (let round = 0; round < rounds; round++) {
    for (const [kv, found] of caches) {
      const { cpu, wall } = await spent(device, () => step(kv), tokens);
      found.cpuMilliseconds = Math.min(found.cpuMilliseconds, cpu / tokens);
      found.milliseconds = Math.min(found.milliseconds, wall / tokens);
      await device.stream.settled(); // what goes to host memory in the background
    }
  }
  return caches.slice(1).map(([, found]) => found);
}

/** A result as a line of text, its rate beside that of the static cache. */
export function lineOf(
  { cache, length, bytesPerToken, cpuMilliseconds, milliseconds, fork }: CacheResult,
  beside: number,
) {
  return `${cache.padEnd(18)}${`${length}`.padStart(7)}${bytesPerToken.toFixed(0).padStart(9)} B/token` +
    `${cpuMilliseconds.toFixed(2).padStart(9)} CPU ms${milliseconds.toFixed(2).padStart(9)} ms` +
    `${(beside / cpuMilliseconds).toFixed(2).padStart(7)} ×${fork.milliseconds.toFixed(2).padStart(9)} ms to fork` +
    `${`${fork.bytes}`.padStart(10)} B`;
}

if (import.meta.main) {
  const tiny = decodeURIComponent(new URL("../models/tensaur-tiny", import.meta.url).pathname);
  const [path = tiny] = positional(["--tokens", "--rounds", "--only", "--lengths"]);
  const number = (name: string, or: number) => Number(flagValue(name) ?? or);
  const options = { tokens: number("--tokens", 16), rounds: number("--rounds", 3), only: flagValue("--only") };
  const lengths = (flagValue("--lengths") ?? "512,4096").split(",").map(Number);
  await using device = await openDevice();
  using model = await loadModel(path, { device, dtype });
  for (const length of Deno.args.includes("--long") ? [...lengths, 16_384] : lengths) {
    const found = await cachesBench(model, length, options);
    for (const one of found) {
      console.log(Deno.args.includes("--json") ? JSON.stringify(one) : lineOf(one, found[0]!.cpuMilliseconds));
    }
  }
}
