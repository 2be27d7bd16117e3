/** Caches that keep a window: the same as a cache that keeps everything, however long they run. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { DynamicCache, HybridCache, type KvCache, SlidingWindowCache } from "../../src/cache/mod.ts";
import { LimitError, ValueError } from "../../src/errors.ts";
import { assertClose, testDevice } from "../helpers.ts";
import { ArrayCache, type Attended, step } from "./array_cache.ts";

const device = await testDevice();
const geometry = { layers: 2, heads: 4, kvHeads: 2, dim: 8, scale: 0.4 };
const arrays = (rows: number, window?: number) => new ArrayCache({ ...geometry, window }, Math.fround, rows);

async function assertSame({ got, want }: Attended): Promise<void> {
  for (const [layer, values] of got.entries()) {
    assertClose(`layer ${layer}`, await values, want[layer]!, { rtol: 1e-4, atol: 1e-5 });
  }
}

/** Bytes of layouts and counts, whatever the window: some are made when they are first needed. */
const CONTROL = 2048;

// window, then the tokens of each row, step by step: prompts shorter, equal and longer than the window, and than its slots
const programs: [window: number, steps: number[][]][] = [
  [4, [[2, 1], [1, 1], [1, 1], [1, 1], [1, 0], [1, 1]]],
  [4, [[4, 3], [1, 1], [3, 2], [1, 1]]],
  [4, [[200, 6], [1, 1], [5, 1], [150, 2], [1, 1], [64, 70], [1, 1]]],
  [1, [[3, 1], [1, 1], [2, 1]]],
  [70, [[60, 5], [20, 100], [1, 1], [60, 1], [1, 190], [1, 1]]],
];
for (const [window, steps] of programs) {
  Deno.test(`SlidingWindowCache shows a window of ${window} after ${JSON.stringify(steps)} tokens`, async () => {
    using cache = new SlidingWindowCache({ slidingWindow: window });
    const model = arrays(2, window);
    let bytes = 0;
    for (const [i, lengths] of steps.entries()) {
      await assertSame(step(device, cache, model, lengths, 10 * i));
      bytes ||= cache.byteLength;
      assert(cache.byteLength <= bytes + CONTROL);
      assertEquals(cache.lengths, model.lengths);
    }
    const held = model.lengths.map((n) => Math.min(n, window));
    const [k, v] = cache.at(1);
    assertEquals(k.shape, [2, 2, Math.max(...held), 8]);
    const last = model.keys[1]![0]!.at(-1)!.subarray(0, 8);
    assertClose("the last key", (await k.read()).subarray((held[0]! - 1) * 8, held[0]! * 8), last);
    k.dispose();
    v.dispose();
  });
}

Deno.test("SlidingWindowCache runs 200 tokens in the memory of its slots", async () => {
  using cache = new SlidingWindowCache({ slidingWindow: 8 });
  using all = new DynamicCache();
  const model = arrays(1, 8);
  await assertSame(step(device, cache, model, [3], 0));
  const generations = new Set<number>();
  for (let i = 1; i < 200; i++) {
    const result = step(device, cache, model, [1], i);
    if (i % 37 === 0) await assertSame(result);
    generations.add(cache.generation);
  }
  await assertSame(step(device, all, arrays(1, 8), [202], 0));
  assertEquals([cache.lengths, generations.size], [[202], 1]);
  assert(cache.byteLength < all.byteLength / 1.9);
});

for (
  const [name, make] of Object.entries<() => KvCache>({
    SlidingWindowCache: () => new SlidingWindowCache({ slidingWindow: 6 }),
    HybridCache: () => new HybridCache({ maxCacheLen: 400 }),
  })
) {
  Deno.test(`${name}: crop, reorder, fork, select and reset`, async () => {
    using cache = make();
    const model = arrays(2, 6);
    await assertSame(step(device, cache, model, [100, 20], 0));
    cache.crop([60, 1]);
    model.crop([60, 1]);
    await assertSame(step(device, cache, model, [1, 1], 1));
    cache.reorder([1, 1]);
    model.reorder([1, 1]);
    await assertSame(step(device, cache, model, [1, 90], 2));
    using fork = cache.fork();
    const forked = model.fork();
    await assertSame(step(device, fork, forked, [3, 1], 3));
    await assertSame(step(device, cache, model, [1, 3], 4));
    cache.batchSelectIndices([1, 0, 1]);
    model.reorder([1, 0, 1]);
    await assertSame(step(device, cache, model, [1, 1, 2], 5));
    cache.reset();
    await assertSame(step(device, cache, arrays(3, 6), [9, 1, 8], 6));
  });
}

Deno.test("SlidingWindowCache takes back as many tokens as it still has, and no more", async () => {
  using cache = new SlidingWindowCache({ slidingWindow: 60 }); // 128 slots
  const model = arrays(1, 60);
  await assertSame(step(device, cache, model, [300], 0));
  cache.crop([300 - 68]);
  assertThrows(() => cache.crop([300 - 70]), ValueError, "of a window of 60 tokens, row 0 went on to 300");
  model.crop([300 - 68]);
  await assertSame(step(device, cache, model, [1], 1));
});

Deno.test("HybridCache keeps what each layer sees, and refuses what is over its capacity", async () => {
  using cache = new HybridCache({ maxCacheLen: 300 });
  const model = arrays(2);
  const run = (lengths: number[], seed: number) =>
    step(device, cache, model, lengths, seed, (layer) => layer % 2 === 0 ? 8 : undefined);
  await assertSame(run([20, 5], 0));
  for (let i = 1; i < 20; i++) await assertSame(run([1, 1], i));
  assertThrows(() => cache.reserve(2, [262, 1]), LimitError, "its capacity is 300");
  const slots = 2 * 4 * 2 * 8 * 2; // B, bytes, heads, length, keys and values
  const control = cache.byteLength - slots * (128 + 300);
  assert(control > 0 && control <= CONTROL, `${control}`);
});

for (const slidingWindow of [0, -1, 1.5, NaN]) {
  Deno.test(`SlidingWindowCache refuses a window of ${slidingWindow}`, () => {
    assertThrows(() => new SlidingWindowCache({ slidingWindow }), ValueError, "slidingWindow must be a whole number");
  });
}
