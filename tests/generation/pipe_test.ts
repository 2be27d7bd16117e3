/** Each logits processor: its GPU form equals its plain form. */
import { assertEquals } from "@std/assert";
import { SynthIDTextWatermarkingConfig, WatermarkingConfig } from "../../src/generation/watermarking_config.ts";
import { asGpu, assertClose, randn, random, testDevice } from "../helpers.ts";
import { onGpu, only, type Options, resolved, settled } from "./both_forms.ts";

const device = await testDevice();
const full = Deno.env.get("TENSAUR_TEST_FULL") === "1";

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
        const got = await onGpu(device, o, c, fresh, scores, unconditional);
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
      const got = settled((await onGpu(device, o, c, [[]], scores))!);
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
      const got = await asGpu(device, () => onGpu(device, o, c, [[]], scores));
      assertScores(name, settled(got!), settled(want), differ);
    });
  }
}
