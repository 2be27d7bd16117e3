/** Caches that promise it give the logits of DynamicCache, over many steps, for one row and for ragged ones. */
import { assertEquals } from "@std/assert";
import {
  DynamicCache,
  HybridCache,
  type KvCache,
  OffloadedCache,
  OffloadedStaticCache,
  PagedCache,
  SlidingWindowCache,
  StaticCache,
} from "../../src/cache/mod.ts";
import { loadModel, type Model } from "../../src/models/mod.ts";
import { assertClose, random, testDevice } from "../helpers.ts";
import { hasReference, referencePath } from "../reference.ts";
import { embedded } from "../generation/models.ts";

const STEPS = Deno.env.get("TENSAUR_TEST_FULL") === "1" ? 200 : 24;
const device = await testDevice();
const make: Record<string, () => KvCache> = {
  static: () => new StaticCache({ maxCacheLen: 256 }),
  offloaded: () => new OffloadedCache(),
  offloaded_static: () => new OffloadedStaticCache({ maxCacheLen: 256 }),
  hybrid: () => new HybridCache({ maxCacheLen: 256 }),
  paged: () => new PagedCache(),
};
const models: [string, string, Record<string, () => KvCache>][] = [
  ["tensaur-draft", embedded("tensaur-draft"), make],
];
if (hasReference("data/models/mistral")) {
  const sliding = () => new SlidingWindowCache({ slidingWindow: 8 });
  models.push(["mistral", referencePath("data/models/mistral"), { ...make, sliding }]);
}

/** Logits of a prompt and of `STEPS` tokens after it. */
async function run(model: Model, cache: KvCache, prompts: number[][]): Promise<Float32Array[]> {
  using owned = cache;
  const next = random(7), all: Float32Array[] = [], order = [0, 2, 1, 3, 3, 0]; // as beams do: rows come twice or never
  for (let step = 0; step <= STEPS; step++) {
    const inputIds = step === 0 ? prompts : prompts.map(() => [1 + Math.floor(300 * next())]);
    using output = await model.forward({ inputIds }, { cache: owned });
    all.push(await output.logits!.read({ early: true }) as Float32Array);
    if (step % 16 === 15) owned.reorder(prompts.map((_, b) => order[(step + b * b) % order.length]! % prompts.length));
  }
  await device.stream.settled();
  assertEquals(owned.lengths.length, prompts.length);
  return all;
}

for (const [name, path, kinds] of models) {
  for (const prompts of [[[5, 6, 7, 8]], [[5, 6, 7], [9], [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20], [21, 22]]]) {
    Deno.test(`every cache gives DynamicCache's logits: ${name}, ${prompts.length} rows, ${STEPS} steps`, async () => {
      using model = await loadModel(path, { device, dtype: "float32" });
      const want = await run(model, new DynamicCache(), prompts);
      for (const [kind, make] of Object.entries(kinds)) {
        for (const [step, got] of (await run(model, make(), prompts)).entries()) {
          assertClose(`${kind} step ${step}`, got, want[step]!, { atol: 1e-5, rtol: 1e-5 });
        }
      }
    });
  }
}
