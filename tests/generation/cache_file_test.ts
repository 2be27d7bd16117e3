/** Caches in files, and generation that falls back on host memory. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  type Cache,
  DynamicCache,
  PagedCache,
  QuantizedCache,
  SinkCache,
  SlidingWindowCache,
} from "../../src/cache/mod.ts";
import { ModelFormatError, NotSupportedError, OutOfMemoryError, ValueError } from "../../src/errors.ts";
import { generate, loadCache, resilientGenerate, saveCache } from "../../src/generation/mod.ts";
import { openDevice } from "../../src/gpu/mod.ts";
import { loadModel, type Model } from "../../src/models/mod.ts";
import { setWarningHook } from "../../src/warn.ts";
import { testDevice } from "../helpers.ts";
import { hasReference, referencePath } from "../reference.ts";
import { embedded } from "./models.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
(await model.forward({ inputIds: [[1]] }))[Symbol.dispose](); // makes the rotary table, which stays
const path = await Deno.makeTempFile({ suffix: ".safetensors" });
const rows = [[7, 8, 9, 10, 11, 12, 13], [300, 5, 6, 7]], next = [[1, 2], [3]];

async function logits(model: Model, cache: Cache, inputIds: number[][]): Promise<number[]> {
  using output = await model.forward({ inputIds }, { cache });
  return [...await output.logits!.read()];
}

for (const name of ["dynamic", "static", "paged", "offloaded"]) {
  Deno.test(`saveCache() and loadCache() keep what the model goes on from: as ${name}`, async () => {
    const before = device.pool.stats.bytesInUse;
    {
      using cache = name === "paged" ? new PagedCache() : new DynamicCache();
      await logits(model, cache, rows);
      await saveCache(cache, model, path);
      using again = await loadCache(model, path, { cacheImplementation: name, maxCacheLen: 16 });
      assertEquals(again.lengths, [7, 4]);
      assertEquals(await logits(model, again, next), await logits(model, cache, next));
    }
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}

if (hasReference("data/models/mistral")) {
  Deno.test("saveCache() and loadCache() keep windows", async () => {
    using mistral = await loadModel(referencePath("data/models/mistral"), { device, dtype: "float32" });
    for (const name of ["sliding_window", "hybrid"]) {
      using cache = new SlidingWindowCache({ slidingWindow: 8 });
      for (let i = 0; i < 30; i++) await logits(mistral, cache, [[i + 3], [i + 4]]);
      await saveCache(cache, mistral, path);
      if (name === "hybrid") continue; // its layers of short caches want everything
      using again = await loadCache(mistral, path, { cacheImplementation: name, maxCacheLen: 64 });
      assertEquals(await logits(mistral, again, next), await logits(mistral, cache, next));
    }
    await assertRejects(() => loadCache(model, path), ValueError, "its model must be the present one's");
  });
}

Deno.test("loadCache() refuses another dtype and another file, saveCache() what it cannot read", async () => {
  using cache = new DynamicCache({ dtype: "float16" });
  await logits(model, cache, rows);
  await saveCache(cache, model, path);
  await assertRejects(() => loadCache(model, path), ValueError, "its dtype must be the present one's: it is float16");
  const weights = `${embedded("tensaur-draft")}/model.safetensors`;
  await assertRejects(() => loadCache(model, weights), ModelFormatError, "must have the format tensaur-cache-1");
  using plain = model.newCache();
  await logits(model, plain, rows);
  await saveCache(plain, model, path);
  await assertRejects(
    () => loadCache(model, path, { cacheImplementation: "quantized" }),
    NotSupportedError,
    "its keys must come from a forward pass",
  );
  for (const inexact of [new SinkCache({ windowLength: 8, numSinkTokens: 1 }), new QuantizedCache()]) {
    using refused = inexact;
    await assertRejects(() => saveCache(refused, model, path), NotSupportedError, "must be those that the model made");
  }
});

Deno.test("resilientGenerate() goes on in host memory where the GPU's is too small", async () => {
  const options = { maxNewTokens: 8, doSample: false, eosTokenId: null };
  const prompt = { inputIds: [Array.from({ length: 400 }, (_, i) => i % 700 + 1)] };
  const warnings: string[] = [];
  setWarningHook((_, message) => void warnings.push(message));
  try {
    const needs = async (cacheImplementation: string) => {
      await using other = await openDevice();
      const model = await loadModel(embedded("tensaur-tiny"), { device: other, dtype: "float32" });
      const { sequences } = await generate(model, prompt, { ...options, cacheImplementation, prefillChunkSize: 32 });
      return { peak: other.pool.stats.peakBytes, sequences };
    };
    const { peak: plain } = await needs("dynamic"), { peak: offloaded, sequences: want } = await needs("offloaded");
    assert(offloaded < plain, `${offloaded} bytes against ${plain}`);
    await using small = await openDevice({ memoryBudget: Math.floor((plain + offloaded) / 2) });
    const model = await loadModel(embedded("tensaur-tiny"), { device: small, dtype: "float32" });
    const chunked = { ...options, prefillChunkSize: 32 };
    await assertRejects(() => generate(model, prompt, chunked), OutOfMemoryError);
    assertEquals((await resilientGenerate(model, prompt, chunked)).sequences, want);
    assert(
      warnings.some((text) => text.endsWith('Trying again with cacheImplementation: "offloaded".')),
      warnings.join(),
    );
    using cache = model.newCache();
    await assertRejects(() => resilientGenerate(model, prompt, { ...chunked, cache }), OutOfMemoryError);
  } finally {
    setWarningHook();
  }
});
