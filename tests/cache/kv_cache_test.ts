/** What each cache promises beside right results: growth, bounds, accounting, errors that come before anything is written. */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import {
  type Cache,
  type CacheProperties,
  DynamicCache,
  type KvCache,
  NoCache,
  OffloadedCache,
  OffloadedStaticCache,
  packBatch,
  QuantizedCache,
  SinkCache,
  SlidingWindowCache,
  StaticCache,
} from "../../src/cache/mod.ts";
import { LimitError, OutOfMemoryError, ShapeError, type TensaurError, ValueError } from "../../src/errors.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";
import { ArrayCache, type Attended, step } from "./array_cache.ts";

const device = await testDevice();
const geometry = { layers: 2, heads: 4, kvHeads: 2, dim: 6, scale: 0.4 };
const arrays = (rows: number, window?: number) => new ArrayCache({ ...geometry, window }, Math.fround, rows);

async function assertSame({ got, want }: Attended): Promise<void> {
  for (const [layer, values] of got.entries()) {
    assertClose(`layer ${layer}`, await values, want[layer]!, { rtol: 1e-4, atol: 1e-5 });
  }
}

Deno.test("DynamicCache grows to multiples of 64, then doubles, and keeps what it holds", async () => {
  using cache = new DynamicCache();
  const model = arrays(2);
  const capacities: number[] = [], generations = new Set<number>();
  for (const [i, lengths] of [[1, 3], [63, 2], [1, 1], [70, 1], [200, 0]].entries()) {
    await assertSame(step(device, cache, model, lengths, i));
    capacities.push(cache.capacity);
    generations.add(cache.generation);
  }
  assertEquals(capacities, [64, 64, 128, 256, 512]);
  assertEquals(generations.size, 4); // a recording of before is told apart
  assertEquals(cache.lengths, [335, 7]);
});

Deno.test("StaticCache holds maxCacheLen tokens, never moves, and refuses one more before anything is written", async () => {
  using cache = new StaticCache({ maxCacheLen: 10 });
  const model = arrays(2);
  assertThrows(() => cache.reserve(2, [11, 1]), LimitError, "capacity is 10, 0 are in use");
  assertEquals([cache.lengths, cache.byteLength], [[], 0]);
  await assertSame(step(device, cache, model, [9, 4], 1));
  const { generation, byteLength } = cache;
  const error = assertThrows(() => step(device, cache, model, [2, 1], 2), LimitError, "Cannot store 2 more tokens");
  assert(error.message.endsWith("its capacity is 10, 9 are in use") && error.hint!.includes("maxCacheLen"));
  await assertSame(step(device, cache, model, [1, 6], 3)); // to the brim
  await assertSame(step(device, cache, model, [0, 0], 4)); // nothing more is not too much
  assertThrows(() => step(device, cache, model, [0, 1], 5), LimitError);
  assertEquals([cache.generation, cache.byteLength, cache.capacity], [generation, byteLength, 10]);
});

for (const maxCacheLen of [0, -1, 1.5, NaN, Infinity, "8" as unknown as number]) {
  Deno.test(`StaticCache refuses maxCacheLen ${maxCacheLen}`, () => {
    assertThrows(() => new StaticCache({ maxCacheLen }), ValueError, `from 1: current value is ${maxCacheLen}`);
  });
}

/** Calls on a cache of lengths [5, 3] that must be refused, and leave it as it is. */
const refused: [string, (cache: KvCache) => void, new (m: string) => TensaurError, string][] = [
  ["a batch of another size", (c) => c.reserve(3, [1, 1, 1]), ShapeError, "its 2 sequences: current batch has 3"],
  ["fewer lengths than sequences", (c) => c.reserve(2, [1]), ShapeError, "2 sequences"],
  ["a crop to more than there is", (c) => c.crop([6, 3]), ValueError, "(5,3): current value is 6,3"],
  ["a crop to less than nothing", (c) => c.crop([-1, 3]), ValueError, "-1,3"],
  ["a crop to half a token", (c) => c.crop([1.5, 3]), ValueError, "1.5,3"],
  ["a crop to NaN", (c) => c.crop([NaN, 3]), ValueError, "NaN"],
  ["a crop of one row", (c) => c.crop([1]), ValueError, "current value is 1"],
  [
    "an order with a row that is not there",
    (c) => c.reorder([0, 2]),
    ValueError,
    "2 rows from 0 to 1: current value is 0,2",
  ],
  ["an order of one row", (c) => c.reorder([0]), ValueError, "2 rows"],
  ["an order of three rows", (c) => c.reorder([0, 1, 1]), ValueError, "2 rows"],
  ["an order with a negative row", (c) => c.reorder([-1, 0]), ValueError, "-1,0"],
];
for (
  const [name, make] of Object.entries({
    DynamicCache: () => new DynamicCache(),
    StaticCache: () => new StaticCache({ maxCacheLen: 9 }),
  })
) {
  Deno.test(`${name} refuses what cannot be by name, and stays as it is`, async () => {
    using cache = make();
    const model = arrays(2);
    await assertSame(step(device, cache, model, [5, 3], 1));
    const before = device.pool.stats.bytesInUse;
    for (const [what, call, type, text] of refused) {
      assertEquals(assertThrows(() => call(cache), type, text).constructor, type, what);
    }
    assertEquals([cache.lengths, device.pool.stats.bytesInUse], [[5, 3], before]);
    await assertSame(step(device, cache, model, [1, 1], 2));
  });
}

Deno.test("KvCache refuses keys of another model", async () => {
  using cache = new DynamicCache();
  await assertSame(step(device, cache, arrays(1), [2], 1));
  for (const other of [{ ...geometry, kvHeads: 1 }, { ...geometry, dim: 8 }]) {
    const model = new ArrayCache(other, Math.fround, 1);
    assertThrows(
      () => step(device, cache, model, [1], 1),
      ShapeError,
      "must be of this model: its heads and their length are 2 and 6",
    );
  }
});

Deno.test("KvCache in float16 takes half the bytes, and refuses heads of odd length", async () => {
  using half = new DynamicCache({ dtype: "float16" });
  using single = new DynamicCache();
  await assertSame(step(device, single, arrays(2), [3, 1], 1));
  const rounding = new ArrayCache(geometry, (x) => new Float16Array([x])[0]!, 2);
  await assertSame(step(device, half, rounding, [3, 1], 1));
  assertEquals(single.byteLength - half.byteLength, 2 * 2 * 2 * 2 * 64 * 6 * 2); // the control buffers are as large
  using odd = new DynamicCache({ dtype: "float16" });
  const model = new ArrayCache({ ...geometry, dim: 5 }, Math.fround, 1);
  assertThrows(() => step(device, odd, model, [1], 1), ValueError, "length must be even: current length is 5");
  using plain = new DynamicCache();
  await assertSame(step(device, plain, model, [4], 1));
});

Deno.test("KvCache.fork() is independent, whichever grows, and copies nothing before one of the two is written to", async () => {
  const before = device.pool.stats.bytesInUse;
  {
    using cache = new DynamicCache();
    const model = arrays(2);
    await assertSame(step(device, cache, model, [40, 9], 1));
    const one = device.pool.stats.bytesInUse - before;
    using fork = cache.fork();
    const forked = model.fork();
    assertEquals(device.pool.stats.bytesInUse - before, one);
    assert(one === cache.byteLength && fork.byteLength >= one - 256); // all but counts of its own
    await assertSame(step(device, fork, forked, [50, 1], 2)); // grows: the buffers of the first must stay
    assert(device.pool.stats.bytesInUse - before > 2.9 * (one - 2 * 4)); // but for the counts
    await assertSame(step(device, cache, model, [1, 2], 3));
    await assertSame(step(device, cache, model, [60, 1], 4)); // and the other way round
    await assertSame(step(device, fork, forked, [1, 1], 5));
    cache.dispose();
    await assertSame(step(device, fork, forked, [1, 1], 6));
    assertEquals([cache.lengths, fork.lengths], [[], [92, 12]]);
  }
  assertEquals(device.pool.stats.bytesInUse, before);
});

Deno.test("KvCache.reset() keeps the memory, dispose() returns it, and both leave a cache that works", async () => {
  const before = device.pool.stats.bytesInUse;
  const cache = new DynamicCache();
  await assertSame(step(device, cache, arrays(2), [8, 5], 1));
  const { byteLength, generation } = cache;
  cache.reset();
  assertEquals([cache.lengths, cache.byteLength, cache.generation], [[0, 0], byteLength, generation]);
  await assertSame(step(device, cache, arrays(2), [2, 7], 2));
  cache.dispose();
  assertEquals([cache.lengths, cache.byteLength, device.pool.stats.bytesInUse], [[], 0, before]);
  assertNotEquals(cache.generation, generation);
  await assertSame(step(device, cache, arrays(3), [1, 2, 3], 3)); // another batch size is fine now
  cache.dispose();
  cache.dispose();
  assertEquals(device.pool.stats.bytesInUse, before);
});

Deno.test("KvCache that cannot grow stays as it was", async () => {
  using cache = new DynamicCache();
  const model = arrays(2);
  await assertSame(step(device, cache, model, [60, 4], 1));
  const before = device.pool.stats.bytesInUse;
  const acquire = device.pool.acquire.bind(device.pool);
  for (let failing = 1; failing <= 6; failing++) { // two layers of keys, values and their layout
    let calls = 0;
    device.pool.acquire = (...args) => {
      if (++calls === failing) throw new OutOfMemoryError("Cannot allocate as the test lets it fail");
      return acquire(...args);
    };
    assertThrows(() => cache.reserve(2, [5, 5]), OutOfMemoryError);
    calls = 0;
    assertThrows(() => cache.reorder([1, 0]), OutOfMemoryError);
    device.pool.acquire = acquire;
    assertEquals([cache.capacity, cache.lengths, device.pool.stats.bytesInUse], [64, [60, 4], before]);
  }
  await assertSame(step(device, cache, model, [1, 1], 2));
  await assertSame(step(device, cache, model, [9, 9], 3));
});

for (const window of [undefined, 1, 4, 100]) {
  Deno.test(`caches give what NoCache gives in one pass, with window ${window}`, async () => {
    const lengths = [11, 1, 6], total = 18;
    const [q, k, v] = [4, 2, 2].map((h, i) => randn(total * h * 6, i));
    const options = { scale: 0.4, causal: true, window };
    const run = async (cache: Cache, take: number[], from: number[]) => {
      const tokens = lengths.flatMap((n, b) =>
        Array.from({ length: take[b]! }, (_, i) => offset(b) + from[b]! + i).filter(() => n)
      );
      const pick = (data: Float32Array, h: number) =>
        tensor(device, tokens.flatMap((t) => [...data.subarray(t * h * 6, (t + 1) * h * 6)]), [tokens.length, h, 6]);
      using batch = packBatch(device, tokens, tokens.map(() => 0), take);
      cache.reserve(3, take);
      using o = cache.attend(0, pick(q!, 4), pick(k!, 2), pick(v!, 2), batch, options);
      cache.advance(batch);
      cache.advanced(take);
      return { tokens, values: await o.read() };
    };
    const offset = (b: number) => lengths.slice(0, b).reduce((sum, n) => sum + n, 0);
    using none = new NoCache();
    const { values: want } = await run(none, lengths, [0, 0, 0]);
    using cache = new DynamicCache();
    for (const [take, from] of [[[4, 1, 2], [0, 0, 0]], [[1, 0, 3], [4, 1, 2]], [[6, 0, 1], [5, 1, 5]]] as const) {
      const { tokens, values } = await run(cache, [...take], [...from]);
      for (const [i, t] of tokens.entries()) {
        assertClose(`token ${t}`, values.subarray(24 * i, 24 * (i + 1)), want.subarray(24 * t, 24 * (t + 1)), {
          atol: 1e-5,
        });
      }
    }
    assertEquals(cache.lengths, lengths);
  });
}

Deno.test("CacheClass.properties are those of Transformers' table", () => {
  const rows: [{ properties: CacheProperties }, boolean, boolean, boolean, CacheProperties["latency"], boolean][] = [
    // memory, compile, made before, latency, long
    [DynamicCache, false, false, false, "mid", false],
    [StaticCache, false, true, true, "high", false],
    [OffloadedCache, true, false, false, "low", true],
    [OffloadedStaticCache, false, true, true, "high", true],
    [QuantizedCache, true, false, false, "low", true],
    [SlidingWindowCache, false, true, true, "high", false],
    [SinkCache, true, false, true, "mid", true],
  ];
  for (const [{ properties }, memoryEfficient, compile, initRecommended, latency, longContext] of rows) {
    assertEquals(properties, { memoryEfficient, compile, initRecommended, latency, longContext });
  }
});
