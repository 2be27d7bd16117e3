/** Watermarked text is told from other text, and every token that `generate` made likelier is green to the detector. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ValueError } from "../../src/errors.ts";
import {
  generate,
  SynthIDTextWatermarkingConfig,
  WatermarkDetector,
  WatermarkingConfig,
} from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { synthIdLogitsReference, synthIdMarks } from "../../src/ops/synthid_logits.ts";
import { random, testDevice } from "../helpers.ts";
import { embedded } from "./models.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const inputs = { inputIds: [[2043, 510, 300, 257], [2043, 300, 257, 510]] };

for (
  const config of [
    new WatermarkingConfig({ bias: 4 }),
    new WatermarkingConfig({
      bias: 4,
      seedingScheme: "selfhash",
      contextWidth: 3,
      greenlistRatio: 0.5,
      hashingKey: 2 ** 40 + 7,
    }),
  ]
) {
  Deno.test(`WatermarkDetector() finds what generate() marked with ${config.seedingScheme}, and nothing else`, async () => {
    const options = { doSample: true, maxNewTokens: 96, eosTokenId: null, seed: 8 };
    const texts = async (watermarkingConfig: WatermarkingConfig | null) => {
      const { sequences } = await generate(model, inputs, { ...options, watermarkingConfig });
      return sequences.map((row) => row.slice(4));
    };
    const detector = new WatermarkDetector(config), other = new WatermarkDetector({ ...config, hashingKey: 5 });
    const marked = await texts(config), plain = await texts(null);
    const [found, wrongKey, none] = [detector.detect(marked), other.detect(marked), detector.detect(plain)];
    assertEquals(found.map(({ prediction }) => prediction), [true, true]);
    assertEquals([...wrongKey, ...none].map(({ prediction }) => prediction), [false, false, false, false]);
    assert(found[0]!.pValue < 0.001 && found[0]!.confidence > 0.999);
    assertEquals(found[0]!.numTokensScored, 96 - config.contextWidth);
  });
}

Deno.test("random tokens are green as often as greenlistRatio says", () => {
  const next = random(3), ids = Array.from({ length: 8000 }, () => Math.floor(next() * 50_000));
  for (
    const config of [
      { greenlistRatio: 0.25 },
      { greenlistRatio: 0.7, seedingScheme: "selfhash", contextWidth: 2 } as const,
    ]
  ) {
    const [found] = new WatermarkDetector(config).detect([ids]);
    assert(Math.abs(found!.zScore) < 4, `z-score ${found!.zScore}`);
  }
});

Deno.test("WatermarkDetector() skips bosTokenId and repeats, and refuses rows that are too short", () => {
  const detector = new WatermarkDetector({}, { bosTokenId: 1, ignoreRepeatedNgrams: true });
  assertEquals(detector.detect([[1, 5, 6, 5, 6, 5, 6]])[0]!.numTokensScored, 2);
  assertThrows(() => detector.detect([[1, 5]]), ValueError, "minPrefixLen=1 tokens required");
  assertThrows(
    () => new WatermarkDetector({ contextWidth: 0 }),
    ValueError,
    "`contextWidth` should be a positive integer",
  );
});

Deno.test("SynthID: WatermarkDetector() finds what generate() marked, on the GPU and on the host alike", async () => {
  const keys = [654, 400, 836, 123, 340, 443, 597, 160, 57];
  const config = new SynthIDTextWatermarkingConfig({ ngramLen: 4, keys });
  const options = { doSample: true, topK: 0, temperature: 1.5, maxNewTokens: 96, eosTokenId: null, seed: 8 };
  const marked = await generate(model, inputs, { ...options, watermarkingConfig: config });
  const onHost = await generate(model, inputs, { ...options, watermarkingConfig: config, logitsProcessor: [() => {}] });
  assertEquals(onHost.sequences, marked.sequences);
  const plain = await generate(model, inputs, options);
  const texts = (rows: number[][]) => rows.map((row) => row.slice(4));
  const detector = new WatermarkDetector(config),
    other = new WatermarkDetector({ ...config, keys: keys.map((k) => k + 1) });
  const seen = [
    ...detector.detect(texts(marked.sequences)),
    ...other.detect(texts(marked.sequences)),
    ...detector.detect(texts(plain.sequences)),
  ].map(({ prediction }) => prediction);
  assertEquals(seen, [true, true, false, false, false, false]);
});

Deno.test("SynthID leaves the chances of tokens as they are, on average over keys", () => {
  const scores = Float32Array.from([2, 1, 0, -1, -Infinity]), runs = 4000, sums = new Float64Array(5);
  for (let key = 0; key < runs; key++) {
    const config = new SynthIDTextWatermarkingConfig({ ngramLen: 2, keys: [key, 3 * key + 1, 7 * key] });
    const marked = scores.slice();
    synthIdLogitsReference(marked, [5, 6], config, 0);
    marked.forEach((x, t) => sums[t]! += Math.exp(x) / runs);
  }
  const weights = Array.from(scores, Math.exp), total = weights.reduce((a, b) => a + b);
  for (const [t, mean] of sums.entries()) assert(Math.abs(mean - weights[t]! / total) < 0.02, `token ${t}: ${mean}`);
});

Deno.test("SynthID marks no context twice, none too early, and none that is too short", () => {
  const marks = (past: number[], step: number, more = {}) =>
    synthIdMarks(past, new SynthIDTextWatermarkingConfig({ ngramLen: 3, keys: [1], ...more }), step);
  assertEquals(marks([1], 0), false);
  assertEquals(marks([1, 2], 0), true);
  assertEquals(marks([1, 2, 1, 2], 2), false);
  assertEquals(marks([1, 2, 1, 2], 1), true); // the first came before the prompt ended
  assertEquals(marks([1, 2, 1, 2], 2, { contextHistorySize: 1 }), true);
  assertEquals([0, 1, 2].map((step) => marks([4, 1, 2], step, { skipFirstNgramCalls: true })), [false, false, true]);
  assertThrows(() => new WatermarkDetector({ ngramLen: 1, keys: [1] }), ValueError, "`ngramLen` should be");
  assertThrows(
    () => new WatermarkDetector({ ngramLen: 3, keys: [] }),
    ValueError,
    "`keys` should be a list of integers",
  );
});
