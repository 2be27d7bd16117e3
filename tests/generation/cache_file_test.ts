/** Caches in files, and generation that falls back on host memory. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  type Cache,
  CrossCache,
  DynamicCache,
  EncoderDecoderCache,
  type KvCache,
  NoCache,
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
import { TINY_ENCODER_DECODERS, writeModel } from "../models/tiny_model.ts";
import { TemporaryFolder } from "../weights/fixture.ts";
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
  using none = new NoCache();
  await assertRejects(() => saveCache(none, model, path), NotSupportedError, "must hold keys or states of its own");
});

const AS_THEY_LIE: Record<string, () => KvCache> = {
  "sinks, wrapped": () => new SinkCache({ windowLength: 16, numSinkTokens: 2 }),
  "4 bits": () => new QuantizedCache({ qGroupSize: 32, residualLength: 4, dtype: "float32" }),
  "hqq, all in the rest": () => new QuantizedCache({ backend: "hqq", qGroupSize: 4096, computeDtype: "float32" }),
};
for (const [name, make] of Object.entries(AS_THEY_LIE)) {
  Deno.test(`saveCache() and loadCache() keep a cache as it lies: ${name}`, async () => {
    const before = device.pool.stats.bytesInUse;
    {
      using cache = make();
      await logits(model, cache, rows);
      for (let i = 0; i < 24; i++) await logits(model, cache, [[i + 3], [2 * i + 4]]);
      cache.crop(cache.lengths.map((n) => n - 1));
      await saveCache(cache, model, path);
      using again = await loadCache(model, path) as KvCache;
      assertEquals([again.constructor, again.lengths, again.dtype], [cache.constructor, [30, 27], cache.dtype]);
      for (const ids of [next, [[5], [6]], [[7, 8, 9], [10]]]) {
        assertEquals(await logits(model, again, ids), await logits(model, cache, ids));
      }
      assertEquals(again.byteLength, cache.byteLength);
      using fork = again.fork();
      assertEquals(await logits(model, fork, next), await logits(model, cache, next));
    }
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}

Deno.test("loadCache() refuses a cache as it lies for another model, dtype or kind, or with parts missing", async () => {
  using cache = new SinkCache({ windowLength: 16, numSinkTokens: 2 });
  await logits(model, cache, rows);
  await saveCache(cache, model, path);
  using half = await loadModel(embedded("tensaur-draft"), { device, dtype: "float16" });
  await assertRejects(() => loadCache(half, path), ValueError, "its dtype must be the present one's: it is float32");
  using tiny = await loadModel(embedded("tensaur-tiny"), { device, dtype: "float32" });
  await assertRejects(() => loadCache(tiny, path), ValueError, "its model must be the present one's");
  const as = { cacheImplementation: "quantized" };
  await assertRejects(() => loadCache(model, path, as), ValueError, "it has those of sink, as they lie");
  const good = new TextDecoder("latin1").decode(await Deno.readFile(path));
  const spoilt: [string, string, string][] = [
    ['\\"kind\\":\\"sink\\"', '\\"kind\\":\\"sunk\\"', "its kind must be one of sink, quantized, mamba: it is sunk"],
    ['\\"lengths\\":[7,4]', '\\"lengths\\":[7,-]', "its state must say"],
    ['\\"lengths\\":[7,4]', '\\"lengths\\":[777]', "its state must say"],
    ['\\"windowLength\\":16', '\\"windowLength\\":96', "its keys must be float32"],
    ["layers.1.sinks", "layers.1.shrub", "its sinks must be float32"],
  ];
  const before = device.pool.stats.bytesInUse;
  for (const [from, to, message] of spoilt) {
    assert(good.includes(from), from);
    await Deno.writeFile(path, Uint8Array.from(good.replace(from, to), (c) => c.charCodeAt(0)));
    await assertRejects(() => loadCache(model, path), ModelFormatError, message);
    assertEquals(device.pool.stats.bytesInUse, before);
  }
});

Deno.test("loadCache() makes codes of a saved cache, as of a first input", async () => {
  using plain = model.newCache();
  await logits(model, plain, rows);
  await saveCache(plain, model, path);
  using codes = await loadCache(model, path, { cacheImplementation: "quantized" }) as QuantizedCache;
  using fed = new QuantizedCache({ dtype: "float32" });
  await logits(model, fed, rows);
  assertEquals([codes.lengths, codes.quantizedLengths], [fed.lengths, fed.quantizedLengths]);
  assertEquals(await logits(model, codes, next), await logits(model, fed, next));
});

Deno.test("saveCache() and loadCache() keep both parts of an encoder-decoder's cache", async () => {
  using folder = new TemporaryFolder();
  await writeModel(folder, TINY_ENCODER_DECODERS.bart);
  using bart = await loadModel(folder.path, { device, dtype: "float32" });
  const kinds: [self: () => Cache, as?: string][] = [
    [() => new DynamicCache()],
    [() => new DynamicCache(), "static"],
    [() => new PagedCache()],
    [() => new SinkCache({ windowLength: 16, numSinkTokens: 2 })],
  ];
  const decode = async (cache: Cache, decoderInputIds: number[][], inputIds?: number[][]) => {
    using output = await bart.forward({ inputIds, decoderInputIds }, { cache });
    return [...await output.logits!.read()];
  };
  const before = device.pool.stats.bytesInUse, forms = { maxCacheLen: 12 };
  for (const [self, cacheImplementation] of kinds) {
    using cache = new EncoderDecoderCache(self(), new CrossCache());
    using words = await bart.forward({
      inputIds: [[4, 5, 6, 7], [8, 9, 0, 0]],
      attentionMask: [[1, 1, 1, 1], [1, 1, 0, 0]],
      decoderInputIds: [[2, 20, 21], [2, 30, 31]],
    }, { cache });
    assertEquals(words.encoderLastHiddenState !== undefined, true);
    await saveCache(cache, bart, path);
    using again = await loadCache(bart, path, { cacheImplementation, ...forms }) as EncoderDecoderCache;
    assertEquals([again.lengths, again.crossAttentionCache.lengths], [[3, 3], [4, 2]]);
    for (const ids of [[[7], [8]], [[9], [10]]]) assertEquals(await decode(again, ids), await decode(cache, ids));
  }
  using encoded = bart.newCache(); // of which only the encoder has run
  bart.encode({ inputIds: [[4, 5, 6]] }, encoded).dispose();
  await saveCache(encoded, bart, path);
  using fresh = await loadCache(bart, path);
  assertEquals(await decode(fresh, [[2]]), await decode(encoded, [[2]]));
  const text = new TextDecoder("latin1").decode(await Deno.readFile(path)).replace("cross.0.key", "cross.7.key");
  await Deno.writeFile(path, Uint8Array.from(text, (c) => c.charCodeAt(0)));
  await assertRejects(() => loadCache(bart, path), ModelFormatError, "must have cross.0.key");
  encoded[Symbol.dispose]();
  fresh[Symbol.dispose]();
  assertEquals(device.pool.stats.bytesInUse, before);
});

if (hasReference("data/models/mamba")) {
  Deno.test("saveCache() and loadCache() keep states", async () => {
    using mamba = await loadModel(referencePath("data/models/mamba"), { device, dtype: "float32" });
    using cache = mamba.newCache();
    await logits(mamba, cache, rows);
    await saveCache(cache, mamba, path);
    using again = await loadCache(mamba, path);
    assertEquals(again.lengths, [7, 4]);
    assertEquals(await logits(mamba, again, next), await logits(mamba, cache, next));
  });
}

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
