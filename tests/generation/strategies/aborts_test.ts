/** An abort that comes while a strategy runs on the GPU, with no closure of the caller in its way. */
import { assert, assertEquals } from "@std/assert";
import { DynamicCache } from "../../../src/cache/mod.ts";
import { AbortError } from "../../../src/errors.ts";
import { generate, type GenerationOptions } from "../../../src/generation/mod.ts";
import { loadModel } from "../../../src/models/mod.ts";
import { testDevice } from "../../helpers.ts";
import { embedded } from "../models.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const prompt = [2043, 510, 300, 257];
const few = { maxNewTokens: 40, eosTokenId: null, doSample: false, seed: 5 } as const;

const STRATEGIES: Record<string, GenerationOptions> = {
  greedy: {},
  sample: { doSample: true },
  beam: { numBeams: 3 },
  "beam, one at a time": { numBeams: 3, lowMemory: true },
  beamSample: { numBeams: 3, doSample: true },
  groupBeam: { numBeams: 4, numBeamGroups: 2, diversityPenalty: 0.5 },
  constrainedBeam: { numBeams: 3, forceWordsIds: [[300]] },
  contrastive: { penaltyAlpha: 0.5, topK: 3 },
  dola: { dolaLayers: "low", repetitionPenalty: 1.2 },
  assisted: { assistantModel: model, numAssistantTokens: 2 },
  promptLookup: { promptLookupNumTokens: 2 },
};

/** Runs, and aborts when the GPU is read for the `moment`-th time; tells whether it was. */
async function abortedAt(moment: number, options: GenerationOptions): Promise<boolean> {
  const { stream } = device, { read, readNow } = stream, controller = new AbortController();
  let reads = 0;
  const count = () => void (++reads === moment && controller.abort(new Error("enough")));
  stream.read = (...args) => (count(), read.apply(stream, args));
  stream.readNow = (...args) => (count(), readNow.apply(stream, args));
  try {
    await generate(model, { inputIds: [prompt] }, { ...few, ...options, signal: controller.signal });
    return false;
  } catch (error) {
    assert(error instanceof AbortError && (error.cause as Error).message === "enough", `${error}`);
    return true;
  } finally {
    Object.assign(stream, { read, readNow });
  }
}

const plain = await generate(model, { inputIds: [prompt] }, { ...few, maxNewTokens: 3 });
for (const [name, options] of Object.entries(STRATEGIES)) {
  Deno.test(`${name}: an abort at any of its first 10 reads gives AbortError, the memory, and a cache to go on with`, async () => {
    await generate(model, { inputIds: [prompt] }, { ...few, ...options }); // what stays with the model is made
    const before = device.pool.stats.bytesInUse;
    let aborted = 0;
    for (let moment = 1; moment <= 10; moment++) {
      using cache = new DynamicCache();
      if (await abortedAt(moment, { ...options, cache })) aborted++;
      if (cache.lengths.length) cache.crop([Math.min(cache.lengths[0]!, prompt.length)]);
      const again = await generate(model, { inputIds: [prompt] }, { ...few, maxNewTokens: 3, cache });
      assertEquals(again.sequences, plain.sequences, `moment ${moment}`);
    }
    assert(aborted >= 4, `${aborted} of 10 moments came`); // some strategies read several tokens at once
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}
