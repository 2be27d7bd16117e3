/** Every field of a config and every argument of a call does something, or is refused: none is ignored in silence. */
import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { DynamicCache } from "../../src/cache/mod.ts";
import { FIELD_NAMES, type GenerationConfigFields } from "../../src/generation/config_fields.ts";
import {
  generate,
  type GenerateOutput,
  type GenerationOptions,
  PhrasalConstraint,
  WatermarkingConfig,
} from "../../src/generation/mod.ts";
import { CALL_OPTIONS, type CallOptions } from "../../src/generation/options.ts";
import { promptsOf } from "../../src/generation/prompts.ts";
import { loadModel } from "../../src/models/mod.ts";
import { setWarningHook } from "../../src/warn.ts";
import { testDevice } from "../helpers.ts";
import { embedded } from "./models.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
setWarningHook(() => {});

/** What a run shows: its output, and how many kernels it took. */
interface Seen {
  output: GenerateOutput;
  dispatches: number;
}
type See = (seen: Seen) => unknown;

/** The option changes what `see` looks at, from what `base` gives to what `base` and `set` give. */
interface Acts {
  base?: GenerationOptions;
  set: GenerationOptions;
  see?: See;
  ids?: number[][] | null;
}
/** The option is refused with this text, or proved by a function of its own. */
type Proof = Acts | { refused: string; set: GenerationOptions } | (() => void);
type Name = keyof GenerationConfigFields | keyof CallOptions;

const prompt = [2043, 510, 300, 257];
const few = { maxNewTokens: 3, eosTokenId: null, padTokenId: 0, doSample: false, seed: 1 } as const;
const { sequences: [whole = []], logits } = await generate(model, { inputIds: [prompt] }, {
  ...few,
  outputLogits: true,
});
const first = whole[prompt.length]!;
const likeliest = [...logits![0]!.keys()].sort((a, b) => logits![0]![b]! - logits![0]![a]!).slice(0, 3);
const absent = [7, 8, 9].find((id) => !whole.includes(id))!;

const sequences: See = ({ output }) => output.sequences;
const hash = (row: Float32Array) =>
  new Uint32Array(row.slice().buffer).reduce((h, x) => Math.imul(h ^ x, 0x9e3779b1), 1);
const scores: See = ({ output }) => output.scores!.map(hash);
const steps: See = ({ output }) => output.scores!.length;
const beamScores: See = ({ output }) => output.sequencesScores!.map((x) => x.toFixed(4)).join();
const dispatches: See = (seen) => seen.dispatches;
const has = (name: keyof GenerateOutput): See => ({ output }) => output[name] !== undefined;

const scored = { outputScores: true, maxNewTokens: 2 } as const;
const drawn = { doSample: true, topK: 0, topP: 1, minP: null, temperature: 4, ...scored } as const;
const warps = (set: GenerationOptions): Acts => ({ base: drawn, set, see: scores });
const changes = (set: GenerationOptions, base: GenerationOptions = {}): Acts => ({
  base: { ...scored, ...base },
  set,
  see: scores,
});
const assisted = { assistantModel: model, numAssistantTokens: 2, assistantConfidenceThreshold: 0, maxNewTokens: 8 };
const letters = {
  decode: (ids: readonly number[]) => ids.map((id) => String.fromCodePoint(0x4e00 + id)).join(""),
  convertIdsToTokens: (ids: readonly number[]) => ids.map((id) => id % 2 ? "a" : "ab"),
  tokenStream: () => ({ put: () => "", end: () => "" }),
};
const found = [9, 6, 8, 5, 6, 7, 5, 6]; // two tokens back it goes on with 7, one token back with 8
const goesOn = (ids: readonly number[], row: Float32Array) =>
  void (row[[7, 5, 6][ids.length - found.length] ?? 1] = 1e4);
let put = 0;

const TABLE: Record<Name, Proof> = {
  maxLength: { base: { maxNewTokens: undefined, maxLength: 6 }, set: { maxLength: 7 } },
  maxNewTokens: { set: { maxNewTokens: 2 } },
  minLength: { base: { eosTokenId: first }, set: { minLength: 7 } },
  minNewTokens: { base: { eosTokenId: first }, set: { minNewTokens: 3 } },
  earlyStopping: {
    base: { numBeams: 3, eosTokenId: likeliest, outputScores: true, lengthPenalty: 0 },
    set: { earlyStopping: true },
    see: steps,
  },
  maxTime: { set: { maxTime: 0 } },
  stopStrings: { base: { tokenizer: letters }, set: { stopStrings: letters.decode([first]) } },
  doSample: { base: { topK: 0, temperature: 50 }, set: { doSample: true } },
  numBeams: { set: { numBeams: 2 }, see: has("sequencesScores") },
  numBeamGroups: {
    base: { numBeams: 4, numReturnSequences: 4 },
    set: { numBeamGroups: 4, diversityPenalty: 100 },
    see: beamScores,
  },
  penaltyAlpha: { base: { topK: 3 }, set: { penaltyAlpha: 0.5 }, see: dispatches },
  dolaLayers: changes({ dolaLayers: "low", repetitionPenalty: 1.2 }, { repetitionPenalty: 1.2 }),
  useCache: { base: { returnDictInGenerate: true }, set: { useCache: false }, see: has("cache") },
  cacheImplementation: {
    base: { returnDictInGenerate: true },
    set: { cacheImplementation: "static" },
    see: ({ output }) => output.cache!.isStatic,
  },
  cacheConfig: { refused: "nbits", set: { cacheImplementation: "quantized", cacheConfig: { nbits: 5 } } },
  temperature: warps({ temperature: 0.5 }),
  topK: warps({ topK: 5 }),
  topP: warps({ topP: 0.5 }),
  minP: warps({ minP: 0.5 }),
  topH: warps({ topH: 0.2 }),
  typicalP: warps({ typicalP: 0.5 }),
  epsilonCutoff: warps({ epsilonCutoff: 0.05 }),
  etaCutoff: warps({ etaCutoff: 0.5 }),
  diversityPenalty: {
    base: { numBeams: 4, numBeamGroups: 2, diversityPenalty: 0.5, numReturnSequences: 4 },
    set: { diversityPenalty: 100 },
    see: beamScores,
  },
  repetitionPenalty: changes({ repetitionPenalty: 1.5 }),
  promptIgnoreLength: changes({ promptIgnoreLength: 2 }, { repetitionPenalty: 1.5 }),
  encoderRepetitionPenalty: changes({ encoderRepetitionPenalty: 1.5 }),
  frequencyPenalty: changes({ frequencyPenalty: 0.5 }),
  presencePenalty: changes({ presencePenalty: 0.5 }),
  lengthPenalty: { base: { numBeams: 2 }, set: { lengthPenalty: 3 }, see: beamScores },
  noRepeatNgramSize: changes({ noRepeatNgramSize: 1 }),
  encoderNoRepeatNgramSize: changes({ encoderNoRepeatNgramSize: 1 }),
  badWordsIds: { set: { badWordsIds: [[first]] } },
  forceWordsIds: { base: { numBeams: 2 }, set: { forceWordsIds: [[absent]] } },
  constraints: { base: { numBeams: 2 }, set: { constraints: [new PhrasalConstraint([absent])] } },
  renormalizeLogits: changes({ renormalizeLogits: true }),
  forcedBosTokenId: { set: { forcedBosTokenId: absent }, ids: [[2043]] },
  forcedEosTokenId: { set: { forcedEosTokenId: absent } },
  removeInvalidValues: changes({ removeInvalidValues: true }, { logitBias: { 5: -Infinity } }),
  exponentialDecayLengthPenalty: changes({ exponentialDecayLengthPenalty: [0, 3] }, { eosTokenId: absent }),
  suppressTokens: { set: { suppressTokens: [first] } },
  beginSuppressTokens: { set: { beginSuppressTokens: [first] } },
  sequenceBias: { set: { sequenceBias: [[[257, absent], 1e4]] } },
  logitBias: { set: { logitBias: { [first]: -100 } } },
  tokenHealing: { base: { tokenizer: letters }, set: { tokenHealing: true }, see: dispatches },
  guidanceScale: changes({ guidanceScale: 3 }),
  lowMemory: { base: { numBeams: 3 }, set: { lowMemory: true }, see: dispatches },
  watermarkingConfig: changes({ watermarkingConfig: new WatermarkingConfig() }),
  numReturnSequences: { base: { doSample: true }, set: { numReturnSequences: 2 } },
  outputAttentions: { set: { outputAttentions: true }, see: has("attentions") },
  outputHiddenStates: { set: { outputHiddenStates: true }, see: has("hiddenStates") },
  outputScores: { set: { outputScores: true }, see: has("scores") },
  outputLogits: { set: { outputLogits: true }, see: has("logits") },
  returnDictInGenerate: { set: { returnDictInGenerate: true }, see: has("cache") },
  padTokenId: {
    base: { stoppingCriteria: [(ids) => ids[1] === 41] },
    set: { padTokenId: 9 },
    ids: [prompt, [2043, 41]],
  },
  bosTokenId: { base: { bosTokenId: 5 }, set: { bosTokenId: 6 }, ids: null },
  eosTokenId: { set: { eosTokenId: first } },
  decoderStartTokenId: () => {
    const encoder = new Proxy(model, {
      get: (target, name) => name === "isEncoderDecoder" || Reflect.get(target, name, target),
    });
    assertEquals(promptsOf(encoder, { inputIds: [prompt] }, { decoderStartTokenId: 6 }).prompts, [[6]]);
  },
  numAssistantTokens: { base: assisted, set: { numAssistantTokens: 5 }, see: dispatches },
  numAssistantTokensSchedule: {
    base: assisted,
    set: { numAssistantTokensSchedule: "heuristic_transient" },
    see: dispatches,
  },
  assistantConfidenceThreshold: {
    base: { ...assisted, numAssistantTokens: 5, maxNewTokens: 24 }, // it shortens the drafts after the first
    set: { assistantConfidenceThreshold: 1 },
    see: dispatches,
  },
  promptLookupNumTokens: {
    base: { logitsProcessor: [goesOn] },
    set: { promptLookupNumTokens: 3 },
    see: dispatches,
    ids: [found],
  },
  maxMatchingNgramSize: {
    base: { logitsProcessor: [goesOn], promptLookupNumTokens: 3, maxNewTokens: 4 },
    set: { maxMatchingNgramSize: 1 },
    see: dispatches,
    ids: [found],
  },
  assistantLookbehind: { refused: "assistantLookbehind", set: { assistantLookbehind: 0 } },
  targetLookbehind: { refused: "targetLookbehind", set: { targetLookbehind: -1 } },
  generationConfig: { set: { generationConfig: { badWordsIds: [[first]] } } },
  seed: { base: { doSample: true, topK: 0, temperature: 50 }, set: { seed: 2 } },
  tokenizer: { refused: "we could not locate a tokenizer", set: { stopStrings: "x" } },
  cache: { set: { cache: new DynamicCache() }, see: has("cache") },
  prefillChunkSize: { set: { prefillChunkSize: 1 }, see: dispatches },
  logitsProcessor: { set: { logitsProcessor: [(_, row) => void (row[first] = -Infinity)] } },
  stoppingCriteria: { set: { stoppingCriteria: [() => true] } },
  prefixAllowedTokensFn: { set: { prefixAllowedTokensFn: () => [absent] } },
  negativePromptIds: changes({ negativePromptIds: [[2043, 9]] }, { guidanceScale: 3 }),
  negativePromptAttentionMask: changes({ negativePromptAttentionMask: [[1, 1, 0]] }, {
    guidanceScale: 3,
    negativePromptIds: [[2043, 9, 77]],
  }),
  jsonSchema: { refused: "Cannot generate with jsonSchema as tokenizer must be given", set: { jsonSchema: {} } },
  regex: { refused: "Cannot generate with regex as tokenizer must be given", set: { regex: "a" } },
  grammar: { refused: "Cannot generate with grammar as tokenizer must be given", set: { grammar: "a" } },
  assistantModel: { set: assisted, base: { maxNewTokens: 8 }, see: dispatches },
  assistantTokenizer: {
    refused: "`assistantTokenizer` is not required",
    set: { assistantModel: model, assistantTokenizer: letters },
  },
  streamer: { set: { streamer: { put: () => void put++, end() {} } }, see: () => [put, put = 0][0] },
  profile: { refused: "triggers assisted generate", set: { numBeams: 2, assistantModel: model, profile: "hf4" } },
  signal: { refused: "", set: { signal: AbortSignal.abort() } },
};

Deno.test("the table of options is whole", () => {
  assertEquals(Object.keys(TABLE).sort(), [...FIELD_NAMES, ...CALL_OPTIONS].sort());
});

async function seen(options: GenerationOptions, ids: number[][] | null | undefined, see: See): Promise<unknown> {
  const inputs = ids === null ? undefined : { inputIds: ids ?? [prompt] }, before = device.stream.counters.dispatches;
  const output = await generate(model, inputs, { ...few, ...options });
  const found = see({ output, dispatches: device.stream.counters.dispatches - before });
  output.cache?.[Symbol.dispose]();
  return found;
}

for (const [name, proof] of Object.entries(TABLE)) {
  Deno.test(`the option ${name} acts, or is refused`, async () => {
    if (typeof proof === "function") return proof();
    if ("refused" in proof) {
      const run = () => generate(model, { inputIds: [prompt] }, { ...few, ...proof.set });
      assert((await assertRejects(run)).message.includes(proof.refused));
      return;
    }
    const { base = {}, set, see = sequences, ids } = proof;
    await seen(base, ids, see); // pipelines and what stays with the model are made
    assertNotEquals(await seen({ ...base, ...set }, ids, see), await seen(base, ids, see));
  });
}
