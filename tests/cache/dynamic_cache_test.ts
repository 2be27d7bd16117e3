/** What users do with a cache beside generating: rows of the batch, layers as tensors, copies. */
import { assertEquals, assertThrows } from "@std/assert";
import { DynamicCache, type KvCache, StaticCache } from "../../src/cache/mod.ts";
import { ShapeError, ValueError } from "../../src/errors.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { assertClose, testDevice } from "../helpers.ts";
import { ArrayCache, type Attended, step } from "./array_cache.ts";

const device = await testDevice();
const geometry = { layers: 2, heads: 4, kvHeads: 2, dim: 6, scale: 0.4 };
const arrays = (rows: number) => new ArrayCache(geometry, Math.fround, rows);

async function assertSame({ got, want }: Attended): Promise<void> {
  for (const [layer, values] of got.entries()) {
    assertClose(`layer ${layer}`, await values, want[layer]!, { rtol: 1e-4, atol: 1e-5 });
  }
}

/** A cache and its plain-array model after a few steps of ragged rows. */
async function filled<C extends KvCache>(cache: C, lengths: number[]): Promise<{ cache: C; model: ArrayCache }> {
  const model = arrays(lengths.length);
  await assertSame(step(device, cache, model, lengths, 1));
  return { cache, model };
}

Deno.test("cache lengths: getSeqLength, getUsableLength, getMaxCacheShape and seenTokens", async () => {
  using dynamic = new DynamicCache();
  assertEquals([dynamic.getSeqLength(), dynamic.layers, dynamic.getMaxCacheShape()], [0, 0, null]);
  await filled(dynamic, [5, 3]);
  assertEquals([dynamic.getSeqLength(), dynamic.getSeqLength(1), dynamic.getSeqLength(2)], [5, 5, 0]);
  assertEquals([dynamic.getMaxLength(), dynamic.getUsableLength(100), dynamic.seenTokens], [null, 5, 5]);
  using fixed = new StaticCache({ maxCacheLen: 9 });
  await filled(fixed, [5, 3]);
  assertEquals([fixed.getMaxCacheShape(), fixed.getUsableLength(4), fixed.getUsableLength(6)], [9, 5, 3]);
});

Deno.test("cache rows: batchRepeatInterleave, batchSelectIndices, and what they refuse", async () => {
  using made = await disposable(filled(new DynamicCache(), [5, 3]));
  const { cache, model } = made;
  cache.batchRepeatInterleave(2);
  model.reorder([0, 0, 1, 1]);
  assertEquals(cache.lengths, [5, 5, 3, 3]);
  await assertSame(step(device, cache, model, [1, 2, 1, 0], 2));
  cache.batchSelectIndices([3, 1, 0]);
  model.reorder([3, 1, 0]);
  await assertSame(step(device, cache, model, [1, 2, 3], 3));
  for (const rows of [[3], [-1], [], [0.5]]) {
    assertThrows(() => cache.batchSelectIndices(rows), ValueError, "rows from 0 to 2");
  }
  for (const times of [0, -1, 1.5]) assertThrows(() => cache.batchRepeatInterleave(times), ValueError, "from 1");
});

Deno.test("DynamicCache.batchSplit() and fromBatchSplits() undo each other, and the parts stand alone", async () => {
  using made = await disposable(filled(new DynamicCache(), [5, 3, 7]));
  const { cache, model } = made;
  const parts = cache.batchSplit(3, 2) as DynamicCache[];
  assertEquals(parts.map(({ lengths }) => lengths), [[5, 3], [7]]);
  using joined = DynamicCache.fromBatchSplits(parts);
  const before = model.fork();
  await assertSame(step(device, joined, model, [1, 2, 3], 2));
  await assertSame(step(device, cache, before, [2, 2, 2], 3));
  const last = arrays(1);
  await assertSame(step(device, new DynamicCache(), last, [1], 9)); // other values: the part must not see them
  assertThrows(() => cache.batchSplit(2, 1), ValueError, "3 sequences");
  assertThrows(() => cache.batchSplit(3, 0), ValueError, "parts of 0");
  assertThrows(() => DynamicCache.fromBatchSplits([]), ValueError, "there must be some");
  for (const part of parts) part.dispose();
});

for (const dtype of ["float32", "float16"] as const) {
  Deno.test(`DynamicCache.toLegacyCache() and fromLegacyCache() undo each other in ${dtype}`, async () => {
    using cache = new DynamicCache({ dtype });
    const model = new ArrayCache(geometry, dtype === "float16" ? (x) => new Float16Array([x])[0]! : Math.fround, 2);
    await assertSame(step(device, cache, model, [5, 3], 1));
    const past = cache.toLegacyCache();
    assertEquals(past.map(([k, v]) => [k.shape, v.shape, k.dtype]), Array(2).fill([[2, 2, 5, 6], [2, 2, 5, 6], dtype]));
    for (const [layer, tensors] of past.entries()) {
      const rows = [model.keys[layer]!, model.values[layer]!];
      for (const [i, t] of tensors.entries()) assertEquals([...await t.read()], padded(rows[i]!, 5));
    }
    using again = DynamicCache.fromLegacyCache(past, [5, 3]);
    await assertSame(step(device, again, model, [1, 2], 2));
    past.flat().forEach((t) => t.dispose());
  });
}

Deno.test("DynamicCache.fromLegacyCache() takes none, and refuses tensors that do not fit", () => {
  assertEquals([DynamicCache.fromLegacyCache().layers, DynamicCache.fromLegacyCache(null).lengths], [0, []]);
  using k = tensor(device, new Float32Array(24), [1, 2, 2, 6]);
  using v = tensor(device, new Float32Array(12), [1, 2, 1, 6]);
  assertThrows(() => DynamicCache.fromLegacyCache([[k, v]]), ShapeError, "must be [1, 2, S, 6]");
  assertThrows(() => DynamicCache.fromLegacyCache([[k, k]], [3]), ShapeError, "S at least 3");
});

Deno.test("cache layers: at(), iteration, and an index that is not there", async () => {
  using made = await disposable(filled(new DynamicCache(), [2]));
  const { cache } = made;
  const shapes = [...cache].map(([k]) => (k.dispose(), k.shape));
  assertEquals([cache.layers, shapes], [2, [[1, 2, 2, 6], [1, 2, 2, 6]]]);
  for (const layer of [2, -1, 0.5]) {
    assertThrows(() => cache.at(layer), ValueError, "the cache only has 2 layers");
  }
});

Deno.test("crop() with a number: a bound for all rows, or how many to take off", async () => {
  using made = await disposable(filled(new DynamicCache(), [7, 3]));
  const { cache, model } = made;
  for (const [by, lengths] of [[9, [7, 3]], [5, [5, 3]], [-2, [3, 1]], [0, [0, 0]]] as const) {
    cache.crop(by);
    model.crop(lengths);
    assertEquals(cache.lengths, lengths);
  }
  await assertSame(step(device, cache, model, [2, 1], 2));
  assertThrows(() => cache.crop(-2), ValueError, "(2,1): current value is -2");
});

async function disposable<T extends { cache: KvCache }>(made: Promise<T>): Promise<T & Disposable> {
  const value = await made;
  return { ...value, [Symbol.dispose]: () => value.cache.dispose() };
}

/** [B, Hkv, S, Dh] of rows [B][tokens][Hkv · Dh]. */
function padded(rows: Float32Array[][], S: number): number[] {
  const { kvHeads, dim } = geometry;
  return rows.flatMap((row) =>
    Array.from({ length: kvHeads }, (_, h) =>
      Array.from({ length: S }, (_, s) => {
        const at = row[s]?.subarray(h * dim, (h + 1) * dim);
        return [...at ?? Array<number>(dim).fill(0)];
      })).flat(2)
  );
}
