/** Caches in codes: logits of Transformers 4.44 step by step, bytes, and what they refuse. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DynamicCache, QuantizedCache, type QuantizedCacheOptions } from "../../src/cache/mod.ts";
import { ValueError } from "../../src/errors.ts";
import { generate } from "../../src/generation/mod.ts";
import type { Device } from "../../src/gpu/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import type { Tensor } from "../../src/tensor/mod.ts";
import { assertClose, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor, referencePath } from "../reference.ts";
import { embedded } from "../generation/models.ts";
import { ArrayCache, step } from "./array_cache.ts";

const device = await testDevice(), plain = await testDevice({ features: { subgroups: false } });

/** These goldens were made with the window switched off. */
class WithoutWindow extends QuantizedCache {
  override attend(...args: Parameters<QuantizedCache["attend"]>): Tensor {
    const [layer, q, k, v, batch, options] = args;
    return super.attend(layer, q, k, v, batch, { ...options, window: undefined });
  }
}

interface LegacyCase {
  prefill: number;
  backend: "quanto" | "hqq";
  nbits: number;
  axis: number;
  q_group_size: number;
  residual_length: number;
  rounding_max_abs_diff: number;
  inputs: { input_ids: number[][] };
  outputs: { logits: GoldenTensor };
}

/** Steps of a case whose logits are not near the golden ones; throws if one's are far from them. */
async function stepsOff(name: string, c: LegacyCase, on: Device): Promise<number> {
  using model = await loadModel(referencePath(`data/models/${name}`), { device: on, dtype: "float32" });
  using cache = new WithoutWindow({
    backend: c.backend,
    nbits: c.nbits,
    axisKey: c.axis,
    axisValue: c.axis,
    qGroupSize: c.q_group_size,
    residualLength: c.residual_length,
    computeDtype: "float32",
    dtype: "float32",
  });
  const [ids = []] = c.inputs.input_ids, V = c.outputs.logits.shape[2]!;
  let off = 0;
  for (let at = 0; at < ids.length; at = Math.max(c.prefill, at + 1)) {
    const end = Math.max(c.prefill, at + 1);
    using output = await model.forward({ inputIds: [ids.slice(at, end)] }, { cache });
    const got = await output.logits!.read(), want = c.outputs.logits.data.subarray(at * V, end * V) as Float32Array;
    if (want.some((x, i) => !(Math.abs(got[i]! - x) <= 1e-3 + 10 * c.rounding_max_abs_diff))) off++;
    assertClose(`logits of token ${at}`, got, want, { atol: 0.4, rtol: 0.02 });
  }
  assertEquals(cache.getSeqLength(), ids.length);
  return off;
}

for (const name of ["llama", "mistral"]) {
  for (const c of await goldenCases<LegacyCase>(`data/generate/legacy-caches-${name}`, "quantized")) {
    Deno.test(`a model on a QuantizedCache gives Transformers 4.44's logits: ${name} ${c.name}`, async () => {
      let off = await stepsOff(name, c, device);
      // a value on the edge between two codes may round either way, and the logits of all later steps then move: sums in
      // another order put other values there, an error is one in both
      if (off > 3) off = await stepsOff(name, c, plain);
      assert(off <= 3, `${off} steps differ`);
    });
  }
}

Deno.test("QuantizedCache at 4 bits takes at most 0.30 of float16's bytes for 4,096 tokens", () => {
  const geometry = { layers: 1, heads: 1, kvHeads: 1, dim: 64, scale: 0.125 };
  const bytes = [new QuantizedCache({ nbits: 4 }), new DynamicCache({ dtype: "float16" })].map((cache) => {
    using owned = cache;
    step(device, owned, new ArrayCache({ ...geometry, window: 1 }, Math.fround, 1), [4096], 1);
    return owned.byteLength;
  });
  const share = bytes[0]! / bytes[1]!;
  assert(share > 0.2 && share <= 0.30, `${share}`);
});

Deno.test("QuantizedCache: fork, reorder, select, crop and reset give what a cache that went that way gives", async () => {
  const options: QuantizedCacheOptions = { nbits: 8, qGroupSize: 8, residualLength: 6, dtype: "float32" };
  const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
  const run = async (cache: QuantizedCache, rows: number[][]) => {
    using output = await model.forward({ inputIds: rows }, { cache });
    return [...await output.logits!.read()];
  };
  using cache = new QuantizedCache(options);
  const prompts = [[1, 2, 3, 4, 5], [9, 8, 7, 6, 5]], first = await run(cache, prompts);
  for (let i = 0; i < 4; i++) await run(cache, [[i], [i + 3]]);
  using fork = cache.fork();
  assertEquals(fork.lengths, cache.lengths);
  const both = await run(cache, [[7], [8]]);
  assertEquals(await run(fork, [[7], [8]]), both);
  fork.reorder([1, 0]);
  const half = both.length / 2, next = await run(cache, [[1], [2]]);
  assertClose("swapped", await run(fork, [[2], [1]]), [...next.slice(half), ...next.slice(0, half)], { atol: 1e-4 });
  fork.batchSelectIndices([1]);
  const after = await run(cache, [[3], [3]]);
  assertClose("one row", await run(fork, [[3]]), after.slice(0, half), { atol: 1e-4 });
  fork.crop(-1);
  assertClose("taken back", await run(fork, [[3]]), after.slice(0, half), { atol: 0.02 });
  const [k, v] = fork.at(0);
  assertEquals(k.shape[2], fork.lengths[0]);
  k.dispose();
  v.dispose();
  cache.reset();
  assertEquals(cache.quantizedLengths, [0, 0]);
  assertEquals(await run(cache, prompts), first);
  model.dispose();
});

Deno.test("generate() on a QuantizedCache does not depend on how far the loop runs ahead", async () => {
  using model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
  const options = {
    maxNewTokens: 60,
    doSample: false,
    eosTokenId: null,
    cacheImplementation: "quantized",
    cacheConfig: { nbits: 4, qGroupSize: 32, residualLength: 16 },
  };
  const inputs = { inputIds: [[7, 8, 9, 10, 11], [300, 5]] };
  const ahead = await generate(model, inputs, options);
  const before = device.pool.stats.bytesInUse;
  const stepwise = await generate(model, inputs, { ...options, outputLogits: true, returnDictInGenerate: true });
  assertEquals(ahead.sequences, stepwise.sequences);
  stepwise.cache![Symbol.dispose]();
  assertEquals(device.pool.stats.bytesInUse, before);
  const wrong = { ...options, cacheConfig: { nbits: 5 } };
  await assertRejects(
    () => generate(model, inputs, wrong),
    ValueError,
    "`nbits` should be 1, 2, 3, 4 or 8 but found 5",
  );
});

const refused: [QuantizedCacheOptions, string][] = [
  [{ nbits: 0 }, "Some of the keys in `cacheConfig` are defined incorrectly. `nbits` should be"],
  [{ nbits: 3 }, "`nbits` for `quanto` backend has to be one of [`2`, `4`, `8`] but got 3"],
  [{ qGroupSize: 0 }, "`qGroupSize` should be a multiple of 4 but found 0"],
  [{ qGroupSize: 6 }, "`qGroupSize` should be a multiple of 4 but found 6"],
  [{ residualLength: -1 }, "`residualLength` should be a whole number from 0 but found -1"],
  [{ axisKey: 2 }, "`axisKey` should be 0, 1 or -1 but found 2"],
  [{ axisKey: 1 }, "`axisKey` for `quanto` backend has to be one of [`0`, `-1`] but got 1"],
  [{ backend: "hqq", axisValue: -1 }, "`axisValue` for `HQQ` backend has to be one of [`0`, `1`] but got -1"],
  [{ backend: "x" as "hqq" }, "Unknown quantization backend `x`"],
  [{ computeDtype: "int8" as "float16" }, "`computeDtype` should be float16 or float32 but found int8"],
];
for (const [options, message] of refused) {
  Deno.test(`QuantizedCache refuses ${JSON.stringify(options)}`, () => {
    assertThrows(() => new QuantizedCache(options), ValueError, message);
  });
}
