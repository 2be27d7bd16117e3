/** What strategies refuse: exact texts, before anything runs. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { SinkCache, StaticCache } from "../../../src/cache/mod.ts";
import { ValueError } from "../../../src/errors.ts";
import { generate, type GenerationOptions, stream } from "../../../src/generation/mod.ts";
import { loadModel, type Model } from "../../../src/models/mod.ts";
import { testDevice } from "../../helpers.ts";
import { embedded } from "../models.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const prompt = [2043, 510, 300, 257], few = { maxNewTokens: 5, eosTokenId: null, doSample: false } as const;

const DOCS = "(see https://huggingface.co/docs/transformers/en/generation_strategies#universal-assisted-decoding)";
const other = Object.create(model, {
  sizes: { value: { ...model.sizes, vocabSize: 7 } },
  task: { value: "causal-lm" },
});
/** `model` with some of its properties replaced. */
const like = (replaced: Record<string, unknown>): Model =>
  new Proxy(model, {
    get(target, name) {
      const value = replaced[name as string] ?? Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
const stateful = like({
  sizes: { ...model.sizes, states: {} },
  config: { ...model.config, architectures: ["MambaForCausalLM"] },
});
const STATEFUL = "is not supported with stateful models, such as MambaForCausalLM";
const codec = { decode: () => "", encode: () => [], tokenStream: () => ({ put: () => "", end: () => "" }) };
const GROUP = "`diversityPenalty` is not 0.0 or `numBeamGroups` is not 1, triggering group beam search. In this " +
  "generation mode, ";
const REFUSED: [name: string, options: GenerationOptions, message: string, rows?: number, on?: Model][] = [
  [
    "an assistant with beams",
    { assistantModel: model, numBeams: 2 },
    "You've set `assistantModel`, which triggers assisted generate. Currently, assisted generate is only supported with Greedy Search and Sample.",
  ],
  [
    "prompt lookup with contrastive search",
    { promptLookupNumTokens: 2, penaltyAlpha: 0.5 },
    "You've set `assistantModel`, which triggers assisted generate. Currently, assisted generate is only supported with Greedy Search and Sample.",
  ],
  [
    "DoLa with beams",
    { dolaLayers: "low", numBeams: 2 },
    "You've set `dolaLayers`, which triggers DoLa generate. Currently, DoLa generate is only supported with Greedy Search and Sample.",
  ],
  [
    "sampling in groups",
    { numBeams: 4, numBeamGroups: 2, diversityPenalty: 1, doSample: true },
    GROUP + "`doSample` must be set to `False`",
  ],
  [
    "groups that do not divide the beams",
    { numBeams: 4, numBeamGroups: 3, diversityPenalty: 1 },
    GROUP + "`numBeams` should be divisible by `numBeamGroups`",
  ],
  [
    "groups without a penalty",
    { numBeams: 4, numBeamGroups: 2 },
    GROUP + "`diversityPenalty` should be greater than `0.0`, otherwise your groups will be identical.",
  ],
  [
    "more groups than beams",
    { numBeams: 2, numBeamGroups: 4, diversityPenalty: 1 },
    "`numBeamGroups` has to be smaller or equal to `numBeams`",
  ],
  [
    "constraints without beams",
    { forceWordsIds: [[3]] },
    "`numBeams` has to be an integer strictly greater than 1, but is 1. For `numBeams` == 1, one should make use of `greedySearch` instead.",
  ],
  [
    "words to force that are none",
    { forceWordsIds: [[-3]], numBeams: 2 },
    "`forceWordsIds` has to either be a `List[List[List[int]]]` or `List[List[int]]` of positive integers, but is [[-3]].",
  ],
  [
    "no words to force",
    { forceWordsIds: [], numBeams: 2 },
    "`forceWordsIds` has to either be a `List[List[List[int]]]` or `List[List[int]]` of positive integers, but is [].",
  ],
  [
    "words to force that are no whole numbers",
    { forceWordsIds: [[[7], [1.5]]], numBeams: 2 },
    "`forceWordsIds` has to either be a `List[List[List[int]]]` or `List[List[int]]` of positive integers, but is [[[7], [1.5]]].",
  ],
  [
    "words to force of which one begins another",
    { forceWordsIds: [[[1, 2], [1, 2, 3]]], numBeams: 2 },
    "Each list in `nestedTokenIds` can't be a complete subset of another list, but is [[1, 2], [1, 2, 3]].",
  ],
  ["contrastive search with states", { penaltyAlpha: 0.5 }, `contrastive search ${STATEFUL}`, 1, stateful],
  ["DoLa with states", { dolaLayers: "low", repetitionPenalty: 1.2 }, `dola decoding ${STATEFUL}`, 1, stateful],
  ["an assistant with states", { assistantModel: model }, `assisted generation ${STATEFUL}`, 1, stateful],
  ["prompt lookup with states", { promptLookupNumTokens: 2 }, `assisted generation ${STATEFUL}`, 1, stateful],
  [
    "contrastive search without a cache",
    { penaltyAlpha: 0.5, useCache: false },
    "Contrastive search requires `useCache=True`",
  ],
  ["an assistant for two rows", { assistantModel: model }, "assisted generate is only supported for batchSize = 1", 2],
  [
    "prompt lookup for two rows",
    { promptLookupNumTokens: 2 },
    "assisted generate is only supported for batchSize = 1",
    2,
  ],
  [
    "an assistant without a cache",
    { assistantModel: model, useCache: false },
    "assisted generate requires `useCache=True`",
  ],
  [
    "an assistant with a static cache",
    { assistantModel: model, cache: new StaticCache({ maxCacheLen: 64 }) },
    "assisted generate is not supported with Static cache classes`",
  ],
  [
    "prompt lookup with a cache with sinks",
    { promptLookupNumTokens: 2, cache: new SinkCache({ windowLength: 8, numSinkTokens: 1 }) },
    "Cannot check drafts with a SinkCache as a pass of several tokens must see what single steps see: its window moves " +
    "by the whole pass",
  ],
  [
    "several sequences of an assistant",
    { assistantModel: model, doSample: true, numReturnSequences: 2 },
    "numReturnSequences has to be 1 when doing assisted generate, but is 2.",
  ],
  [
    "a tokenizer of an assistant that has the same",
    { assistantModel: model, assistantTokenizer: codec },
    "`assistantTokenizer` is not required when the main and assistant models use the same tokenizer. Please omit " +
    `\`assistantTokenizer\` from \`generate()\` ${DOCS}.`,
  ],
  [
    "an assistant of another vocabulary without tokenizers",
    { assistantModel: other },
    "The main and assistant models have different tokenizers. Please provide `tokenizer` and `assistantTokenizer` to " +
    `\`generate()\` ${DOCS}.`,
  ],
  [
    "prompt lookup of negative length",
    { promptLookupNumTokens: -1 },
    "Invalid maxMatchingNgramSize or promptLookupNumTokens",
  ],
  [
    "prompt lookup of no n-gram",
    { promptLookupNumTokens: 2, maxMatchingNgramSize: 0 },
    "Invalid maxMatchingNgramSize or promptLookupNumTokens",
  ],
  [
    "layers that are none",
    { dolaLayers: "middle" as "low" },
    "dolaLayers must be either 'low', 'high' or a list of integers.",
  ],
  [
    "a streamer with beams",
    { numBeams: 2, streamer: { put() {}, end() {} } },
    "`streamer` cannot be used with beam search (yet!). Make sure that `numBeams` is set to 1.",
  ],
];

for (const [name, options, message, rows = 1, on = model] of REFUSED) {
  Deno.test(`generate() refuses ${name}`, async () => {
    const before = device.pool.stats.bytesInUse, { dispatches } = device.stream.counters;
    const run = () => generate(on, { inputIds: Array(rows).fill(prompt) }, { ...few, ...options });
    const error = await assertRejects(run, ValueError);
    assertEquals([error.name, error.message], ["ValueError", message]);
    assertEquals([device.pool.stats.bytesInUse, device.stream.counters.dispatches], [before, dispatches]);
  });
}

Deno.test("stream() refuses beam search", async () => {
  const run = async () => {
    for await (const _ of stream(model, { inputIds: [prompt] }, { ...few, numBeams: 2 })) assert(false);
  };
  await assertRejects(run, ValueError, "`streamer` cannot be used with beam search (yet!).");
});
