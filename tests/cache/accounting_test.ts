/** Memory of every kind of cache: what it reports, what it returns, and what is left of it when there is none. */
import { assert, assertEquals } from "@std/assert";
import {
  CrossCache,
  DynamicCache,
  EncoderDecoderCache,
  HybridCache,
  type KvCache,
  MambaCache,
  OffloadedCache,
  OffloadedStaticCache,
  packBatch,
  PagedCache,
  QuantizedCache,
  SinkCache,
  SlidingWindowCache,
  StaticCache,
} from "../../src/cache/mod.ts";
import { OutOfMemoryError } from "../../src/errors.ts";
import { tensor, tidy } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";
import { ArrayCache, type Attended, step } from "./array_cache.ts";

const device = await testDevice();
const LAYERS = 3, ROWS = 2;

interface Kind {
  make: () => KvCache;
  window?: number;
  sinks?: { staying: number; length: number };
  coded?: boolean;
}
const KINDS: Record<string, Kind> = {
  dynamic: { make: () => new DynamicCache() },
  static: { make: () => new StaticCache({ maxCacheLen: 200 }) },
  sliding: { make: () => new SlidingWindowCache({ slidingWindow: 3 }), window: 3 },
  hybrid: { make: () => new HybridCache({ maxCacheLen: 700 }), window: 3 },
  offloaded: { make: () => new OffloadedCache() },
  offloaded_static: { make: () => new OffloadedStaticCache({ maxCacheLen: 200 }) },
  paged: { make: () => new PagedCache() },
  sink: {
    make: () => new SinkCache({ windowLength: 20, numSinkTokens: 3 }),
    sinks: { staying: 3, length: 20 },
  },
  quantized: {
    make: () => new QuantizedCache({ nbits: 8, qGroupSize: 8, residualLength: 8, dtype: "float16" }),
    coded: true,
  },
};

async function assertSame({ got, want }: Attended, coded = false): Promise<void> {
  const close = coded ? { rtol: 0, atol: 0.1 } : { rtol: 1e-4, atol: 1e-5 };
  for (const [layer, values] of got.entries()) {
    assertClose(`layer ${layer}`, await values, want[layer]!, close);
  }
}

function arrays({ window, sinks, coded }: Kind): ArrayCache {
  const geometry = { layers: LAYERS, heads: 4, kvHeads: 2, dim: coded ? 8 : 6, scale: 0.4, window, sinks };
  return new ArrayCache(geometry, coded ? (x) => new Float16Array([x])[0]! : Math.fround, ROWS);
}

/** What `fn` gives, or undefined where the pool refuses the n-th buffer that it asks for. */
function failingAt<T>(n: number, fn: () => T): T | undefined {
  const acquire = device.pool.acquire.bind(device.pool);
  let calls = 0;
  device.pool.acquire = (...args) => {
    if (++calls === n) throw new OutOfMemoryError("Cannot allocate as the test lets it fail");
    return acquire(...args);
  };
  try {
    return fn();
  } catch (error) {
    if (error instanceof OutOfMemoryError) return undefined;
    throw error;
  } finally {
    device.pool.acquire = acquire;
  }
}

for (const [name, kind] of Object.entries(KINDS)) {
  Deno.test(`${name}: the bytes that it reports are the pool's, and it returns all of them`, async () => {
    const before = device.pool.stats.bytesInUse;
    {
      using cache = kind.make();
      const model = arrays(kind);
      for (const [i, lengths] of [[16, 3], [1, 1], [9, 5], [15, 1]].entries()) {
        await assertSame(step(device, cache, model, lengths, 10 * i), kind.coded);
        await device.stream.settled();
        assertEquals(cache.byteLength, device.pool.stats.bytesInUse - before, `after step ${i}`);
      }
      using fork = cache.fork();
      await assertSame(step(device, fork, model.fork(), [1, 2], 50), kind.coded);
      await assertSame(step(device, cache, model, [2, 1], 60), kind.coded);
      fork.dispose();
      cache.reorder([1, 0]);
      await device.stream.settled();
      assertEquals(cache.byteLength, device.pool.stats.bytesInUse - before, "after its fork and a change of rows");
    }
    await device.stream.settled();
    assertEquals(device.pool.stats.bytesInUse, before);
  });

  Deno.test(`${name}: out of memory at any point of an update leaves it as it was`, async () => {
    const before = device.pool.stats.bytesInUse;
    {
      using cache = kind.make();
      let model = arrays(kind);
      for (const [i, lengths] of [[16, 3], [1, 1], [15, 9], [15, 1]].entries()) {
        for (let failing = 1;; failing++) { // until so many buffers are not asked for
          const now = [...cache.lengths], next = model.fork();
          const done = failingAt(failing, () => step(device, cache, next, lengths, 10 * i + failing));
          if (done) {
            assert(failing > 3, `only ${failing - 1} failures`);
            await assertSame(done, kind.coded);
            model = next;
            break;
          }
          assert(cache.lengths.every((n, b) => n === (now[b] ?? 0)), `${cache.lengths} against ${now}`);
        }
      }
      assertEquals(cache.lengths, model.lengths);
      await device.synchronize(); // what the failed steps had begun to read
    }
    await device.stream.settled();
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}

Deno.test("the parts of an EncoderDecoderCache and states report the pool's bytes, and return all of them", async () => {
  const before = device.pool.stats.bytesInUse, used = () => device.pool.stats.bytesInUse - before;
  {
    using cache = new EncoderDecoderCache(new StaticCache({ maxCacheLen: 20 }), new CrossCache("float16"));
    const model = arrays(KINDS.dynamic!), cross = cache.crossAttentionCache;
    for (const encoder of [[3, 5], [3, 5], [7, 2]]) { // again in the same memory, then in another
      tidy(device, () => {
        const T = encoder[0]! + encoder[1]!, rows = () => tensor(device, randn(T * 12), [T, 2, 6]);
        for (let layer = 0; layer < LAYERS; layer++) cross.fill(layer, rows(), rows(), encoder);
        const q = tensor(device, randn(2 * 24), [2, 4, 6]);
        using batch = packBatch(device, [0, 0], [0, 0], [1, 1]);
        for (let layer = 0; layer < LAYERS; layer++) cross.attend(layer, q, batch, { scale: 0.4 });
      });
      if (cache.lengths[0] !== 5) await assertSame(step(device, cache, model, [5, 2], 3));
      assertEquals([cache.byteLength, cross.lengths], [used(), encoder]);
      cross.reset();
      assertEquals([cache.byteLength, cross.lengths, cross.layers], [used(), [], 0]);
    }
  }
  assertEquals(used(), 0);
  {
    using cache = new MambaCache({ layers: 2, intermediateSize: 3, convKernel: 4, stateSize: 2 });
    cache.reserve(2, [1, 1]);
    cache.convStates(device, 0);
    {
      using batch = packBatch(device, [0, 0], [0, 0], [1, 1]);
      cache.advance(batch);
    }
    assertEquals(cache.byteLength, used());
  }
  assertEquals(used(), 0);
});
