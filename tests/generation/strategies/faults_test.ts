/** R-14 over speculation: a GPU fault gives the right tokens or one typed error, never other text. */
import { assert, assertEquals } from "@std/assert";
import { generate, type GenerationOptions, stream } from "../../../src/generation/mod.ts";
import type { Device } from "../../../src/gpu/mod.ts";
import { loadModel, type Model } from "../../../src/models/mod.ts";
import { countCalls, failEach, type Work } from "../../gpu/fail_each.ts";
import type { FaultyDevice } from "../../gpu/faulty_device.ts";
import { testDevice } from "../../helpers.ts";

const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const path = new URL("../../data/outputs/model", import.meta.url).pathname; // small: what is swept is the decoding
const prompt = [1, 7, 30, 7, 12, 30, 7];
const greedy = { doSample: false, eosTokenId: null, maxNewTokens: 8 } as const;

const SPECULATION: Record<string, (assistantModel: Model) => GenerationOptions> = {
  "assisted decoding": (assistantModel) => ({ assistantModel, numAssistantTokens: 3 }),
  "assisted decoding on the host": (assistantModel) => ({ assistantModel, numAssistantTokens: 3, outputScores: true }),
  "prompt lookup": () => ({ promptLookupNumTokens: 3 }),
};

const healthy = await testDevice();
const model = await loadModel(path, { device: healthy, dtype: "float32" });
const want = (await generate(model, { inputIds: [prompt] }, greedy)).sequences[0]!.slice(prompt.length);

/** Loads a model and streams with it in each of these ways; no wrong token may come, whatever fails. */
function streaming(ways: readonly ((assistant: Model) => GenerationOptions)[]): Work<number[][]> {
  return async (device: Device, faulty: FaultyDevice) => {
    using model = await loadModel(path, { device, dtype: "float32" });
    const all: number[][] = [];
    for (const options of ways) {
      const tokens: number[] = [];
      for await (const step of stream(model, { inputIds: [prompt] }, { ...greedy, ...options(model) })) {
        assertEquals(step.tokens[0], want[tokens.length], "a wrong token was emitted");
        tokens.push(...step.tokens);
      }
      assert(!faulty.fired || tokens.length === want.length);
      all.push(tokens);
    }
    return all;
  };
}

/** In the gate a few calls of some kinds, in all ways of decoding at once; else 80 calls of every kind. */
const sweeps = FULL ? Object.entries(SPECULATION).map(([name, way]) => [name, [way]] as const) : [
  ["speculation", Object.values(SPECULATION)] as const,
];
const few = {
  kinds: ["createBuffer", "createBindGroup", "submit", "writeBuffer", "mapAsync", "popErrorScope"],
  faults: ["throws", "validation"],
} as const;

for (const [name, ways] of sweeps) {
  Deno.test(`${name} survives any GPU call failing: right tokens or one typed error`, async () => {
    const work = streaming(ways), counts = await countCalls(work);
    const { runs, errors } = await failEach(work, {
      ...FULL ? {} : few,
      check: (all) => assertEquals(all, ways.map(() => want)),
      stride: Math.ceil(Object.values(counts).reduce((sum, n) => sum + n, 0) / (FULL ? 80 : 6)),
      options: { gpuTimeout: 2000 },
    });
    assert(runs >= 20 && errors > runs / 2, `${errors} of ${runs} runs saw their fault`);
  });
}
