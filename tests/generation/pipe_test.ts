/** Each logits processor: its GPU form equals its plain form, and both equal transformers. */
import { assertEquals } from "@std/assert";
import { DEFAULTS, type GenerationConfigFields } from "../../src/generation/config_fields.ts";
import type { CallOptions, ResolvedOptions } from "../../src/generation/options.ts";
import { RunState } from "../../src/generation/processors/gpu_state.ts";
import { processorsOf, warpersOf } from "../../src/generation/processors/mod.ts";
import type { Processor, ProcessorContext } from "../../src/generation/processors/processor.ts";
import { logSoftmaxRow } from "../../src/generation/processors/values.ts";
import {
  whisperTimestamps,
  type WhisperTimestampSettings,
} from "../../src/generation/processors/whisper_timestamps.ts";
import { SynthIDTextWatermarkingConfig, WatermarkingConfig } from "../../src/generation/watermarking_config.ts";
import { samplingParams, warpLogits } from "../../src/ops/mod.ts";
import { tensor, tidy } from "../../src/tensor/mod.ts";
import { asGpu, assertClose, randn, random, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor, hasReference, referencePath, type Tolerance } from "../reference.ts";

type Options = Partial<GenerationConfigFields & CallOptions & { eosTokenIds: number[] }>;

const device = await testDevice();
const full = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const NEG = Math.fround(-1e30);

function resolved(options: Options): ResolvedOptions {
  return {
    ...DEFAULTS,
    topK: 0,
    seed: 0,
    prefillChunkSize: 512,
    eosTokenIds: [],
    padToken: 0,
    stops: [],
    newTokens: 8,
    ...options,
  } as ResolvedOptions;
}

/** The only processor that the options ask for. */
function only(o: ResolvedOptions, c: ProcessorContext): Processor {
  const all = [...processorsOf(o, c), ...warpersOf(o, c)];
  assertEquals(all.length, 1, `one processor: ${all.map(({ name }) => name)}`);
  return all[0]!;
}

/** What the GPU form gives for `scores` after the prompts and then `fresh` tokens of each row. */
async function onGpu(
  o: ResolvedOptions,
  c: ProcessorContext,
  fresh: readonly (readonly number[])[],
  scores: Float32Array,
  unconditional?: Float32Array,
): Promise<Float32Array | undefined> {
  const { gpu, name } = only(o, c), rows = fresh.length, shape = [rows, c.vocabSize];
  const step = tensor(device, [fresh[0]!.length], [1], "uint32");
  using state = new RunState(device, c.prompts, c.vocabSize, 8, step, () => tensor(device, unconditional!, shape));
  using y = tidy(device, () => {
    const x = tensor(device, scores, shape);
    if (["temperature", "topK", "topP", "minP"].includes(name)) {
      const { temperature, topK, topP } = o;
      return warpLogits(x, samplingParams(device, { temperature, topK, topP, minP: o.minP ?? 0 }));
    }
    if (!gpu) return undefined!;
    const process = gpu(state), cuSeqlens = tensor(device, [...Array(rows + 1).keys()], [rows + 1], "uint32");
    for (let i = 0; i < fresh[0]!.length; i++) {
      state.took(tensor(device, fresh.map((row) => row[i]!), [rows], "uint32"), cuSeqlens);
    }
    return process(x);
  });
  step.dispose();
  return y && await y.read() as Float32Array;
}

/** Scores as they compare: -1e30 and less are -infinity. */
const settled = (scores: Float32Array) => scores.map((x) => x <= NEG ? -Infinity : x);

const table: [name: string, options: Options, differ?: number][] = [
  ["repetitionPenalty 1.3", { repetitionPenalty: 1.3 }],
  ["repetitionPenalty 0.7, generated tokens only", { repetitionPenalty: 0.7, promptIgnoreLength: 4 }],
  ["encoderRepetitionPenalty", { encoderRepetitionPenalty: 1.7 }],
  ["frequency and presence", { frequencyPenalty: 0.5, presencePenalty: 0.25 }],
  ["noRepeatNgramSize 1", { noRepeatNgramSize: 1 }],
  ["noRepeatNgramSize 3", { noRepeatNgramSize: 3 }],
  ["encoderNoRepeatNgramSize 2", { encoderNoRepeatNgramSize: 2 }],
  ["sequenceBias", {
    sequenceBias: [[[1], 2], [[3, 1], -5], [[1, 2, 4], 3], [[2, 1, 2, 3, 4, 1, 2, 3, 2, 1, 2, 0], 1]],
  }],
  ["logitBias", { logitBias: { 0: 1.5, 2: -100, 4: -Infinity } }],
  ["badWordsIds", { badWordsIds: [[2], [3], [1, 2, 0], [4, 4]], eosTokenIds: [3] }],
  ["minLength", { minLength: 9, eosTokenIds: [1, 3] }],
  ["minNewTokens", { minNewTokens: 4, eosTokenIds: [0] }],
  ["forcedEosTokenId", { forcedEosTokenId: [2, 4], maxLength: 9 }],
  ["suppressTokens", { suppressTokens: [0, 4] }],
  ["beginSuppressTokens", { beginSuppressTokens: [0] }],
  ["removeInvalidValues", { removeInvalidValues: true }],
  ["exponentialDecayLengthPenalty", { exponentialDecayLengthPenalty: [1, 1.4], eosTokenIds: [1, 2] }],
  ["guidanceScale", { guidanceScale: 1.8 }],
  ["watermark", { watermarkingConfig: new WatermarkingConfig() }],
  ["watermark, selfhash", {
    watermarkingConfig: new WatermarkingConfig({ seedingScheme: "selfhash", contextWidth: 3, greenlistRatio: 0.6 }),
  }],
  ["watermark, SynthID", {
    watermarkingConfig: new SynthIDTextWatermarkingConfig({ ngramLen: 3, keys: [654, 400, 836, 123, 2 ** 40 + 1] }),
  }],
  ["renormalizeLogits", { renormalizeLogits: true }],
  ["temperature", { doSample: true, temperature: 0.6 }],
  ["topK", { doSample: true, topK: 4 }],
  ["topP", { doSample: true, topP: 0.8 }, 2],
  ["minP", { doSample: true, minP: 0.1 }],
  ["typicalP 0.2", { doSample: true, typicalP: 0.2 }, 2],
  ["typicalP 0.9", { doSample: true, typicalP: 0.9 }, 2],
  ["epsilonCutoff", { doSample: true, epsilonCutoff: 3e-4 }, 2],
  ["etaCutoff", { doSample: true, etaCutoff: 0.2 }, 2],
  ["topH", { doSample: true, topH: 0.5 }],
];

/** Random logits with ties, -infinity and NaN among them; without NaN where one would make all of a row NaN. */
function awkward(rows: number, vocabSize: number, name: string, seed: number): Float32Array {
  const next = random(seed), scores = randn(rows * vocabSize, seed).map((x) => Math.fround(3 * x));
  const all = name === "renormalizeLogits" || name === "guidanceScale";
  for (let i = 0; i < scores.length; i++) {
    if (next() < 0.1) scores[i] = Math.round(scores[i]!);
    if (!all && next() < 0.05) scores[i] = -Infinity;
    if (!all && next() < 0.02) scores[i] = NaN;
  }
  for (let r = 0; r < rows; r++) scores[r * vocabSize + 3] = 2; // something is left in any case
  return scores;
}

const prompts = [[1, 2, 3, 4, 1, 2], [0, 0, 0, 0], [2, 1, 2, 1, 2]];
const histories = [[[], [], []], [[3, 2, 1, 2], [4, 0, 1, 0], [3, 1, 2, 3]]];
for (const vocabSize of [5, 997, 32_000, 151_936]) {
  const rows = vocabSize > 100_000 && !full ? 1 : 3;
  for (const [name, options, differ = 0] of table) {
    Deno.test(`${name}: the kernel equals the plain form at V = ${vocabSize}`, async () => {
      const c = { vocabSize, prompts: prompts.slice(0, rows) }, o = resolved(options);
      for (const history of vocabSize > 1000 ? histories.slice(1) : histories) {
        const fresh = history.slice(0, rows), ids = c.prompts.map((row, b) => [...row, ...fresh[b]!]);
        const scores = awkward(rows, vocabSize, name, vocabSize + fresh[0]!.length);
        const unconditional = randn(rows * vocabSize, 5), want = scores.slice();
        only(o, c).host(ids, want, { unconditional });
        const got = await onGpu(o, c, fresh, scores, unconditional);
        assertScores(name, settled(got!), settled(want), vocabSize > 1000 ? differ * rows : 0);
      }
    });
  }
}

/** Equal, but that `differ` tokens at the border of what a sum of many float32 keeps may lie on its other side. */
function assertScores(name: string, got: Float32Array, want: Float32Array, differ: number): void {
  const kept = (x: number) => x !== -Infinity;
  const other = [...want.keys()].filter((i) => kept(got[i]!) !== kept(want[i]!));
  if (other.length > differ) assertEquals(other, [], `${name}: tokens on the other side`);
  const same = (x: Float32Array) => x.filter((_, i) => !other.includes(i));
  assertClose(name, other.length ? same(got) : got, other.length ? same(want) : want, { rtol: 1e-5, atol: 2e-5 });
}

Deno.test("processors that find every token gone, or one left, end at once", async () => {
  for (const [name, options] of table.slice(-9)) {
    for (const left of [[], [2]]) {
      const c = { vocabSize: 5, prompts: [[1, 2]] }, o = resolved(options);
      const scores = new Float32Array(5).map((_, i) => left.includes(i) ? 1 : i % 2 ? NaN : -Infinity);
      const got = settled((await onGpu(o, c, [[]], scores))!);
      assertEquals([...got.keys()].filter((i) => got[i]! > -Infinity), left, name);
    }
  }
});

if (full) {
  for (const [name, options, differ = 0] of table.slice(-9)) {
    Deno.test(`${name}: the kernel with the threads of a GPU equals the plain form`, async () => {
      const c = { vocabSize: 20_001, prompts: prompts.slice(0, 1) }, o = resolved(options);
      const scores = awkward(1, c.vocabSize, name, 3), want = scores.slice();
      only(o, c).host([prompts[0]!], want);
      const got = await asGpu(device, () => onGpu(o, c, [[]], scores));
      assertScores(name, settled(got!), settled(want), differ);
    });
  }
}

/** Options for a processor class of transformers, with the arguments of its constructor. */
const camel = (name: string) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
interface Golden {
  processor: string;
  params: Record<string, unknown>;
  generate_option: string;
  tolerance: Tolerance;
  inputs: { input_ids: number[][]; scores: GoldenTensor; unconditional?: GoldenTensor };
  outputs: { out: GoldenTensor };
}

/** The option of a golden, and what else it needs. */
function optionsOf({ params: p, generate_option: option, processor }: Golden): Options {
  const eos = p.eos_token_id === undefined ? {} : { eosTokenIds: [p.eos_token_id].flat() as number[] };
  const keep = p.min_tokens_to_keep === undefined ? {} : keeping(p.min_tokens_to_keep as number);
  const warper = processor.endsWith("Warper") ? { doSample: true, ...keep } : {};
  if (option === "return_timestamps") {
    const settings = Object.fromEntries(Object.entries(p).map(([key, value]) => [camel(key), value]));
    return { logitsProcessor: [whisperTimestamps(settings as unknown as WhisperTimestampSettings)] };
  }
  if (option === "prefix_allowed_tokens_fn") {
    const allowed = p.allowed_by_batch as Record<string, number[]>;
    return { prefixAllowedTokensFn: (batch) => allowed[batch]! };
  }
  const value: Record<string, unknown> = {
    forced_eos_token_id: p.eos_token_id,
    exponential_decay_length_penalty: [p.start, p.factor],
    renormalize_logits: true,
    remove_invalid_values: true,
    encoder_no_repeat_ngram_size: p.ngram_size,
    repetition_penalty: p.penalty,
    encoder_repetition_penalty: p.penalty,
    forced_bos_token_id: p.bos_token_id,
    no_repeat_ngram_size: p.ngram_size,
    typical_p: p.mass ?? p.typical_p,
    epsilon_cutoff: p.epsilon,
    eta_cutoff: p.epsilon,
    guidance_scale: p.guidance_scale,
  };
  const more = {
    ...p.max_length !== undefined && { maxLength: p.max_length as number },
    ...p.prompt_ignore_length !== undefined && { promptIgnoreLength: p.prompt_ignore_length as number },
  };
  return { ...eos, ...warper, ...more, [camel(option)]: value[option] ?? p[option] };
}

/** Beams keep one token more than there are ends. */
const keeping = (n: number) => ({ numBeams: 2, eosTokenIds: Array.from({ length: n - 1 }, (_, i) => i) });

for (const c of await goldenCases<Golden>("data/ops/logits_processors")) {
  Deno.test(`the pipe gives transformers' ${c.name}, in both forms`, async () => {
    const o = resolved(optionsOf(c)), { input_ids: ids } = c.inputs;
    const guided = c.processor.startsWith("Classifier"), all = c.inputs.scores.data as Float32Array<ArrayBuffer>;
    const vocabSize = c.inputs.scores.shape[1]!, rows = ids.length;
    const scores = all.slice(0, rows * vocabSize), unconditional = guided ? all.slice(rows * vocabSize) : undefined;
    const start = (c.params.prompt_length ?? c.params.begin_index ?? ids[0]!.length) as number;
    const context = {
      vocabSize,
      prompts: ids.map((row) => row.slice(0, start)),
      encoderIds: c.params.encoder_input_ids as number[][] | undefined,
    };
    const asked = [...processorsOf(o, context), ...warpersOf(o, context)];
    const host = scores.slice(), want = settled(c.outputs.out.data as Float32Array);
    for (const { host: process } of asked) process(ids, host, { unconditional });
    if (guided) { // this class guides logits, generate guides log-probabilities: the same but for a number a row
      for (let r = 0; r < rows; r++) logSoftmaxRow(host.subarray(r * vocabSize, (r + 1) * vocabSize));
      for (let r = 0; r < rows; r++) logSoftmaxRow(want.subarray(r * vocabSize, (r + 1) * vocabSize));
    }
    assertClose("host", settled(host), want, guided ? { rtol: 1e-5, atol: 1e-5 } : c.tolerance);
    if (asked.length !== 1 || o.numBeams > 1 || guided) return;
    const gpu = await onGpu(o, context, ids.map((row) => row.slice(start)), scores);
    if (gpu) assertClose("gpu", settled(gpu), want, c.tolerance);
  });
}
const vectors = "../design/semantics_vectors.json";
if (!hasReference(vectors)) Deno.test({ name: `skipped: ${vectors} is not there`, ignore: true, fn() {} });
else {
  const { logits_processors: v } = JSON.parse(await Deno.readTextFile(referencePath(vectors)));
  const eos = (...ids: number[]) => ({ eosTokenIds: ids });
  const sampled = (o: Options): Options => ({ doSample: true, ...o });
  const wanted: Record<string, [options: Options, start?: number, encoderIds?: number[][]]> = {
    "temperature 0.7": [sampled({ temperature: 0.7 })],
    "top_k 3": [sampled({ topK: 3 })],
    "top_k 3 keep 5": [sampled({ topK: 3, ...keeping(5) })],
    "top_p 0.8": [sampled({ topP: 0.8 })],
    "top_p 0.3 keep2": [sampled({ topP: 0.3, ...keeping(2) })],
    "min_p 0.2": [sampled({ minP: 0.2 })],
    "typical 0.6": [sampled({ typicalP: 0.6 })],
    "typical 0.95": [sampled({ typicalP: 0.95 })],
    "epsilon 0.05": [sampled({ epsilonCutoff: 0.05 })],
    "eta 0.1": [sampled({ etaCutoff: 0.1 })],
    "top_h 0.5": [sampled({ topH: 0.5 })],
    "repetition 1.5": [{ repetitionPenalty: 1.5 }],
    "repetition 0.8": [{ repetitionPenalty: 0.8 }],
    "encoder_repetition 1.5 enc=[[1,2],[3,4]]": [{ encoderRepetitionPenalty: 1.5 }, 5, [[1, 2], [3, 4]]],
    "no_repeat_ngram 2": [{ noRepeatNgramSize: 2 }],
    "no_repeat_ngram 1": [{ noRepeatNgramSize: 1 }],
    "encoder_no_repeat_ngram 2 enc=[[4,7,4],[2,5,2]]": [{ encoderNoRepeatNgramSize: 2 }, 5, [[4, 7, 4], [2, 5, 2]]],
    "bad_words [[1],[4,7],[6,1,4,0],[3,2,5]] eos3": [{
      badWordsIds: [[1], [4, 7], [6, 1, 4, 0], [3, 2, 5]],
      ...eos(3),
    }],
    sequence_bias: [{ sequenceBias: [[[1], 10], [[1, 4, 1], 2], [[6, 1, 4, 7], -3], [[3, 2, 6], 1], [[5, 3], 8]] }],
    "min_length 6 eos3": [{ minLength: 6, ...eos(3) }],
    "min_length 5 eos3": [{ minLength: 5, ...eos(3) }],
    "min_new 3 prompt 3 eos[3,1]": [{ minNewTokens: 3, ...eos(3, 1) }, 3],
    "forced_eos max 6": [{ forcedEosTokenId: 3, maxLength: 6 }],
    "forced_bos (len!=1)": [{ forcedBosTokenId: 2 }],
    "suppress [0,7]": [{ suppressTokens: [0, 7] }],
    "begin_suppress [0] at 5": [{ beginSuppressTokens: [0] }],
    "exp_decay (1,1.5) prompt 2 eos 3": [{ exponentialDecayLengthPenalty: [1, 1.5], ...eos(3) }, 2],
    normalize: [{ renormalizeLogits: true }],
    "chain temp .7, k5, p.9": [sampled({ temperature: 0.7, topK: 5, topP: 0.9 })],
  };
  for (const [name, [options, start = 5, encoderIds]] of Object.entries(wanted)) {
    Deno.test(`the pipe gives semantics' ${name}, in both forms`, async () => {
      const o = resolved(options), ids: number[][] = v.input_ids;
      const context = { vocabSize: 8, prompts: ids.map((row) => row.slice(0, start)), encoderIds };
      const scores = Float32Array.from(v.logits.flat());
      const want = Float32Array.from(
        (v.cases[name] as (number | "-inf")[][]).flat(),
        (x) => x === "-inf" ? -Infinity : x,
      );
      const asked = [...processorsOf(o, context), ...warpersOf(o, context)], host = scores.slice();
      for (const { host: process } of asked) process(ids, host);
      assertClose("host", host, want, { rtol: 1e-5, atol: 1e-6 });
      if (asked.length !== 1 || o.numBeams > 1) return;
      const gpu = await onGpu(o, context, ids.map((row) => row.slice(start)), scores);
      assertClose("gpu", settled(gpu!), want, { rtol: 1e-5, atol: 1e-6 });
    });
  }
  Deno.test("the pipe gives semantics' Hamming diversity", () => {
    const name = Object.keys(v.cases).find((key) => key.startsWith("hamming"))!;
    const o = resolved({ diversityPenalty: 0.5, numBeams: 4, numBeamGroups: 2 }), ids = [[1], [1], [1], [1]];
    const scores = Float32Array.from([...v.logits, ...v.logits].flat());
    const process = only(o, { vocabSize: 8, prompts: [[1], [1]] }).host;
    process(ids, scores, { currentTokens: [1, 4, 0, 0, 2, 2, 0, 0], groupIndex: 1 });
    assertClose(name, scores, v.cases[name].flat());
  });
}
