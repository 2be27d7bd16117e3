/** Watermarked text is told from other text, and every token that `generate` made likelier is green to the detector. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ValueError } from "../../src/errors.ts";
import { generate, WatermarkDetector, WatermarkingConfig } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
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
