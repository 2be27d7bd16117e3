/** The example files run, and do what they say. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { CACHES, chat } from "../examples/chat_with_caches.ts";
import { generationLoop } from "../examples/generation_loop.ts";
import { continuations } from "../examples/prompt_cache.ts";
import { DynamicCache, PagedCache, SinkCache, StaticCache } from "../src/cache/mod.ts";
import { ValueError } from "../src/errors.ts";
import { generate } from "../src/generation/mod.ts";
import { loadModel } from "../src/models/mod.ts";
import { loadTokenizer } from "../src/tokenizer/mod.ts";
import { embedded } from "./generation/models.ts";
import { testDevice } from "./helpers.ts";
import { TINY_CONFIGS, writeModel } from "./models/tiny_model.ts";
import { TemporaryFolder } from "./weights/fixture.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-tiny"), { device, dtype: "float32" });
const tokenizer = await loadTokenizer(embedded("tensaur-tiny"));

Deno.test("examples/generation_loop.ts gives generate()'s tokens", async () => {
  const { inputIds: [prompt = []] } = tokenizer("Once upon a time");
  const options = { maxNewTokens: 12, doSample: false, eosTokenId: null };
  using cache = model.newCache();
  const { sequences: [want] } = await generate(model, { inputIds: [prompt] }, options);
  assertEquals(await generationLoop(model, prompt, 12, cache), want);
});

Deno.test("Model.forward() refuses a cachePosition that does not follow the cache", async () => {
  using cache = model.newCache();
  (await model.forward({ inputIds: [[1, 2, 3]] }, { cache, cachePosition: [0, 1, 2] }))[Symbol.dispose]();
  for (const cachePosition of [[2], [3, 4], [3.5], []]) {
    const pass = () => model.forward({ inputIds: [[4]] }, { cache, cachePosition });
    await assertRejects(pass, ValueError, "cachePosition must be 1 whole numbers in a row from 3 on");
  }
  (await model.forward({ inputIds: [[4]] }, { cache, cachePosition: [3] }))[Symbol.dispose]();
});

Deno.test("examples/prompt_cache.ts gives generate()'s answers, and leaves the prompt's cache as it was", async () => {
  const prompt = "Once upon a time there was", endings = [" a king", " a girl"], want: string[] = [];
  for (const ending of endings) {
    const { inputIds } = tokenizer(prompt + ending), options = { maxNewTokens: 8, doSample: false };
    const { sequences: [row = []] } = await generate(model, { inputIds }, options);
    want.push(tokenizer.decode(row.slice(inputIds[0]!.length), { skipSpecialTokens: true }));
  }
  for (const cache of [new DynamicCache(), new PagedCache(), new StaticCache({ maxCacheLen: 64 })]) {
    using prefix = cache;
    assertEquals(await continuations(model, tokenizer, prefix, prompt, endings, 8), want, cache.constructor.name);
    assertEquals(prefix.lengths, [tokenizer(prompt).inputIds[0]!.length]);
  }
});

const questions = ["Who are you?", "What is the moon?"];
Deno.test("examples/chat_with_caches.ts gives the same answers on every cache that promises it", async () => {
  const want = await chat(model, tokenizer, undefined, questions, 10);
  for (const [name, make] of Object.entries(CACHES)) {
    using cache = make();
    let resets = 0;
    const { reset } = cache;
    cache.reset = () => (resets++, reset.call(cache));
    const answers = await chat(model, tokenizer, cache, questions, 10);
    if (name !== "quantized") assertEquals(answers, want, name);
    assertEquals([cache.lengths.length, resets], [1, 0], `${name}: the second turn goes on from the first`);
  }
});

Deno.test("examples/chat_with_caches.ts goes on from states, and crops the first input of a cache with sinks", async () => {
  using folder = new TemporaryFolder();
  await writeModel(folder, { ...TINY_CONFIGS.mamba, vocab_size: 2048 });
  using mamba = await loadModel(folder.path, { device, dtype: "float32" });
  using states = mamba.newCache();
  const want = await chat(mamba, tokenizer, undefined, questions, 6);
  assertEquals(await chat(mamba, tokenizer, states, questions, 6), want);
  using sinks = new SinkCache({ windowLength: 16, numSinkTokens: 4 });
  const long = "Please tell me a very long story about a king and his daughter who lived by the sea.";
  const answers = await chat(model, tokenizer, sinks, [long, "And then?"], 8);
  assertEquals(answers.length, 2);
  assert(tokenizer(long).inputIds[0]!.length > 16);
  assertEquals(sinks.getSeqLength(), 16);
});
