/** Assisted decoding and prompt lookup on loaded models: the tokens of greedy search in every case. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { AbortError } from "../../../src/errors.ts";
import { generate, type GenerationOptions, learntDraftLength, stream } from "../../../src/generation/mod.ts";
import { loadModel } from "../../../src/models/mod.ts";
import { loadTokenizer } from "../../../src/tokenizer/mod.ts";
import { testDevice } from "../../helpers.ts";
import { hasReference, loadGoldens, referencePath } from "../../reference.ts";
import { embedded } from "../models.ts";
import { optionsOf, type SearchCase } from "./options.ts";

const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const device = await testDevice();
const tiny = await loadModel(embedded("tensaur-tiny"), { device });
const draft = await loadModel(embedded("tensaur-draft"), { device });
const tokenizer = await loadTokenizer(embedded("tensaur-tiny"));
const QUOTES = "Anna has a red ball. Anna has a red ball. Anna has a";
const greedy = { maxNewTokens: FULL ? 24 : 16, eosTokenId: null, doSample: false } as const;

/** What a run gave, and how often the GPU was read: with `outputScores` once a pass. */
async function counted(prompt: number[], options: GenerationOptions) {
  const before = device.stream.counters.reads;
  const { sequences } = await generate(tiny, { inputIds: [prompt] }, options);
  return { ids: sequences[0]!, reads: device.stream.counters.reads - before };
}

const OPTIONS: [name: string, options: GenerationOptions][] = [
  ["plain", {}],
  ["repetitionPenalty", { repetitionPenalty: 1.3 }],
  ["noRepeatNgramSize", { noRepeatNgramSize: 2 }],
  ["ends of sequence", { eosTokenId: [46, 13, 261, 2], minNewTokens: 5 }],
  ["everything", { repetitionPenalty: 1.1, noRepeatNgramSize: 3, minNewTokens: 9, badWordsIds: [[300], [257, 41]] }],
];

for (const [name, options] of FULL ? OPTIONS : [OPTIONS[0]!, OPTIONS.at(-1)!]) {
  Deno.test(`generate() with an assistant and with prompt lookup gives greedy tokens: ${name}`, async () => {
    for (const text of FULL ? ["The cat", QUOTES, "Once upon a time"] : [QUOTES]) {
      const prompt = tokenizer.encode(text), plain = { ...greedy, ...options };
      const { ids } = await counted(prompt, plain);
      for (const schedule of ["constant", "heuristic_transient"] as const) {
        const more = { assistantModel: draft, numAssistantTokens: 4, numAssistantTokensSchedule: schedule };
        assertEquals((await counted(prompt, { ...plain, ...more })).ids, ids, `${text}: assistant, ${schedule}`);
      }
      const looked = await counted(prompt, { ...plain, promptLookupNumTokens: 4, maxMatchingNgramSize: 3 });
      assertEquals(looked.ids, ids, `${text}: prompt lookup`);
    }
  });
}

Deno.test("generate() with an assistant and with prompt lookup gives greedy tokens after a single token", async () => {
  const prompt = [tokenizer.encode("The")[0]!], { ids } = await counted(prompt, greedy);
  for (const more of [{ assistantModel: draft, numAssistantTokens: 3 }, { promptLookupNumTokens: 3 }]) {
    assertEquals((await counted(prompt, { ...greedy, ...more })).ids, ids);
  }
});

Deno.test("prompt lookup takes fewer passes than tokens where the text repeats itself", async () => {
  const { reads } = await counted(tokenizer.encode(QUOTES), {
    ...greedy,
    repetitionPenalty: 0.2, // a reward: what the model says comes from what was said, whatever it has learnt
    promptLookupNumTokens: 4,
    outputScores: true,
  });
  assert(reads < greedy.maxNewTokens, `${reads} passes for ${greedy.maxNewTokens} tokens`);
});

Deno.test("prompt lookup gives the tokens that greedy search gives with the same quantized cache", async () => {
  const prompt = tokenizer.encode(QUOTES), cacheConfig = { backend: "quanto", nbits: 4, residualLength: 8 } as const;
  const plain = { ...greedy, maxNewTokens: 32, cacheImplementation: "quantized", cacheConfig } as const;
  const { ids } = await counted(prompt, plain);
  for (const outputScores of [false, true]) { // on the GPU, and through the host
    assertEquals((await counted(prompt, { ...plain, promptLookupNumTokens: 5, outputScores })).ids, ids);
  }
});

Deno.test("the schedule heuristic is learnt by the assistant, heuristic_transient is not", async () => {
  const prompt = tokenizer.encode("The cat"), more = { ...greedy, assistantModel: draft, numAssistantTokens: 3 };
  await counted(prompt, { ...more, numAssistantTokensSchedule: "heuristic_transient" });
  assertEquals(learntDraftLength(draft), undefined);
  await counted(prompt, { ...more, numAssistantTokensSchedule: "heuristic" });
  assert(learntDraftLength(draft) !== undefined && learntDraftLength(draft) !== 3);
});

Deno.test("assisted sampling and sampling prompt lookup draw the same for the same seed", async () => {
  const prompt = tokenizer.encode("The cat"), drawn = { ...greedy, doSample: true, temperature: 0.8, seed: 11 };
  for (const more of [{ assistantModel: draft, numAssistantTokens: 3 }, { promptLookupNumTokens: 3 }]) {
    const runs = [await counted(prompt, { ...drawn, ...more }), await counted(prompt, { ...drawn, ...more })];
    assertEquals(runs[0]!.ids, runs[1]!.ids);
    assertEquals(runs[0]!.ids.length, prompt.length + greedy.maxNewTokens);
  }
});

/** Tokens, and how many rounds they took. */
async function rounds(prompt: number[], options: GenerationOptions) {
  let puts = 0;
  const { ids } = await counted(prompt, { ...options, streamer: { put: () => void puts++, end() {} } });
  return { ids: ids.slice(prompt.length), rounds: puts - 1 };
}

/** The tokens of each round, drafted on the GPU, or with `outputScores` by the host, token by token. */
async function groups(prompt: number[], options: GenerationOptions): Promise<number[][]> {
  const each: number[][] = [];
  const streamer = { put: (rows: readonly (readonly number[])[]) => void each.push([...rows[0]!]), end() {} };
  await counted(prompt, { ...options, streamer });
  return each.slice(1);
}

Deno.test("a draft ends within its round where it is unsure: the rounds are those of a drafter that looks at each token", async () => {
  const lengths = new Set<number>(), prompt = tokenizer.encode(QUOTES);
  for (const [threshold, schedule] of [[0.2, "constant"], [0.4, "heuristic_transient"], [0.8, "constant"]] as const) {
    const how: GenerationOptions = { ...greedy, assistantModel: draft, numAssistantTokens: 6 };
    how.assistantConfidenceThreshold = threshold;
    how.numAssistantTokensSchedule = schedule;
    const [[first], ...rounds] = await groups(prompt, { ...how, maxNewTokens: 24 }) as [[number], ...number[][]];
    const more = { ...how, maxNewTokens: 23, outputScores: true }; // whose first pass drafts too
    assertEquals(rounds, await groups([...prompt, first], more), `${threshold}, ${schedule}`);
    rounds.forEach((round) => lengths.add(round.length));
  }
  assert(lengths.size > 1, `rounds of ${[...lengths]} tokens`);
});

Deno.test("prompt lookup draws what plain sampling draws with the same seed", async () => {
  const prompt = tokenizer.encode(QUOTES), drawn = { ...greedy, doSample: true, temperature: 0.7, topK: 20, seed: 4 };
  const plain = await rounds(prompt, drawn), looked = await rounds(prompt, { ...drawn, promptLookupNumTokens: 5 });
  assertEquals(looked.ids, plain.ids);
  assert(looked.rounds < plain.rounds, `${looked.rounds} rounds for ${plain.rounds} tokens`);
});

for (
  const [name, draws] of [["greedily", {}], ["drawn", {
    doSample: true,
    temperature: 0.9,
    topP: 0.95,
    seed: 3,
  }]] as const
) {
  Deno.test(`an assistant that is the model itself is always right, ${name}`, async () => {
    const prompt = tokenizer.encode("The cat"), n = 13;
    const plain: GenerationOptions = { ...greedy, ...draws, maxNewTokens: n };
    for (const [numAssistantTokens, outputScores] of [[3, false], [3, true], [5, false]] as const) {
      const more = { assistantModel: tiny, numAssistantTokens, assistantConfidenceThreshold: 0, outputScores };
      const found = await rounds(prompt, { ...plain, ...more });
      assertEquals(found.ids.length, n);
      if (name === "greedily") assertEquals(found.ids, (await rounds(prompt, plain)).ids);
      const first = outputScores ? 0 : 1; // the token of the prompt's own pass
      assertEquals(found.rounds, first + Math.ceil((n - first) / (numAssistantTokens + 1)), `${numAssistantTokens}`);
    }
  });
}

Deno.test("a round reads once, and makes no bind group and no pipeline once its width was there", async () => {
  const prompt = tokenizer.encode("The cat"), { counters } = device.stream;
  const now = () => ({ ...device.kernels.counters, submits: counters.submits, reads: counters.reads });
  const seen: ReturnType<typeof now>[] = [];
  const options = { ...greedy, maxNewTokens: 22, assistantModel: tiny, numAssistantTokens: 3 };
  const streamer = { put: () => void seen.push(now()), end() {} };
  await counted(prompt, { ...options, assistantConfidenceThreshold: 0, streamer });
  for (let i = 3; i < seen.length - 1; i++) { // the prompt, its pass, the first round; the last one is narrower
    const [a, b] = [seen[i - 1]!, seen[i]!];
    assertEquals([b.pipelines - a.pipelines, b.bindGroups - a.bindGroups, b.reads - a.reads], [0, 0, 1]);
    assert(b.submits - a.submits <= 2, `${b.submits - a.submits} submissions`); // the round's, and the read's
  }
  assert(seen.length > 5);
});

const SPECULATIVE: Record<string, GenerationOptions> = {
  assistant: { assistantModel: draft, numAssistantTokens: 3 },
  "drawing assistant": { assistantModel: draft, numAssistantTokens: 3, doSample: true, seed: 1 },
  "prompt lookup": { promptLookupNumTokens: 4 },
};
for (const [name, options] of Object.entries(SPECULATIVE)) {
  Deno.test(`an abort between rounds gives AbortError, the memory, and a cache to go on with: ${name}`, async () => {
    const prompt = tokenizer.encode(QUOTES), few = { ...greedy, maxNewTokens: 4 };
    await counted(prompt, { ...greedy, maxNewTokens: 40, ...options }); // what stays with the models is made
    const want = (await counted(prompt, few)).ids, before = device.pool.stats.bytesInUse;
    for (const moment of FULL ? [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] : [1, 2, 3, 5]) {
      using cache = tiny.newCache();
      const controller = new AbortController();
      let puts = 0;
      const streamer = { put: () => void (++puts === moment && controller.abort(new Error("enough"))), end() {} };
      const more = { ...greedy, maxNewTokens: 40, ...options, cache, streamer, signal: controller.signal };
      await assertRejects(() => generate(tiny, { inputIds: [prompt] }, more), AbortError);
      assert(cache.lengths.length === 0 || cache.lengths[0]! >= prompt.length, `${cache.lengths}`);
      if (cache.lengths.length) cache.crop([prompt.length]);
      assertEquals((await counted(prompt, { ...few, cache })).ids, want, `moment ${moment}`);
    }
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}

Deno.test("stream() gives the tokens of assisted decoding one by one", async () => {
  const prompt = tokenizer.encode("The cat"), tokens: number[] = [];
  const { ids } = await counted(prompt, greedy);
  for await (const step of stream(tiny, { inputIds: [prompt] }, { ...greedy, assistantModel: draft })) {
    assertEquals(step.tokens.length, 1);
    tokens.push(...step.tokens);
  }
  assertEquals([...prompt, ...tokens], ids);
});

const folder = "data/models/llama", goldens = await loadGoldens<SearchCase>("data/generate/assisted");
if (!goldens || !hasReference(folder)) {
  Deno.test("skipped: assisted decoding of the reference (no reference data)", () => {});
} else {
  Deno.test("generate() equals transformers' assisted decoding, token by token", async () => {
    using model = await loadModel(referencePath(folder), { device, dtype: "float32" });
    using assistantModel = await loadModel(referencePath("data/generate/llama-draft"), { device, dtype: "float32" });
    for (const c of goldens.cases.filter(({ kind }) => kind === "generate")) {
      const assistant = c.name.startsWith("assisted") ? { assistantModel } : {};
      const options = { ...optionsOf(c.generation), ...assistant, doSample: false };
      const { sequences } = await generate(model, { inputIds: c.inputs.input_ids }, options);
      assertEquals(sequences, c.outputs.sequences, c.name);
    }
  });

  Deno.test("generate() with an assistant of another tokenizer gives greedy tokens", async () => {
    using assistantModel = await loadModel(referencePath(folder), { device });
    const assistantTokenizer = await loadTokenizer(referencePath(folder)), prompt = tokenizer.encode("The cat sat");
    const more = { assistantModel, tokenizer, assistantTokenizer, numAssistantTokens: 3 };
    const { ids } = await counted(prompt, greedy);
    assertEquals((await counted(prompt, { ...greedy, ...more })).ids, ids);
  });
}
