/** The whole pipe in a decode step: replayed without the host, and the same tokens as on the host. */
import { assertEquals } from "@std/assert";
import { StaticCache } from "../../src/cache/mod.ts";
import { generate, type GenerationOptions, stream } from "../../src/generation/mod.ts";
import { RunState } from "../../src/generation/processors/gpu_state.ts";
import { loadModel } from "../../src/models/mod.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { testDevice } from "../helpers.ts";
import { embedded, PROCESSORS } from "./models.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const prompt = [2043, 510, 300, 257], inputs = { inputIds: [prompt, [2043, 300]] };

/** Every processor that has a kernel. */
const all: GenerationOptions = {
  doSample: false,
  maxNewTokens: 60,
  eosTokenId: [3, 11],
  padTokenId: 0,
  ...PROCESSORS,
  minNewTokens: 20,
  exponentialDecayLengthPenalty: [30, 1.02],
};
const sampled: GenerationOptions = {
  ...all,
  doSample: true,
  temperature: 0.9,
  topH: 0.9,
  topK: 60,
  topP: 0.95,
  minP: 0.01,
  typicalP: 0.95,
  epsilonCutoff: 1e-4,
  etaCutoff: 1e-4,
  renormalizeLogits: true,
  seed: 4,
};

for (const [name, options] of Object.entries({ greedy: all, sampling: sampled })) {
  Deno.test(`${name} with every processor gives the tokens of the plain forms on the host`, async () => {
    const replayed = await generate(model, inputs, options);
    const onHost = await generate(model, inputs, { ...options, logitsProcessor: [() => {}] });
    assertEquals(replayed.sequences, onHost.sequences);
  });

  Deno.test(`${name} with every processor is replayed: no pipeline, bind group, buffer or host write after warm-up`, async () => {
    using cache = new StaticCache({ maxCacheLen: 256 });
    const counts = () => ({
      pipelines: device.kernels.counters.pipelines,
      bindGroups: device.kernels.counters.bindGroups,
      buffers: device.pool.stats.created,
      writes: device.stream.counters.writes,
    });
    const free = {
      ...options,
      eosTokenId: 2047,
      forcedEosTokenId: null,
      maxNewTokens: 100,
      guidanceScale: null,
      cache,
    };
    let steps = 0, warm: ReturnType<typeof counts> | undefined;
    for await (const _ of stream(model, { inputIds: [prompt] }, { ...free, minNewTokens: 100 })) {
      if (++steps === 30) warm = counts();
      if (steps === 90) assertEquals(counts(), warm);
    }
    assertEquals(steps, 100);
  });
}

Deno.test("a run with every processor returns its memory, whole or cut short", async () => {
  await generate(model, inputs, sampled);
  const before = device.pool.stats.bytesInUse;
  await generate(model, inputs, sampled);
  for await (const _ of stream(model, inputs, sampled)) break;
  assertEquals(device.pool.stats.bytesInUse, before);
});

Deno.test("room for what processors look back at does not follow a boundless maxNewTokens", () => {
  using step = tensor(device, [0], [1], "uint32");
  using state = new RunState(device, [[1, 2]], 8, 2 ** 40, step, () => step);
  assertEquals(state.history().ids.shape, [1, 2 + 2 ** 20]);
});
