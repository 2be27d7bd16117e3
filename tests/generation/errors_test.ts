/** What `generate` refuses (semantics: G-3 … G-20, G-38, G-44): exact names and texts, nothing left behind. */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { TensaurError } from "../../src/errors.ts";
import { generate, GenerationConfig, type GenerationOptions, WatermarkingConfig } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { testDevice } from "../helpers.ts";
import { embedded, modelWith } from "./models.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const prompt = [2043, 510, 300], inputs = { inputIds: [prompt] };
const short = { doSample: false, eosTokenId: null, padTokenId: 0, maxNewTokens: 2 } as const;
await generate(model, inputs, { ...short, doSample: true }); // pipelines and tables that stay are made

type Loose = GenerationOptions & Record<string, unknown>;

const GROUPS = "`diversityPenalty` is not 0.0 or `numBeamGroups` is not 1, triggering group beam search. In this " +
  "generation mode, ";
const CONSTRAINED = (flag: string) =>
  "one of `constraints`, `forceWordsIds` is not `None`, triggering constrained beam search. However, `" +
  `${flag}, which is incompatible with this generation mode. Set \`constraints\` and \`forceWordsIds\` to \`None\` or ` +
  `unset \`${flag.split("`")[0]}\` to continue.`;

const refused: [rule: string, options: Loose, message: string][] = [
  [
    "G-3",
    { max_newtokens: 3, Temperature: 1 },
    "The following `modelKwargs` are not used by the model: ['max_newtokens', 'Temperature'] (note: typos in the " +
    "generate arguments will also show up in this list)",
  ],
  [
    "G-12", // inputs come in one place
    { inputIds: [[7]], inputsEmbeds: [] },
    "The following `modelKwargs` are not used by the model: ['inputIds', 'inputsEmbeds'] (note: typos in the generate " +
    "arguments will also show up in this list)",
  ],
  [
    "G-7",
    { maxNewTokens: undefined, maxLength: 3 },
    "Input length of inputIds is 3, but `maxLength` is set to 3. This can lead to unexpected behavior. You should " +
    "consider increasing `maxLength` or, better yet, setting `maxNewTokens`.",
  ],
  ["G-9", { maxNewTokens: 0 }, "`maxNewTokens` must be greater than 0, but is 0."],
  ["G-9", { maxNewTokens: 1.5 }, "`maxNewTokens` must be greater than 0, but is 1.5."],
  [
    "G-9",
    { doSample: true, temperature: 0 },
    "`temperature` (=0) has to be a strictly positive float, otherwise your next token scores will be invalid. If " +
    "you're looking for greedy decoding strategies, set `doSample=False`.",
  ],
  [
    "G-9",
    { doSample: true, temperature: -1 },
    "`temperature` (=-1) has to be a strictly positive float, otherwise your next token scores will be invalid.",
  ],
  ["G-9", { doSample: true, topK: -1 }, "`topK` has to be a strictly positive integer, but is -1"],
  ["G-9", { doSample: true, topP: -0.1 }, "`topP` has to be a float > 0 and < 1, but is -0.1"],
  ["G-9", { doSample: true, minP: 1.1 }, "`minP` has to be a float in the [0, 1] interval, but is 1.1"],
  ["G-9", { doSample: true, topH: 2 }, "`topH` must be in the range (0, 1]."],
  ["G-9", { doSample: true, typicalP: 0 }, "`typicalP` has to be a float > 0 and < 1, but is 0"],
  ["G-9", { doSample: true, epsilonCutoff: NaN }, "`epsilonCutoff` has to be a float > 0 and < 1, but is NaN"],
  ["G-9", { repetitionPenalty: 0 }, "`repetitionPenalty` has to be a strictly positive float, but is 0"],
  ["G-9", { noRepeatNgramSize: -2 }, "`noRepeatNgramSize` has to be a strictly positive integer, but is -2"],
  ["G-9", { earlyStopping: "soon" as "never" }, "`earlyStopping` must be a boolean or 'never', but is soon."],
  [
    "G-9",
    { numReturnSequences: 2 },
    "Greedy methods without beam search do not support `numReturnSequences` different than 1 (got 2).",
  ],
  [
    "G-9",
    { numReturnSequences: 3, numBeams: 2 },
    "`numReturnSequences` (3) has to be smaller or equal to `numBeams` (2).",
  ],
  [
    "G-9",
    { generationConfig: { streamer: {} } as Partial<GenerationConfig> },
    "Argument `streamer` is not a valid argument of `GenerationConfig`. It should be passed to `generate()` (or a " +
    "pipeline) directly.",
  ],
  [
    "G-18",
    { numBeams: 2, assistantModel: model },
    "You've set `assistantModel`, which triggers assisted generate. Currently, assisted generate is only supported with " +
    "Greedy Search and Sample.",
  ],
  [
    "G-18",
    { numBeams: 2, dolaLayers: "low" },
    "You've set `dolaLayers`, which triggers DoLa generate. Currently, DoLa generate is only supported with Greedy " +
    "Search and Sample.",
  ],
  ["G-19", { numBeams: 4, numBeamGroups: 2, doSample: true }, `${GROUPS}\`doSample\` must be set to \`False\``],
  [
    "G-19",
    { numBeams: 4, numBeamGroups: 3, diversityPenalty: 1 },
    `${GROUPS}\`numBeams\` should be divisible by \`numBeamGroups\``,
  ],
  [
    "G-19",
    { numBeams: 4, numBeamGroups: 2 },
    `${GROUPS}\`diversityPenalty\` should be greater than \`0.0\`, otherwise your groups will be identical.`,
  ],
  [
    "G-19",
    { numBeams: 2, numBeamGroups: 4, diversityPenalty: 1 },
    "`numBeamGroups` has to be smaller or equal to `numBeams`",
  ],
  [
    "G-20",
    { numBeams: 2, streamer: { put() {}, end() {} } },
    "`streamer` cannot be used with beam search (yet!). Make sure that `numBeams` is set to 1.",
  ],
  [
    "G-34",
    { sequenceBias: [] },
    "`sequenceBias` has to be a non-empty dictionary, or non-empty list of lists but is [].",
  ],
  [
    "G-34",
    { sequenceBias: [[[-1], 1]] },
    "Each element in `sequenceBias` has to be a non-empty list of lists of positive integers and float, but is " +
    "[[[-1],1]].",
  ],
  [
    "G-34",
    { sequenceBias: [[[1, 2048], 1], [[5000], 2]] },
    "The model vocabulary size is 2048, but the following tokens were being biased: [2048, 5000]",
  ],
  ["G-34", { badWordsIds: [] }, "`badWordsIds` has to be a non-empty list, but is []."],
  [
    "G-34",
    { badWordsIds: [[1], []] },
    "Each list in `badWordsIds` has to be a list of positive integers, but is [[1],[]].",
  ],
  [
    "G-37",
    { suppressTokens: [2048] },
    "`suppressTokens` has to be a list of positive integers below 2048, but is [2048]",
  ],
  [
    "G-41",
    { watermarkingConfig: new WatermarkingConfig({ greenlistRatio: 1.5 }) },
    "Some of the keys in `watermarkingConfig` are defined incorrectly. `greenlistRatio` should be in range between 0.0 " +
    "and 1.0 but found 1.5",
  ],
  [
    "G-44",
    { stopStrings: ["."] },
    "There are one or more stop strings, either in the arguments to `generate` or in the model's generation config, but " +
    "we could not locate a tokenizer. When generating with stop strings, you must pass the model's tokenizer to the " +
    "`tokenizer` argument of `generate`.",
  ],
  [
    "G-56",
    { forceWordsIds: [[5]] },
    "`numBeams` has to be an integer strictly greater than 1, but is 1. For `numBeams` == 1, one should make use of " +
    "`greedySearch` instead.",
  ],
  ["G-56", { forceWordsIds: [[5]], numBeams: 2, doSample: true }, CONSTRAINED("doSample` is set to `True`")],
  ["G-56", { forceWordsIds: [[5]], numBeams: 2, numBeamGroups: 2 }, CONSTRAINED("numBeamGroups` is set to `2`")],
];

for (const [rule, options, message] of refused) {
  const { streamer: _, assistantModel: __, watermarkingConfig: ___, ...shown } = options;
  Deno.test(`${rule}: generate() refuses ${JSON.stringify(shown)} with its exact message, before anything runs`, async () => {
    const before = { dispatches: device.stream.counters.dispatches, bytes: device.pool.stats.bytesInUse };
    const error = await assertRejects(() => generate(model, inputs, { ...short, ...options }), TensaurError);
    assertEquals([error.name, error.message], ["ValueError", message]);
    const after = { dispatches: device.stream.counters.dispatches, bytes: device.pool.stats.bytesInUse };
    assertEquals(after, before);
  });
}

Deno.test("G-38: an empty list of prefixAllowedTokensFn ends the call with its exact message, and leaks nothing", async () => {
  const before = device.pool.stats.bytesInUse;
  const prefixAllowedTokensFn = (batch: number, ids: readonly number[]) => batch === 1 && ids.length > 3 ? [] : [7, 8];
  const two = { inputIds: [prompt, prompt] };
  const error = await assertRejects(() => generate(model, two, { ...short, prefixAllowedTokensFn }), TensaurError);
  assertEquals([error.name, error.message], [
    "ValueError",
    "`prefixAllowedTokensFn` returned an empty list for batch ID 1. This means that the constraint is unsatisfiable. " +
    "Please check your implementation of `prefixAllowedTokensFn`.",
  ]);
  assertEquals(device.pool.stats.bytesInUse, before);
});

const negatives: [name: string, options: GenerationOptions, message: string][] = [
  [
    "of another number",
    { negativePromptIds: [[1], [2], [3]] },
    "Cannot guide as negativePromptIds must have a row for each prompt: it has 3 for 2",
  ],
  [
    "with an id that is none",
    { negativePromptIds: [[2048]] },
    "Cannot generate as inputIds must be whole numbers from 0 to 2047: current value is 2048 in row 0",
  ],
  [
    "of padding alone",
    { negativePromptIds: [[1]], negativePromptAttentionMask: [[0]] },
    "Cannot generate as each row must have a token: row 0 has none",
  ],
];
for (const [name, options, message] of negatives) {
  Deno.test(`G-40: generate() refuses negative prompts ${name}, and leaks nothing`, async () => {
    const before = { dispatches: device.stream.counters.dispatches, bytes: device.pool.stats.bytesInUse };
    const two = { inputIds: [prompt, prompt] }, guided = { ...short, guidanceScale: 2, ...options };
    const error = await assertRejects(() => generate(model, two, guided), TensaurError);
    assertEquals([error.name, error.message], ["ValueError", message]);
    const after = { dispatches: device.stream.counters.dispatches, bytes: device.pool.stats.bytesInUse };
    assertEquals(after, before);
  });
}

Deno.test("G-40: one negative prompt serves all sequences of a prompt", async () => {
  const options = { ...short, doSample: true, seed: 3, guidanceScale: 1.5, negativePromptIds: [[2043, 9]] };
  const one = await generate(model, inputs, { ...options, numReturnSequences: 2 });
  const two = await generate(model, { inputIds: [prompt, prompt] }, {
    ...options,
    negativePromptIds: [[2043, 9], [2043, 9]],
  });
  assertEquals(one.sequences, two.sequences);
});

Deno.test("G-11: without inputs a row begins with bosTokenId, which must then be there", async () => {
  const { sequences } = await generate(model, undefined, { ...short, bosTokenId: 2043 });
  const { sequences: same } = await generate(model, { inputIds: [[2043]] }, short);
  assertEquals(sequences, same);
  const without = modelWith(model, { config: { ...model.config, bos_token_id: undefined }, generationConfig: {} });
  const error = await assertRejects(() => generate(without, undefined, short), TensaurError);
  assertEquals([error.name, error.message], [
    "ValueError",
    "`bosTokenId` has to be defined when no `inputIds` are provided.",
  ]);
});

Deno.test("G-9: GenerationConfig refuses arguments of a call, in a file too", () => {
  const text = "Argument `logitsProcessor` is not a valid argument of `GenerationConfig`.";
  assertThrows(() => new GenerationConfig({ logitsProcessor: [] }), TensaurError, text);
  assertThrows(() => GenerationConfig.fromJson({ logits_processor: [] }), TensaurError, text);
});
