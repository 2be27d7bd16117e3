/** Assisted decoding and prompt lookup give the tokens of greedy search with every cache that they take, in both dtypes. */
import { assertEquals } from "@std/assert";
import {
  DynamicCache,
  OffloadedCache,
  PagedCache,
  QuantizedCache,
  SlidingWindowCache,
} from "../../../src/cache/mod.ts";
import { generate, type GenerationOptions } from "../../../src/generation/mod.ts";
import { loadModel } from "../../../src/models/mod.ts";
import { loadTokenizer } from "../../../src/tokenizer/mod.ts";
import { testDevice } from "../../helpers.ts";
import { embedded } from "../models.ts";

const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const device = await testDevice();
const tokenizer = await loadTokenizer(embedded("tensaur-draft"));
const assistantModel = await loadModel(embedded("tensaur-tiny"), { device }); // the better model: it is often not agreed with
const prompt = tokenizer.encode("Anna has a red ball. Anna has a red ball. Anna has a");
const greedy = { maxNewTokens: FULL ? 48 : 20, eosTokenId: null, doSample: false } as const;

const HOW: Record<string, GenerationOptions> = {
  "a draft of 3": { assistantModel, numAssistantTokens: 3, assistantConfidenceThreshold: 0 },
  "a draft while it is sure": { assistantModel, numAssistantTokens: 8 },
  "prompt lookup": { promptLookupNumTokens: 7, maxMatchingNgramSize: 2 },
};

const CACHES: Record<string, () => GenerationOptions> = {
  "the default": () => ({}),
  dynamic: () => ({ cache: new DynamicCache() }),
  "of the other dtype": () => ({ cache: new DynamicCache({ dtype: "float16" }) }),
  paged: () => ({ cache: new PagedCache() }),
  offloaded: () => ({ cache: new OffloadedCache() }),
  "a window's": () => ({ cache: new SlidingWindowCache({ slidingWindow: 24 }) }),
  "quantized to 8 bits": () => ({ cache: new QuantizedCache({ nbits: 8, residualLength: 16 }) }),
  "quantized to 2 bits": () => ({ cache: new QuantizedCache({ nbits: 2, residualLength: 8 }) }),
};

for (const [shift, dtype] of (["float16", "float32"] as const).entries()) {
  Deno.test(`speculation gives greedy tokens with every cache, in ${dtype}`, async () => {
    using model = await loadModel(embedded("tensaur-draft"), { device, dtype });
    const run = async (options: GenerationOptions) => {
      const { sequences } = await generate(model, { inputIds: [prompt] }, { ...greedy, ...options });
      options.cache?.[Symbol.dispose]();
      return sequences[0]!;
    };
    for (const [i, [cache, make]] of Object.entries(CACHES).entries()) {
      const want = await run(make());
      assertEquals(want.length, prompt.length + greedy.maxNewTokens);
      const ways = Object.entries(HOW), some = FULL ? ways : [ways[(i + shift) % ways.length]!];
      for (const [how, options] of some) {
        for (const outputScores of FULL ? [false, true] : [false]) { // on the GPU, and through the host
          const name = `${how}, ${cache} cache${outputScores ? ", through the host" : ""}`;
          assertEquals(await run({ ...options, ...make(), outputScores }), want, name);
        }
      }
    }
    await device.stream.settled();
  });
}

Deno.test("a draft that is longer than what a ring can take back is checked as far as it can", async () => {
  using model = await loadModel(embedded("tensaur-draft"), { device });
  const long = [...prompt, ...prompt, ...prompt, ...prompt], plain = { maxNewTokens: 90 };
  const run = async (options: GenerationOptions) => {
    using cache = new SlidingWindowCache({ slidingWindow: 64 });
    const { sequences } = await generate(model, { inputIds: [long] }, { ...greedy, ...plain, ...options, cache });
    return sequences[0]!.slice(long.length);
  };
  const [, , eosTokenId] = await run({ maxNewTokens: 3 }), want = await run({ eosTokenId }); // few rounds of long drafts
  const drafts = { eosTokenId, assistantModel, numAssistantTokens: 80, assistantConfidenceThreshold: 0 };
  for (const outputScores of [false, true]) assertEquals(await run({ ...drafts, outputScores }), want);
  await device.stream.settled();
});
