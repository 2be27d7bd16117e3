/** `cacheImplementation`: every cache generates what the default one does, or says why it cannot be had. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { CACHE_IMPLEMENTATIONS, SinkCache, SlidingWindowCache } from "../../src/cache/mod.ts";
import { ValueError } from "../../src/errors.ts";
import { generate, type GenerationOptions } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { setWarningHook } from "../../src/warn.ts";
import { testDevice } from "../helpers.ts";
import { hasReference, referencePath } from "../reference.ts";
import { embedded } from "./models.ts";

const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const inputs = { inputIds: [[7, 8, 9, 10, 11], [300], [12, 13, 14], [15, 16, 17, 18, 19, 20, 21, 22, 23]] };
const options = { maxNewTokens: FULL ? 200 : 40, eosTokenId: null, doSample: false } satisfies GenerationOptions;
const { sequences: want } = await generate(model, inputs, options);

const EQUAL = ["dynamic", "static", "offloaded", "offloaded_static", "paged"];
for (const cacheImplementation of EQUAL) {
  Deno.test(`generate() with cacheImplementation "${cacheImplementation}" gives the tokens of the default cache`, async () => {
    const { sequences } = await generate(model, inputs, { ...options, cacheImplementation });
    assertEquals(sequences, want);
    const drawn = { ...options, maxNewTokens: FULL ? 200 : 12, doSample: true, temperature: 2, seed: 5 };
    assertEquals(
      await generate(model, inputs, { ...drawn, cacheImplementation }),
      await generate(model, inputs, drawn),
    );
    const beams = { ...options, maxNewTokens: FULL ? 200 : 6, numBeams: 2 };
    assertEquals(
      (await generate(model, inputs, { ...beams, cacheImplementation })).sequences,
      (await generate(model, inputs, beams)).sequences,
    );
    const alone = { inputIds: [inputs.inputIds[3]!] };
    assertEquals(
      (await generate(model, alone, { ...options, cacheImplementation })).sequences,
      (await generate(model, alone, options)).sequences,
    );
  });
}

Deno.test("generate() keeps its static cache, and makes a larger one where it must", async () => {
  const run = (maxNewTokens: number) =>
    generate(model, inputs, { ...options, maxNewTokens, cacheImplementation: "static" });
  await run(20);
  await run(20);
  const { created, bytesInUse } = device.pool.stats, { pipelines } = device.kernels.counters;
  const { sequences } = await run(20);
  assertEquals([device.pool.stats.bytesInUse, device.kernels.counters.pipelines], [bytesInUse, pipelines]);
  assert(device.pool.stats.created - created <= 1, "buffers were made anew");
  assertEquals(sequences, (await generate(model, inputs, { ...options, maxNewTokens: 20 })).sequences);
  await run(100);
  assert(device.pool.stats.bytesInUse > bytesInUse);
});

const refused: [string, GenerationOptions, string][] = [
  ["a name that is none", { cacheImplementation: "foo" }, "Invalid `cacheImplementation` (foo). Choose one of: ['dyn"],
  ["a name of Object", { cacheImplementation: "toString" }, "Invalid `cacheImplementation` (toString)."],
  ["a window of a model without one", { cacheImplementation: "sliding_window" }, "supporting sliding window attention"],
  ["a hybrid of a model without a window", { cacheImplementation: "hybrid" }, "supporting sliding window attention"],
  ["states of a model without them", { cacheImplementation: "mamba" }, "layers keep states"],
  [
    "a config that none asked for",
    { cacheConfig: { nbits: 4 } },
    "implementation you are using (None) does not require",
  ],
  ["a config of a static cache", { cacheImplementation: "static", cacheConfig: {} }, "(static) does not require any"],
];
for (const [what, options, message] of refused) {
  Deno.test(`generate() refuses ${what}`, async () => {
    const before = device.pool.stats.bytesInUse;
    await assertRejects(() => generate(model, { inputIds: [[1]] }, options), ValueError, message);
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}

Deno.test("generate() refuses a cache beside a name, and warns of a name without a cache", async () => {
  using cache = model.newCache();
  const both = { cache, cacheImplementation: "static" };
  await assertRejects(
    () => generate(model, { inputIds: [[1]] }, both),
    ValueError,
    "Passing both `cacheImplementation`",
  );
  const warnings: string[] = [];
  setWarningHook((_, message) => void warnings.push(message));
  try {
    await generate(model, { inputIds: [[1]] }, { maxNewTokens: 1, useCache: false, cacheImplementation: "static" });
    const drafted = { maxNewTokens: 2, assistantModel: model, cacheImplementation: "offloaded" };
    await generate(model, { inputIds: [[1]] }, drafted);
  } finally {
    setWarningHook();
  }
  assert(
    warnings.some((text) => text.startsWith("You have set `useCache` to `false`, but cacheImplementation")),
    warnings.join(),
  );
  assert(
    warnings.some((text) => text.endsWith("a dynamic cache instead of a cache of type='offloaded'.")),
    warnings.join(),
  );
});

Deno.test("generate() on a SinkCache goes on past its window in the same memory", async () => {
  using cache = new SinkCache({ windowLength: 24, numSinkTokens: 4 });
  await generate(model, { inputIds: [[7, 8, 9]] }, { ...options, maxNewTokens: 30, cache });
  const { byteLength } = cache, ids = [[7, 8, 9, ...Array(29).fill(5), 6]];
  const { sequences } = await generate(model, { inputIds: ids }, { ...options, maxNewTokens: 150, cache });
  assertEquals([sequences[0]!.length, cache.byteLength, cache.getSeqLength()], [183, byteLength, 24]);
});

if (hasReference("data/models/mistral")) {
  Deno.test("generate() with a window's cache gives a window model's tokens: sliding_window, hybrid, paged", async () => {
    using model = await loadModel(referencePath("data/models/mistral"), { device, dtype: "float32" });
    const inputs = { inputIds: [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19], [20]] }; // window 8
    const o = { ...options, maxNewTokens: FULL ? 200 : 40 };
    const { sequences: want } = await generate(model, inputs, o);
    for (const cacheImplementation of ["sliding_window", "hybrid", "paged", "static"]) {
      assertEquals((await generate(model, inputs, { ...o, cacheImplementation })).sequences, want, cacheImplementation);
    }
    using cache = new SlidingWindowCache({ slidingWindow: 8 });
    const half = await generate(model, inputs, { ...o, maxNewTokens: 20, cache });
    const whole = await generate(model, {
      inputIds: half.sequences.map((row, b) => unpadded(row, inputs.inputIds[b]!.length + 20)),
    }, {
      ...o,
      maxNewTokens: o.maxNewTokens - 20,
      cache,
    });
    assertEquals(
      whole.sequences.map((row, b) => unpadded(row, inputs.inputIds[b]!.length + o.maxNewTokens)),
      want.map((row, b) => unpadded(row, inputs.inputIds[b]!.length + o.maxNewTokens)),
    );
  });
}

Deno.test("cacheImplementation takes the documents' names", () => {
  for (const name of [...EQUAL, "sliding_window", "hybrid", "mamba"]) {
    assert(CACHE_IMPLEMENTATIONS.includes(name), name);
  }
});

function unpadded(row: number[], length: number): number[] {
  return row.slice(0, length);
}
