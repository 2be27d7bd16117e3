/** Random programs of cache calls, on the GPU and on plain arrays: every attention output must be the same. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  DynamicCache,
  HybridCache,
  type KvCache,
  OffloadedCache,
  OffloadedStaticCache,
  PagedCache,
  QuantizedCache,
  restoreCache,
  SinkCache,
  SlidingWindowCache,
  StaticCache,
} from "../../src/cache/mod.ts";
import { LimitError, ValueError } from "../../src/errors.ts";
import { assertClose, testDevice } from "../helpers.ts";
import { seed } from "../weights/fixture.ts";
import { ArrayCache, type Attended, step } from "./array_cache.ts";

const device = await testDevice();
const RUNS = Deno.env.get("TENSAUR_TEST_FULL") === "1" ? 2000 : 60;
const MAX_CACHE_LEN = 40, WINDOW = 3, SINKS = { staying: 3, length: 20 };

type Dtype = "float32" | "float16";
const KINDS = {
  dynamic: (dtype: Dtype) => new DynamicCache({ dtype }),
  static: (dtype: Dtype) => new StaticCache({ maxCacheLen: MAX_CACHE_LEN, dtype }),
  sliding: (dtype: Dtype) => new SlidingWindowCache({ slidingWindow: WINDOW, dtype }),
  hybrid: (dtype: Dtype) => new HybridCache({ maxCacheLen: 700, dtype }),
  offloaded: (dtype: Dtype) => new OffloadedCache({ dtype }),
  offloaded_static: (dtype: Dtype) => new OffloadedStaticCache({ maxCacheLen: MAX_CACHE_LEN, dtype }),
  paged: (dtype: Dtype) => new PagedCache({ dtype }),
  sink: (dtype: Dtype) => new SinkCache({ windowLength: SINKS.length, numSinkTokens: SINKS.staying, dtype }),
  quantized: (dtype: Dtype) => new QuantizedCache({ nbits: 8, qGroupSize: 8, residualLength: 8, dtype }),
} satisfies Record<string, (dtype: Dtype) => KvCache>;

interface Op {
  kind: "step" | "crop" | "reorder" | "fork" | "reset" | "select" | "legacy" | "reload";
  /** Which of the caches that are alive. */
  on: number;
  /** One number from 0 to 999 for each sequence. */
  numbers: number[];
}

const op: fc.Arbitrary<Op> = fc.record({
  kind: fc.constantFrom(
    "step",
    "step",
    "step",
    "step",
    "crop",
    "reorder",
    "fork",
    "fork",
    "reset",
    "select",
    "legacy",
    "reload",
  ),
  on: fc.nat(9),
  numbers: fc.array(fc.nat(999), { minLength: 4, maxLength: 4 }),
});
const program = fc.record({
  rows: fc.integer({ min: 1, max: 4 }),
  heads: fc.constantFrom([1, 1] as const, [4, 2] as const, [3, 1] as const),
  cacheKind: fc.constantFrom(...Object.keys(KINDS) as (keyof typeof KINDS)[]),
  dtype: fc.constantFrom("float32", "float16"),
  window: fc.constantFrom(undefined, WINDOW),
  ops: fc.array(op, { minLength: 3, maxLength: 10 }),
});
type Program = typeof program extends fc.Arbitrary<infer T> ? T : never;

/** Runs one program; returns how many of its caches outgrew their first buffers. */
async function run(p: Program): Promise<number> {
  const { rows, cacheKind, ops } = p, coded = cacheKind === "quantized";
  const [heads, kvHeads] = coded ? [4, 2] : p.heads; // one kernel that is slow to compile
  const dtype = coded ? "float16" : p.dtype as Dtype, sinks = cacheKind === "sink" ? SINKS : undefined;
  const window = cacheKind === "sliding" ? WINDOW : sinks ? undefined : p.window;
  const fixed = cacheKind.endsWith("static"), ring = ["sliding", "hybrid", "sink"].includes(cacheKind);
  const most = fixed ? 20 : sinks ? SINKS.length - SINKS.staying : 60;
  const before = device.pool.stats.bytesInUse;
  using owned = new DisposableStack(); // a run that fails must not disturb the next, smaller one
  const geometry = { layers: 2, heads, kvHeads, dim: coded ? 8 : 6, scale: 0.4, window, sinks };
  const round = dtype === "float16" ? (x: number) => new Float16Array([x])[0]! : Math.fround;
  const first = { cache: owned.use<KvCache>(KINDS[cacheKind](dtype)), model: new ArrayCache(geometry, round, rows) };
  const alive = [{ ...first, used: false }];
  const results: Attended[] = [];
  for (const [i, { kind, on, numbers }] of ops.entries()) {
    const entry = alive[on % alive.length]!;
    const { cache, model } = entry;
    const size = model.lengths.length, each = model.lengths.map((_, b) => numbers[b % numbers.length]!);
    if (kind === "step") {
      const lengths = each.map((n, b) => b === 0 ? 1 + n % most : n % 9); // some have no new token
      const full = model.lengths.some((n, b) => n + lengths[b]! > MAX_CACHE_LEN);
      if (fixed && full) assertThrows(() => step(device, cache, model, lengths, i), LimitError, "capacity is 40");
      else results.push(step(device, cache, model, lengths, 100 * i));
      entry.used ||= !(fixed && full);
    } else if (entry.used) {
      const lengths = model.lengths;
      if (kind === "crop") {
        crop(
          entry,
          lengths.map((n, b) => ring ? n - each[b]! % Math.min(n + 1, 90) : each[b]! % (n + 1)),
        );
      }
      if (kind === "reset") (cache.reset(), model.crop(lengths.map(() => 0)));
      if (kind === "reorder") apply(entry, "reorder", each.map((n) => n % size));
      if (kind === "select") apply(entry, "batchSelectIndices", numbers.slice(0, 1 + i % 4).map((n) => n % size));
      if (kind === "fork" && alive.length < 4) {
        alive.push({ cache: owned.use(cache.fork()), model: model.fork(), used: true });
      }
      if (kind === "legacy" && cache.isExact) await sameKeys(entry, window);
      if (kind === "reload") {
        entry.cache = owned.use(cache.isExact ? adopted(entry, KINDS[cacheKind](dtype), window) : reloaded(cache));
        cache.dispose();
      }
    }
    if (entry.used) assertEquals(entry.cache.lengths, model.lengths);
  }
  const close = coded ? { rtol: 0, atol: 0.1 } : { rtol: 1e-4, atol: 1e-5 }; // of 8 bits
  for (const { got, want } of results) {
    for (const [layer, values] of got.entries()) {
      assertClose(`layer ${layer}`, await values, want[layer]!, close);
    }
  }
  const grown = alive.filter(({ cache, model }) => Math.max(...model.lengths) > 64 && cache.byteLength).length;
  if (alive.length === 1) assert(device.pool.stats.bytesInUse - before >= alive[0]!.cache.byteLength);
  for (const { cache } of alive) {
    cache.dispose();
    assertEquals([cache.byteLength, cache.capacity, cache.lengths], [0, 0, []]);
  }
  assertEquals(device.pool.stats.bytesInUse, before);
  return grown;
}

/** `into`, with the keys and values of another cache. */
function adopted<C extends KvCache>(
  { cache, model }: { cache: KvCache; model: ArrayCache },
  into: C,
  window?: number,
): C {
  const layers = cache.toLegacyCache();
  into.adopt(layers, model.lengths, () => ({ scale: 0.4, causal: true, window }));
  for (const t of layers.flat()) t.dispose();
  return into;
}

/** A cache of what another one would put into a file. */
function reloaded(cache: KvCache): KvCache {
  return restoreCache(cache.state!, device) as KvCache;
}

/** Crops both, or neither where a ring has lost what would be kept. */
function crop({ cache, model }: { cache: KvCache; model: ArrayCache }, lengths: number[]): void {
  try {
    cache.crop(lengths);
  } catch (error) {
    assert(error instanceof ValueError && error.message.includes("went on to"), `${error}`);
    return;
  }
  model.crop(lengths);
}

/** The keys of layer 1 as tensors are those of the arrays. */
async function sameKeys(
  { cache, model }: { cache: KvCache; model: ArrayCache },
  window: number | undefined,
): Promise<void> {
  const held = cache instanceof SlidingWindowCache || (cache instanceof HybridCache && window) ? window! : Infinity;
  const rows = model.keys[1]!.map((row) => row.slice(Math.max(0, row.length - held)));
  const S = Math.max(...rows.map((row) => row.length));
  if (S === 0) return;
  const [k, v] = cache.at(1);
  const got = await k.read();
  const { kvHeads, dim } = model.geometry;
  for (const [b, row] of rows.entries()) {
    for (const [s, key] of row.entries()) {
      for (let h = 0; h < kvHeads; h++) {
        const at = ((b * kvHeads + h) * S + s) * dim;
        assertEquals([...got.subarray(at, at + dim)], [...key.subarray(h * dim, (h + 1) * dim)]);
      }
    }
  }
  k.dispose();
  v.dispose();
}

function apply(
  { cache, model }: { cache: KvCache; model: ArrayCache },
  kind: "reorder" | "batchSelectIndices",
  by: number[],
): void {
  cache[kind](by);
  model.reorder(by);
}

Deno.test(`caches equal plain arrays over ${RUNS} random programs (seed ${seed})`, async () => {
  let grown = 0;
  await fc.assert(fc.asyncProperty(program, async (p) => void (grown += await run(p))), { numRuns: RUNS, seed });
  await device.synchronize(); // layers may still be on their way to the host
  assert(grown > RUNS / 20, `only ${grown} caches grew: the programs are too short`);
});
