import { assert, assertEquals, assertRejects } from "@std/assert";
import { LimitError, ModelFormatError, ModelPathError, ValueError } from "../../src/errors.ts";
import { generate, GenerationConfig, WatermarkingConfig } from "../../src/generation/mod.ts";
import { resolveOptions } from "../../src/generation/resolve.ts";
import type { Model } from "../../src/models/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { setWarningHook } from "../../src/warn.ts";
import { testDevice } from "../helpers.ts";
import { embedded, modelWith } from "./models.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const inputs = { inputIds: [[2043, 510, 300]] };

/** The model with another generation_config.json. */
const withOwn = (generationConfig: Record<string, unknown>, config: Record<string, unknown> = {}): Model =>
  modelWith(model, { generationConfig, config });

Deno.test("GenerationConfig() has the defaults of the documents", () => {
  const config = new GenerationConfig();
  const { maxLength, topK, topP, minP, numBeams, temperature, earlyStopping, numAssistantTokens } = config;
  assertEquals({ maxLength, topK, topP, minP, numBeams, temperature, earlyStopping, numAssistantTokens }, {
    maxLength: 20,
    topK: 50,
    topP: 1,
    minP: null,
    numBeams: 1,
    temperature: 1,
    earlyStopping: false,
    numAssistantTokens: 20,
  });
  assertEquals(config.toJson(), {});
});

Deno.test("GenerationConfig survives a file, with what it does not know", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const config = new GenerationConfig({
      doSample: true,
      temperature: 0.7,
      maxNewTokens: 64,
      eosTokenId: [1, 2],
      sequenceBias: [[[4, 5], -2.5]],
      watermarkingConfig: new WatermarkingConfig({ bias: 3 }),
      transformers_version: "4.46.3",
    });
    await config.savePretrained(`${folder}/new`);
    const text = JSON.parse(await Deno.readTextFile(`${folder}/new/generation_config.json`));
    assertEquals(text.max_new_tokens, 64);
    assertEquals(text.watermarking_config.greenlist_ratio, 0.25);
    assertEquals(text.transformers_version, "4.46.3");
    const file = await GenerationConfig.fromPretrained(`${folder}/new/generation_config.json`);
    for (const read of [file, await GenerationConfig.fromPretrained(`${folder}/new`)]) {
      assertEquals(read.toJson(), config.toJson());
      assertEquals({ ...read }, { ...config });
      assert(read.watermarkingConfig instanceof WatermarkingConfig);
    }
    await Deno.writeTextFile(`${folder}/odd.json`, "[1]");
    await assertRejects(() => GenerationConfig.fromPretrained(`${folder}/odd.json`), ModelFormatError);
    await Deno.writeTextFile(`${folder}/odd.json`, " ".repeat(2 ** 20 + 1));
    await assertRejects(() => GenerationConfig.fromPretrained(`${folder}/odd.json`), LimitError);
    await assertRejects(() => GenerationConfig.fromPretrained(`${folder}/none`), ModelPathError);
    await assertRejects(() => GenerationConfig.fromPretrained(`${folder}/none.json`), ModelPathError);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("savePretrained() refuses a config that warns or throws, and writes nothing", async () => {
  const before = setWarningHook(() => {});
  try {
    const config = new GenerationConfig({ temperature: 0.5 });
    const folder = `${embedded("tensaur-draft")}/never`;
    const error = await assertRejects(() => config.savePretrained(folder), ValueError);
    assert(error.message.startsWith(
      "The generation config instance is invalid -- `.validate()` throws warnings and/or exceptions. Fix these issues to " +
        "save the configuration.\n\nThrown during validation:\n[",
    ));
    assert(error.message.includes("`temperature` is set to `0.5`"));
    config.maxNewTokens = -1;
    await assertRejects(() => config.savePretrained(folder), ValueError, "`maxNewTokens` must be greater than 0");
    await assertRejects(() => Deno.stat(folder));
  } finally {
    setWarningHook(before);
  }
});

const precedence: [
  name: string,
  own: Record<string, unknown>,
  given: Parameters<typeof resolveOptions>[1],
  want: object,
][] = [
  ["the defaults", {}, {}, { topK: 50, maxLength: 20, newTokens: 17 }],
  ["the model's file over the defaults", { top_k: 7, max_new_tokens: 3 }, {}, { topK: 7, newTokens: 3 }],
  ["the call over the model's file", { top_k: 7 }, { topK: 9 }, { topK: 9 }],
  ["a passed config instead of the model's file", { top_k: 7, top_p: 0.5 }, { generationConfig: { topP: 0.9 } }, {
    topK: 50,
    topP: 0.9,
  }],
  ["the call over a passed config", {}, { generationConfig: { topK: 3 }, topK: 4 }, { topK: 4 }],
  ["the model's special tokens where a passed config has none", { eos_token_id: [5, 6], pad_token_id: 1 }, {
    generationConfig: new GenerationConfig({ maxNewTokens: 4 }),
  }, { eosTokenIds: [5, 6], padToken: 1, newTokens: 4 }],
  ["a passed config's special tokens", { eos_token_id: 5 }, { generationConfig: { eosTokenId: 8 } }, {
    eosTokenIds: [8],
  }],
  ["null as off", { top_k: 7, eos_token_id: 5, min_p: 0.1 }, { topK: null, eosTokenId: null, minP: null }, {
    topK: 0,
    eosTokenIds: [],
    minP: null,
  }],
  ["undefined as not given", { top_k: 7 }, { topK: undefined }, { topK: 7 }],
  ["maxNewTokens over maxLength", {}, { maxNewTokens: 5, maxLength: 4 }, { newTokens: 5, maxLength: 8 }],
  ["minNewTokens over minLength", {}, { minNewTokens: 2, minLength: 9 }, { minLength: 5 }],
  ["a pad token of 0", { pad_token_id: 0, eos_token_id: 5 }, {}, { padToken: 0 }],
  ["the end of sequence for padding", { eos_token_id: [5, 6] }, {}, { padToken: 5 }],
];
for (const [name, own, given, want] of precedence) {
  Deno.test(`options: ${name}`, () => {
    const before = setWarningHook(() => {}),
      config = structuredClone(given.generationConfig && { ...given.generationConfig });
    try {
      const o = resolveOptions(withOwn(own), given, 3) as unknown as Record<string, unknown>;
      assertEquals(Object.fromEntries(Object.keys(want).map((key) => [key, o[key]])), want as Record<string, unknown>);
      assertEquals(given.generationConfig && { ...given.generationConfig }, config); // not changed
    } finally {
      setWarningHook(before);
    }
  });
}

Deno.test("generate() takes a GenerationConfig", async () => {
  const generationConfig = new GenerationConfig({
    maxNewTokens: 4,
    eosTokenId: 2047,
    padTokenId: 0,
    badWordsIds: [[1]],
  });
  const { sequences } = await generate(model, inputs, { generationConfig });
  assertEquals(sequences[0]!.length, 7);
});
