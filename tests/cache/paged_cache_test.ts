/** Pages: shared by forks and rows until one of them writes, and given back when nobody needs them. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { PagedCache } from "../../src/cache/mod.ts";
import { OutOfMemoryError } from "../../src/errors.ts";
import { assertClose, testDevice } from "../helpers.ts";
import { ArrayCache, type Attended, step } from "./array_cache.ts";

const device = await testDevice();
const geometry = { layers: 2, heads: 2, kvHeads: 1, dim: 8, scale: 0.4 };
const arrays = (rows: number) => new ArrayCache(geometry, Math.fround, rows);

async function assertSame({ got, want }: Attended): Promise<void> {
  for (const [layer, values] of got.entries()) {
    assertClose(`layer ${layer}`, await values, want[layer]!, { rtol: 1e-4, atol: 1e-5 });
  }
}

Deno.test("PagedCache.fork() copies one page when one of the two writes, and none where a page begins", async () => {
  const before = device.pool.stats.bytesInUse;
  {
    using cache = new PagedCache();
    const model = arrays(2);
    await assertSame(step(device, cache, model, [130, 64], 1));
    assertEquals(cache.pages, 3 + 1);
    const bytes = device.pool.stats.bytesInUse;
    using fork = cache.fork();
    const forked = model.fork();
    assertEquals([fork.pages, device.pool.stats.bytesInUse], [4, bytes]);
    await assertSame(step(device, fork, forked, [1, 1], 2));
    assertEquals(cache.pages, 4 + 1 + 1); // the third page of the first row, a new one of the second
    await assertSame(step(device, cache, model, [2, 3], 3));
    assertEquals(cache.pages, 4 + 1 + 1 + 1);
    await assertSame(step(device, fork, forked, [70, 1], 4));
    fork.dispose();
    assertEquals(cache.pages, 3 + 2);
    await assertSame(step(device, cache, model, [1, 1], 5));
  }
  assertEquals(device.pool.stats.bytesInUse, before);
});

Deno.test("PagedCache: reordered rows share their pages, crop and reset give them back", async () => {
  using cache = new PagedCache();
  const model = arrays(3);
  await assertSame(step(device, cache, model, [100, 10, 70], 1));
  cache.reorder([0, 0, 0]);
  model.reorder([0, 0, 0]);
  assertEquals(cache.pages, 2);
  await assertSame(step(device, cache, model, [1, 1, 1], 2));
  assertEquals(cache.pages, 1 + 3);
  cache.crop([64, 65, 1]);
  model.crop([64, 65, 1]);
  assertEquals(cache.pages, 2);
  await assertSame(step(device, cache, model, [1, 1, 1], 3));
  cache.reset();
  assertEquals(cache.pages, 0);
  await assertSame(step(device, cache, arrays(3), [5, 1, 1], 4));
});

Deno.test("PagedCache.fork() of 4,096 tokens takes a millisecond at most, and no byte", async () => {
  using cache = new PagedCache({ dtype: "float16" });
  const model = new ArrayCache(geometry, (x) => new Float16Array([x])[0]!, 1);
  cache.reserve(1, [4096]);
  await assertSame(step(device, cache, model, [8], 1));
  cache.advanced([4088]);
  const bytes = device.pool.stats.bytesInUse, times: number[] = [];
  for (let i = 0; i < 50; i++) {
    const start = performance.now();
    using fork = cache.fork();
    times.push(performance.now() - start);
    assertEquals([fork.lengths, device.pool.stats.bytesInUse], [[4096], bytes]);
  }
  const median = times.sort((a, b) => a - b)[25]!;
  assert(median <= 1, `a fork took ${median} ms`);
});

Deno.test("PagedCache that cannot grow stays as it was", async () => {
  using cache = new PagedCache();
  const model = arrays(2);
  await assertSame(step(device, cache, model, [60, 4], 1));
  const before = device.pool.stats.bytesInUse;
  const acquire = device.pool.acquire.bind(device.pool);
  for (let failing = 1; failing <= 4; failing++) { // two layers of keys and values
    let calls = 0;
    device.pool.acquire = (...args) => {
      if (++calls === failing) throw new OutOfMemoryError("Cannot allocate as the test lets it fail");
      return acquire(...args);
    };
    assertThrows(() => cache.reserve(2, [65, 5]), OutOfMemoryError);
    device.pool.acquire = acquire;
    assertEquals([cache.pages, cache.lengths, device.pool.stats.bytesInUse], [2, [60, 4], before]);
  }
  await assertSame(step(device, cache, model, [1, 1], 2));
  await assertSame(step(device, cache, model, [90, 9], 3));
});
