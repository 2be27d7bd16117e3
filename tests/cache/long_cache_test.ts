/** Caches of 16,384 tokens: every kind attends to all of them, or to its window. */
import {
  DynamicCache,
  HybridCache,
  type KvCache,
  OffloadedCache,
  PagedCache,
  QuantizedCache,
  SlidingWindowCache,
  StaticCache,
} from "../../src/cache/mod.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";
import { ArrayCache, step } from "./array_cache.ts";

const LENGTH = 16_384, WINDOW = 256, DIM = 64;
const KINDS: Record<string, [make: () => KvCache, window?: number, tolerance?: number]> = {
  dynamic: [() => new DynamicCache({ dtype: "float16" })],
  static: [() => new StaticCache({ maxCacheLen: LENGTH + 8, dtype: "float16" })],
  hybrid: [() => new HybridCache({ maxCacheLen: LENGTH + 8, dtype: "float16" })],
  paged: [() => new PagedCache({ dtype: "float16" })],
  offloaded: [() => new OffloadedCache({ dtype: "float16" })],
  sliding: [() => new SlidingWindowCache({ slidingWindow: WINDOW, dtype: "float16" }), WINDOW],
  "4 bits": [() => new QuantizedCache({ nbits: 4, dtype: "float16" }), undefined, 0.02],
};

if (Deno.env.get("TENSAUR_TEST_FULL") !== "1") {
  Deno.test({ name: "skipped: caches of 16,384 tokens run in the full suite", ignore: true, fn() {} });
} else {
  const device = await testDevice();
  for (const [name, [make, window, atol = 1e-4]] of Object.entries(KINDS)) {
    Deno.test(`${name}: a cache of ${LENGTH} tokens attends as plain arrays do`, async () => {
      using cache = make();
      const geometry = { layers: 2, heads: 2, kvHeads: 1, dim: DIM, scale: 0.125, window };
      const round = (x: number) => new Float16Array([x])[0]!;
      const model = new ArrayCache(geometry, round, 1);
      const [k, v] = [randn(LENGTH * DIM, 1).map(round), randn(LENGTH * DIM, 2).map(round)];
      const rows = (x: Float32Array) => Array.from({ length: LENGTH }, (_, i) => x.subarray(i * DIM, (i + 1) * DIM));
      using keys = tensor(device, k, [1, 1, LENGTH, DIM]), values = tensor(device, v, [1, 1, LENGTH, DIM]);
      cache.adopt([[keys, values], [keys, values]], [LENGTH], () => ({ scale: 0.125, causal: true, window }));
      for (const layer of [0, 1]) (model.keys[layer] = [rows(k)], model.values[layer] = [rows(v)]);
      for (const [i, n] of [1, 3, 1].entries()) {
        const { got, want } = step(device, cache, model, [n], 10 * i);
        for (const [layer, o] of got.entries()) {
          assertClose(`layer ${layer} after ${n}`, await o, want[layer]!, { rtol: 1e-3, atol });
        }
      }
      await device.stream.settled();
    });
  }
}
