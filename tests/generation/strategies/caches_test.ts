/** Every strategy gives the same tokens with every cache that keeps all tokens exactly: expanded, reordered, cropped. */
import { assertEquals } from "@std/assert";
import { generate, type GenerationOptions } from "../../../src/generation/mod.ts";
import { loadModel } from "../../../src/models/mod.ts";
import { testDevice } from "../../helpers.ts";
import { embedded } from "../models.ts";

const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const few = { maxNewTokens: 6, eosTokenId: null, doSample: false } as const;
const prompts = [[2043, 510, 300, 257], [2043, 41]];

const STRATEGIES: Record<string, GenerationOptions> = {
  greedy: {},
  "several draws": { doSample: true, seed: 3, numReturnSequences: 2 },
  beam: { numBeams: 3, numReturnSequences: 2 },
  groupBeam: { numBeams: 4, numBeamGroups: 2, diversityPenalty: 0.5 },
  contrastive: { penaltyAlpha: 0.5, topK: 3 },
  "contrastive with little memory": { penaltyAlpha: 0.5, topK: 3, lowMemory: true },
  dola: { dolaLayers: "low", repetitionPenalty: 1.2 },
  promptLookup: { promptLookupNumTokens: 2 },
};
const STATIC = ["static", "offloaded_static"];

for (const cacheImplementation of FULL ? [...STATIC, "offloaded", "paged"] : ["static", "paged"]) {
  Deno.test(`every strategy gives the same tokens with the cache "${cacheImplementation}", twice`, async () => {
    for (const [name, options] of Object.entries(STRATEGIES)) {
      if (name === "promptLookup" && STATIC.includes(cacheImplementation)) continue; // refused (semantics: G-59)
      const inputIds = name === "promptLookup" ? prompts.slice(0, 1) : prompts;
      const { sequences } = await generate(model, { inputIds }, { ...few, ...options });
      for (let time = 0; time < 2; time++) {
        const got = await generate(model, { inputIds }, { ...few, ...options, cacheImplementation });
        assertEquals(got.sequences, sequences, name);
      }
    }
  });
}
