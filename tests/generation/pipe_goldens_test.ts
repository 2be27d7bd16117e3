/** Each logits processor, in both forms, gives what transformers gives. */
import { processorsOf, warpersOf } from "../../src/generation/processors/mod.ts";
import { logSoftmaxRow } from "../../src/generation/processors/values.ts";
import {
  whisperTimestamps,
  type WhisperTimestampSettings,
} from "../../src/generation/processors/whisper_timestamps.ts";
import { assertClose, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor, hasReference, referencePath, type Tolerance } from "../reference.ts";
import { onGpu, only, type Options, resolved, settled } from "./both_forms.ts";

const device = await testDevice();

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
    const gpu = await onGpu(device, o, context, ids.map((row) => row.slice(start)), scores);
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
      const gpu = await onGpu(device, o, context, ids.map((row) => row.slice(start)), scores);
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
