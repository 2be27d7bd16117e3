/** Caches of encoder-decoders and of state-space models. */
import { assertEquals, assertThrows } from "@std/assert";
import {
  CrossCache,
  DynamicCache,
  EncoderDecoderCache,
  type KvCache,
  MambaCache,
  OffloadedCache,
  packBatch,
  PagedCache,
  QuantizedCache,
  StaticCache,
} from "../../src/cache/mod.ts";
import { NotSupportedError, ShapeError, ValueError } from "../../src/errors.ts";
import { attentionReference } from "../../src/ops/attention.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";
import { ArrayCache, step } from "./array_cache.ts";

const device = await testDevice();

/** Cross attention of one query a row, over encoder rows of `lengths`. */
function cross(q: Float32Array, k: Float32Array, v: Float32Array, lengths: number[]): number[] {
  let start = 0;
  return lengths.flatMap((n, b) => {
    const part = (x: Float32Array) => x.subarray(start * 8, (start + n) * 8);
    const o = attentionReference(q.subarray(8 * b, 8 * b + 8), part(k), part(v), 8, 0.5, () => [0, n]);
    start += n;
    return [...o];
  });
}

for (
  const [name, make] of Object.entries({
    DynamicCache: () => new DynamicCache(),
    StaticCache: () => new StaticCache({ maxCacheLen: 32 }),
  })
) {
  Deno.test(`EncoderDecoderCache over a ${name}: both parts, filled once, reordered, forked, reset`, async () => {
    const before = device.pool.stats.bytesInUse;
    {
      using cache = new EncoderDecoderCache(make(), new CrossCache());
      const lengths = [5, 2, 9], [k, v] = [randn(16 * 8, 1), randn(16 * 8, 2)], q = randn(24, 3);
      using kT = tensor(device, k, [16, 1, 8]), vT = tensor(device, v, [16, 1, 8]), qT = tensor(device, q, [3, 1, 8]);
      const model = new ArrayCache({ layers: 1, heads: 1, kvHeads: 1, dim: 8, scale: 0.5 }, Math.fround, 3);
      const own = step(device, cache, model, [4, 1, 2], 5);
      assertClose("own keys", await own.got[0]!, own.want[0]!, { atol: 1e-5, rtol: 1e-4 });
      using batch = packBatch(device, [0, 0, 0], [4, 1, 2], [1, 1, 1]);
      const attend = async (part: CrossCache) => {
        using o = part.attend(0, qT, batch, { scale: 0.5 });
        return await o.read();
      };
      assertThrows(
        () => cache.crossAttentionCache.attend(0, qT, batch, { scale: 0.5 }),
        ValueError,
        "layer 0 must be filled",
      );
      cache.crossAttentionCache.fill(0, kT, vT, lengths);
      assertEquals([cache.crossAttentionCache.isUpdated(0), cache.crossAttentionCache.isUpdated(1)], [true, false]);
      assertThrows(() => cache.crossAttentionCache.fill(0, kT, vT, lengths), ValueError, "filled once");
      const close = { atol: 1e-5, rtol: 1e-4 };
      assertClose("cross", await attend(cache.crossAttentionCache), cross(q, k, v, lengths), close);
      using fork = cache.fork();
      cache.reorder([2, 2, 0]);
      const rows = [2, 2, 0].flatMap((b) => Array.from({ length: lengths[b]! }, (_, i) => [0, 5, 7][b]! + i));
      const moved = (x: Float32Array) =>
        Float32Array.from(rows.flatMap((row) => [...x.subarray(8 * row, 8 * row + 8)]));
      assertClose("reordered", await attend(cache.crossAttentionCache), cross(q, moved(k), moved(v), [9, 9, 5]), close);
      assertClose("fork", await attend(fork.crossAttentionCache), cross(q, k, v, lengths), close);
      assertEquals([cache.lengths, fork.lengths, cache.getSeqLength()], [[2, 2, 4], [4, 1, 2], 4]);
      cache.crop([1, 2, 2]);
      assertEquals([cache.lengths, cache.crossAttentionCache.lengths], [[1, 2, 2], [9, 9, 5]]);
      cache.reset();
      assertEquals([cache.lengths, cache.crossAttentionCache.isUpdated(0)], [[0, 0, 0], false]);
    }
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}

Deno.test("EncoderDecoderCache: a cross part of any kind, and legacy layers of four tensors both ways", async () => {
  const before = device.pool.stats.bytesInUse;
  {
    const [k, v] = [randn(16 * 8, 1), randn(16 * 8, 2)], lengths = [5, 2, 9], q = randn(24, 3);
    using kT = tensor(device, k, [16, 1, 8]), vT = tensor(device, v, [16, 1, 8]), qT = tensor(device, q, [3, 1, 8]);
    using filled = new EncoderDecoderCache(new DynamicCache(), new CrossCache());
    filled.crossAttentionCache.fill(0, kT, vT, lengths);
    const model = new ArrayCache({ layers: 1, heads: 1, kvHeads: 1, dim: 8, scale: 0.5 }, Math.fround, 3);
    await Promise.all(step(device, filled, model, [4, 1, 2], 5).got);
    using batch = packBatch(device, [0, 0, 0], [4, 1, 2], [1, 1, 1]);
    const past = filled.toLegacyCache();
    assertEquals(past.map((layer) => layer.map(({ shape }) => shape)), [[
      ...Array(2).fill([3, 1, 4, 8]),
      ...Array(2).fill([3, 1, 9, 8]),
    ]]);
    const pair = [past[0]![2]!, past[0]![3]!] as const;
    const kinds: Record<string, KvCache> = {
      dynamic: new DynamicCache(),
      static: new StaticCache({ maxCacheLen: 9 }),
      paged: new PagedCache(),
      offloaded: new OffloadedCache(),
      quantized: new QuantizedCache({ nbits: 8, qGroupSize: 4, dtype: "float32" }),
    };
    for (const [name, kind] of Object.entries(kinds)) {
      kind.adopt([pair], lengths);
      using cache = new EncoderDecoderCache(new DynamicCache(), kind);
      using o = cache.crossAttentionCache.attend(0, qT, batch, { scale: 0.5 });
      const close = name === "quantized" ? { atol: 0.05, rtol: 0 } : { atol: 1e-5, rtol: 1e-4 };
      assertClose(name, await o.read(), cross(q, k, v, lengths), close);
      assertEquals([kind.byteLength, cache.crossAttentionCache.lengths], [0, lengths]);
    }
    using again = EncoderDecoderCache.fromLegacyCache(past, [4, 1, 2], lengths);
    assertEquals([again.lengths, again.crossAttentionCache.isUpdated(0)], [[4, 1, 2], true]);
    for (const [i, t] of again.toLegacyCache().flat().entries()) {
      assertEquals(await t.read(), await past[0]![i]!.read());
      t.dispose();
    }
    using own = EncoderDecoderCache.fromLegacyCache(past.map((layer) => layer.slice(0, 2)), [4, 1, 2]);
    assertEquals(own.crossAttentionCache.isUpdated(0), false);
    using none = EncoderDecoderCache.fromLegacyCache();
    assertEquals([none.lengths, none.toLegacyCache()], [[], []]);
    for (const t of past.flat()) t.dispose();
  }
  await device.stream.settled();
  assertEquals(device.pool.stats.bytesInUse, before);
});

Deno.test("MambaCache: the window rolls when it is full, states are replaced, rows move, reset zeroes in place", async () => {
  const before = device.pool.stats.bytesInUse;
  {
    using cache = new MambaCache({ layers: 2, intermediateSize: 3, convKernel: 4, stateSize: 2 });
    const window = [[0, 0, 0, 0], [0, 0, 0, 0]]; // of channel 0 of each row
    cache.reserve(2, [1, 1]);
    for (let t = 0; t < 6; t++) {
      cache.reserve(2, [1, 1]);
      using column = tensor(device, [t + 1, 0, 0, 10 * (t + 1), 0, 0], [2, 3]);
      cache.updateConvState(1, column);
      for (const [b, row] of window.entries()) {
        if (t >= 4) row.splice(0, 1), row.push(0);
        row[Math.min(t, 3)] = (b === 0 ? 1 : 10) * (t + 1);
      }
      const got = [...await cache.convStates(device, 1).read()];
      assertEquals([got.slice(0, 4), got.slice(12, 16)], window, `after token ${t}`);
      using batch = packBatch(device, [0, 0], [t, t], [1, 1]);
      cache.advance(batch);
      cache.advanced([1, 1]);
    }
    using state = tensor(device, randn(12, 1), [2, 3, 2]);
    cache.updateSsmState(0, state);
    assertEquals(await cache.ssmStates(device, 0).read(), await state.read());
    using fork = cache.fork();
    fork.reorder([1, 0]);
    assertEquals([...(await fork.convStates(device, 1).read()).slice(0, 4)], window[1]);
    assertEquals([...(await cache.convStates(device, 1).read()).slice(0, 4)], window[0]);
    const { buffer } = cache.convStates(device, 1), { generation } = cache;
    cache.reset();
    assertEquals([[...await cache.convStates(device, 1).read()], cache.lengths], [Array(24).fill(0), [0, 0]]);
    assertEquals([cache.convStates(device, 1).buffer, cache.generation], [buffer, generation]);
    assertEquals(cache.byteLength, 2 * 4 * 2 * 3 * (4 + 2) + 256); // and the counts
    assertThrows(() => fork.crop([1, 1]), NotSupportedError, "must keep all of its 6,6 tokens");
    assertThrows(() => fork.reserve(3, [1, 1, 1]), ShapeError, "its 2 sequences");
    assertThrows(() => fork.attend(), NotSupportedError, "holds no keys");
    using flat = state.reshape([12]);
    assertThrows(() => fork.updateSsmState(0, flat), ShapeError, "must be [2,3,2]");
  }
  assertEquals(device.pool.stats.bytesInUse, before);
});
