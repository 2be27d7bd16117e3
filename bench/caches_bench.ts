/**
 * Every cache beside the others: bytes a token, and CPU time of a decoded token, after prefixes of some lengths.
 *
 *     deno run -A bench/caches_bench.ts [MODEL] [--lengths 512,4096,16384] [--tokens 4] [--rounds 12] [--only paged] [--json]
 *
 * The steps of all caches of a length are interleaved, so that what else the machine does falls on all of them; the best
 * round of each counts. Keys are random: a step costs the same whatever they are. Positions beyond the model's own are
 * rotated as any others.
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
  restoreCache,
  SinkCache,
  SlidingWindowCache,
  StaticCache,
  type Tensor,
  tensor,
  tidy,
} from "../mod.ts";
import { textTable } from "../src/cli/table.ts";
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
  /** Host milliseconds of the quickest of some forks, the bytes that it takes at once, and those of its first token. */
  fork: { milliseconds: number; bytes: number; written: number };
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
const BASES = ["first", "static"]; // what the others are compared with

/** Runs `ids` and leaves the logits. */
function feed(model: Model, cache: KvCache, ids: number[]): void {
  const { device } = model, past = cache.lengths[0] ?? 0;
  cache.reserve(1, [ids.length]);
  using batch = packBatch(device, ids, ids.map((_, i) => past + i), [ids.length]);
  tidy(device, () => void model.nextLogits(batch, cache));
  cache.advanced([ids.length]);
}

/** A cache of `length` tokens: with the keys of `layer` in every layer, where it does not have to make its own. */
function filled(model: Model, cache: KvCache, layer: readonly [Tensor, Tensor], length: number): KvCache {
  const { attention } = model.sizes;
  if (!(cache instanceof SinkCache)) {
    cache.adopt(attention.map(() => layer), [length], (i) => attention[i]);
    return cache;
  }
  const ids = Array.from({ length: WINDOW }, (_, i) => i); // then as if it had come to `length`: all slots are in use
  feed(model, cache, ids);
  feed(model, cache, ids.slice(0, WINDOW / 2));
  const restored = restoreCache({ ...cache.state, lengths: [length], reach: [length] }, model.device);
  cache.dispose();
  return restored as KvCache;
}

/** Keys or values [1, Hkv, length, Dh] of one layer. */
function randomKeys(model: Model, length: number): Tensor {
  const { num_key_value_heads: heads, num_attention_heads, head_dim, hidden_size } = model.config as unknown as Record<
    string,
    number
  >;
  const kvHeads = heads ?? num_attention_heads!, headDim = head_dim ?? hidden_size! / num_attention_heads!;
  const values = Float16Array.from({ length: kvHeads * length * headDim }, () => Math.random() - 0.5);
  return tensor(model.device, values, [1, kvHeads, length, headDim], dtype);
}

/** Measures the caches whose names have `only` in them after `length` tokens. */
export async function cachesBench(
  model: Model,
  length: number,
  { tokens = 4, rounds = 12, only = "" } = {},
): Promise<CacheResult[]> {
  const { device } = model, step = (cache: KvCache) => feed(model, cache, [7]);
  using owned = new DisposableStack();
  const layer = [owned.use(randomKeys(model, length)), owned.use(randomKeys(model, length))] as const;
  const room = length + 1 + rounds * tokens, caches: [KvCache, CacheResult][] = [];
  for (const [cache, make] of Object.entries(KINDS)) {
    if (!cache.includes(only) && !BASES.includes(cache)) continue;
    const kv = owned.use(filled(model, make(room), layer, length)), bytesPerToken = kv.byteLength / length;
    step(kv); // compiles
    await device.synchronize();
    const fork = await forked(model, kv), found = { cpuMilliseconds: Infinity, milliseconds: Infinity, fork };
    caches.push([kv, { cache, length, bytesPerToken, ...found }]);
  }
  for (let round = 0; round < rounds; round++) {
    for (const [kv, found] of caches) {
      const { cpu, wall } = await spent(device, () => step(kv), tokens);
      found.cpuMilliseconds = Math.min(found.cpuMilliseconds, cpu / tokens);
      found.milliseconds = Math.min(found.milliseconds, wall / tokens);
      await device.stream.settled(); // what goes to host memory
    }
  }
  return caches.slice(1).map(([, found]) => found);
}

/** What a fork costs, and its first token. */
async function forked(model: Model, kv: KvCache): Promise<CacheResult["fork"]> {
  const { stats } = model.device.pool, bytes = () => model.device.pool.stats.bytesInUse - stats.bytesInUse;
  let milliseconds = Infinity;
  for (let i = 0; i < 4; i++) {
    const start = performance.now();
    using _ = kv.fork();
    milliseconds = Math.min(milliseconds, performance.now() - start);
  }
  using fork = kv.fork();
  const atOnce = bytes();
  feed(model, fork, [7]);
  await model.device.synchronize();
  return { milliseconds, bytes: atOnce, written: bytes() };
}

/** A table of results, rates beside those of the static cache of the same length. */
export function cacheTable(results: readonly CacheResult[]): string[][] {
  const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const rows = results.map(({ cache, length, bytesPerToken, cpuMilliseconds, milliseconds, fork }) => {
    const beside = results.find((other) => other.cache === "static" && other.length === length)!;
    return [
      cache,
      `${length}`,
      bytesPerToken.toFixed(0),
      cpuMilliseconds.toFixed(1),
      (1000 / cpuMilliseconds).toFixed(1),
      (1000 / milliseconds).toFixed(1),
      (beside.cpuMilliseconds / cpuMilliseconds).toFixed(2),
      `${fork.milliseconds.toFixed(2)} ms, ${mib(fork.bytes)}`,
      mib(fork.written),
    ];
  });
  const rates = ["CPU ms", "tok/s a core", "tok/s by the clock", "of static"];
  return [["cache", "tokens", "B a token", ...rates, "a fork", "written to"], ...rows];
}

/** What was wanted of caches, and what came; rates by CPU time. */
export function cacheGoals(results: readonly CacheResult[]): string[][] {
  const of = (name: string) => results.filter(({ cache }) => cache === name);
  const rates = (name: string) =>
    of(name).map(({ length, cpuMilliseconds }) => {
      const beside = of("static").find((other) => other.length === length)!;
      return `${(beside.cpuMilliseconds / cpuMilliseconds).toFixed(2)} at ${length}`;
    });
  const [short, long] = [of("window 256")[0], of("window 256").at(-1)];
  const forks = results.filter(({ length }) => length === 4096).map(({ fork }) => fork);
  const most = (each: (fork: CacheResult["fork"]) => number) => Math.max(...forks.map(each));
  return [
    ["wanted", "measured"],
    ["paged, of static: at least 0.90", rates("paged").join(", ")],
    ["codes of 4 bits, of static in float16: at least 0.80", rates("quantized 4").join(", ")],
    ...short && long && short !== long
      ? [[
        `a window of 256, ${long.length} tokens beside ${short.length}: the same`,
        `${(short.cpuMilliseconds / long.cpuMilliseconds).toFixed(2)} of its rate`,
      ]]
      : [],
    ...forks.length
      ? [[
        "a fork of 4,096 tokens: at most 1 ms, and no byte",
        `${most((f) => f.milliseconds).toFixed(2)} ms, ${most((f) => f.bytes)} B`,
      ]]
      : [],
  ];
}

if (import.meta.main) {
  const tiny = decodeURIComponent(new URL("../models/tensaur-tiny", import.meta.url).pathname);
  const [path = tiny] = positional(["--tokens", "--rounds", "--only", "--lengths"]);
  const number = (name: string, or: number) => Number(flagValue(name) ?? or);
  const options = { tokens: number("--tokens", 4), rounds: number("--rounds", 12), only: flagValue("--only") };
  await using device = await openDevice();
  using model = await loadModel(path, { device, dtype });
  const results: CacheResult[] = [];
  for (const length of (flagValue("--lengths") ?? "512,4096,16384").split(",").map(Number)) {
    results.push(...await cachesBench(model, length, options));
  }
  if (Deno.args.includes("--json")) { for (const result of results) console.log(JSON.stringify(result)); }
  else console.log(`${textTable(cacheTable(results))}\n\n${textTable(cacheGoals(results))}`);
}
