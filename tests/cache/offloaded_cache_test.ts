/** Layers in host memory: the bits of a plain cache, two layers on the GPU. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { type Cache, DynamicCache, OffloadedCache, OffloadedStaticCache } from "../../src/cache/mod.ts";
import { LimitError, ValueError } from "../../src/errors.ts";
import { testDevice } from "../helpers.ts";
import { ArrayCache, step } from "./array_cache.ts";

const device = await testDevice();
const LAYERS = 6;
const arrays = () => new ArrayCache({ layers: LAYERS, heads: 2, kvHeads: 2, dim: 8, scale: 0.4 }, Math.fround, 2);

/** The attention outputs of `steps`, as bits. */
async function outputs(cache: Cache, steps: number[][], after: (i: number) => void = () => {}): Promise<Uint32Array[]> {
  const model = arrays(), bits: Uint32Array[] = [];
  for (const [i, lengths] of steps.entries()) {
    const { got } = step(device, cache, model, lengths, 10 * i);
    for (const values of got) bits.push(new Uint32Array((await values as Float32Array).buffer));
    after(i);
  }
  return bits;
}

const STEPS = [[100, 7], [1, 1], [1, 1], [40, 1], [1, 1], [1, 0]];
for (const dtype of ["float32", "float16"] as const) {
  Deno.test(`OffloadedCache and OffloadedStaticCache give the bits of DynamicCache in ${dtype}`, async () => {
    using plain = new DynamicCache({ dtype });
    const want = await outputs(plain, STEPS);
    using offloaded = new OffloadedCache({ dtype });
    assertEquals(await outputs(offloaded, STEPS), want);
    using fixed = new OffloadedStaticCache({ dtype, maxCacheLen: 256 });
    assertEquals(await outputs(fixed, STEPS), want);
    assertThrows(() => fixed.reserve(2, [256, 1]), LimitError, "its capacity is 256");
    assertEquals([offloaded.lengths, fixed.lengths], [plain.lengths, plain.lengths]);
    await device.stream.settled();
  });
}

Deno.test("OffloadedCache holds two layers and the last tokens on the GPU, and returns all of it", async () => {
  const before = device.pool.stats.bytesInUse;
  {
    using cache = new OffloadedCache();
    const layer = 2 * 2 * 2 * 256 * 8 * 4; // keys and values, rows, heads, capacity, length, bytes
    const token = 2 * 2 * 2 * 8 * 4;
    const most: number[] = [];
    await outputs(cache, STEPS, () => {
      most.push(cache.byteLength);
      assertEquals(device.pool.stats.bytesInUse - before >= cache.byteLength, true);
    });
    const constant = LAYERS * (32 * token + 512) + 256; // whatever the length: new tokens, layouts and counts
    assert(most.every((bytes) => bytes <= 2 * layer + constant), `${most}`);
    assertEquals(cache.hostBytes, LAYERS * layer);
    await device.stream.settled();
  }
  assertEquals(device.pool.stats.bytesInUse, before);
});

Deno.test("OffloadedCache refuses a model that skips layers", () => {
  using cache = new OffloadedCache();
  const model = arrays();
  cache.reserve(2, [1, 1]);
  const skipping: Cache = Object.create(cache, {
    attend: {
      value: (layer: number, ...rest: never[]) =>
        cache.attend(layer + 1, ...rest as unknown as [never, never, never, never, never]),
    },
    reserve: { value: () => {} },
  });
  assertThrows(() => step(device, skipping, model, [1, 1], 1), ValueError, "layers are skipped. Use DynamicCache.");
});
