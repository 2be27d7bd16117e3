/** What `generate` warns of (semantics: G-5 … G-11): exact texts, once a call. */
import { assertEquals } from "@std/assert";
import { generate, type GenerationOptions } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { setWarningHook } from "../../src/warn.ts";
import { testDevice } from "../helpers.ts";
import { embedded, modelWith } from "./models.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const inputs = { inputIds: [[2043, 510, 300]] };
const short = { doSample: false, eosTokenId: null, padTokenId: 0, maxNewTokens: 2 } as const;

const DOCS = " Please refer to the documentation for more information. " +
  "(https://huggingface.co/docs/transformers/main/en/main_classes/text_generation)";
const STOPS = " Generation will stop at the defined maximum length. You should decrease the minimum length and/or " +
  "increase the maximum length.";
const greedy = (name: string, value: unknown) =>
  `UserWarning: \`doSample\` is set to \`False\`. However, \`${name}\` is set to \`${value}\` -- this flag is only used ` +
  `in sample-based generation modes. You should set \`doSample=True\` or unset \`${name}\`.`;
const single = (name: string, value: unknown) =>
  `UserWarning: \`numBeams\` is set to 1. However, \`${name}\` is set to \`${value}\` -- this flag is only used in ` +
  `beam-based generation modes. You should set \`numBeams>1\` or unset \`${name}\`.`;
const ignored = (option: string, name: string, base: string) =>
  `UserWarning: You've set \`${option}\`, which triggers ${name} generate. Currently, ${name} generate is only supported ` +
  `with Greedy Search and Sample. However, the base decoding mode (based on current flags) is ${base} -- some of the ` +
  "set flags will be ignored.";

const warned: [rule: string, options: GenerationOptions, heard: string[]][] = [
  ["nothing to warn of", { doSample: true, temperature: 0.5, topK: 7 }, []],
  [
    "G-5",
    { maxLength: 8 },
    [`log: Both \`maxNewTokens\` (=2) and \`maxLength\`(=8) seem to have been set. \`maxNewTokens\` will take precedence.${DOCS}`],
  ],
  [
    "G-5",
    { minNewTokens: 1, minLength: 2 },
    [`log: Both \`minNewTokens\` (=1) and \`minLength\`(=2) seem to have been set. \`minNewTokens\` will take precedence.${DOCS}`],
  ],
  [
    "G-6",
    { maxNewTokens: undefined, stoppingCriteria: [() => true] },
    [
      "UserWarning: Using the model-agnostic default `maxLength` (=20) to control the generation length. We recommend " +
      "setting `maxNewTokens` to control the maximum length of the generation.",
    ],
  ],
  [
    "G-8",
    { maxNewTokens: undefined, maxLength: 5, minLength: 30 },
    [`UserWarning: Unfeasible length constraints: \`minLength\` (30) is larger than the maximum possible length (5).${STOPS}`],
  ],
  [
    "G-8",
    { maxNewTokens: undefined, maxLength: 5, minNewTokens: 4 },
    [
      `UserWarning: Unfeasible length constraints: \`minLength\` (7) is larger than the maximum possible length (5).${STOPS}`,
      "UserWarning: Unfeasible length constraints: `minNewTokens` (4), when added to the prompt length (3), is larger " +
      `than the maximum possible length (5).${STOPS}`,
    ],
  ],
  ["G-10", { temperature: 0.5 }, [greedy("temperature", 0.5)]],
  ["G-10", { topP: 0.9, minP: 0.1 }, [greedy("topP", 0.9), greedy("minP", 0.1)]],
  ["G-10", { typicalP: 0.9, topK: 7 }, [greedy("typicalP", 0.9), greedy("topK", 7)]],
  ["G-10", { epsilonCutoff: 0.1, etaCutoff: 0.2 }, [greedy("epsilonCutoff", 0.1), greedy("etaCutoff", 0.2)]],
  ["G-10", { earlyStopping: true }, [single("earlyStopping", "True")]],
  ["G-10", { numBeamGroups: 2, diversityPenalty: 0 }, [single("numBeamGroups", 2)]],
  ["G-10", { lengthPenalty: 2 }, [single("lengthPenalty", 2)]],
  ["G-18", { assistantModel: model, promptLookupNumTokens: 2 }, [
    "UserWarning: Both `assistantModel` and `promptLookupNumTokens` are set: the assistant is not used.",
  ]],
  ["G-18", { numBeams: 2, assistantModel: model, profile: "hf5" }, [ignored("assistantModel", "assisted", "beam")]],
  ["G-18", { numBeams: 2, dolaLayers: "low", repetitionPenalty: 1.2, profile: "hf5" }, [
    ignored("dolaLayers", "DoLa", "beam"),
  ]],
  ["G-58", { dolaLayers: "low" }, [
    "UserWarning: `dolaLayers` is set to trigger DoLa decoding, but `repetitionPenalty` is set to a value of 1, which " +
    "could induce unwanted repetition. The recommended value for DoLa decoding is `repetitionPenalty>=1.2`.",
  ]],
  ["G-11", { padTokenId: null, eosTokenId: [9, 4] }, [
    "log: Setting `padTokenId` to `eosTokenId`:9 for open-end generation.",
  ]],
];

function shown({ assistantModel, ...options }: GenerationOptions): string {
  return JSON.stringify({ ...options, ...assistantModel && { assistantModel: "the model" } });
}

/** All warnings of `run`, as "category: text". */
async function heardIn(run: () => unknown): Promise<string[]> {
  const heard: string[] = [], before = setWarningHook((category, text) => heard.push(`${category}: ${text}`));
  try {
    await run();
  } finally {
    setWarningHook(before);
  }
  return heard;
}

for (const [rule, options, want] of warned) {
  Deno.test(`${rule}: what generate() warns of with ${shown(options)}, once`, async () => {
    const bare = modelWith(model, { config: { ...model.config, pad_token_id: undefined }, generationConfig: {} });
    const call = { ...short, ...options };
    assertEquals(await heardIn(() => generate(bare, inputs, call)), want);
    const twice = await heardIn(async () => {
      await generate(bare, inputs, call);
      await generate(bare, inputs, call);
    });
    assertEquals(twice, want);
  });
}

Deno.test("G-10: what only the model's own config sets is not warned of", async () => {
  const own = modelWith(model, { generationConfig: { temperature: 0.6, top_p: 0.9, do_sample: true } });
  assertEquals(await heardIn(() => generate(own, inputs, { ...short, doSample: false })), []);
});
