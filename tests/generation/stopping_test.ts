/** When rows end (semantics: §4.6). */
import { assert, assertEquals } from "@std/assert";
import { generate } from "../../src/generation/mod.ts";
import { criteriaOf, maxTimeCriterion, stopStringCriterion } from "../../src/generation/stopping.ts";
import { DEFAULTS } from "../../src/generation/config_fields.ts";
import { loadModel } from "../../src/models/mod.ts";
import { setWarningHook } from "../../src/warn.ts";
import { testDevice } from "../helpers.ts";
import { embedded } from "./models.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const prompt = [2043, 510, 300, 257], inputs = { inputIds: [prompt] };
const greedy = { doSample: false, eosTokenId: null, padTokenId: 0 } as const;

/** Ids are places in `texts`. */
const codec = (texts: readonly string[]) => ({
  decode: (ids: readonly number[]) => ids.map((id) => texts[id]).join(""),
  tokenStream: () => ({ put: (id: number) => texts[id]!, end: () => "" }),
});

const cases: [tokens: string[], ends: boolean][] = [
  [["st", "op"], true],
  [["stop"], true],
  [["st", "opx"], true],
  [["s", "top"], true],
  [["ssto", "pper"], true],
  [["s", "to", "pper"], true],
  [["x", "stop"], true],
  [["s", "t", "o", "p"], true],
  [["x", "stopstop"], true],
  [["stop", "stop"], true],
  [["stop", "x"], false],
  [["st", "to", "p"], false],
  [["stop", "!"], false],
  [["st", "o"], false],
  [["stopst", "o"], false],
  [[""], false],
  [["stop", ""], false],
];
for (const [tokens, ends] of cases) {
  Deno.test(`the stop string "stop" ${ends ? "ends" : "does not end"} ${tokens.join("·")}, after any text`, () => {
    for (const before of [[], ["a long text before it, ", "with many words, "]]) {
      const texts = [...before, ...tokens], criterion = stopStringCriterion(["never", "stop"], codec(texts));
      assertEquals(criterion([...texts.keys()]), ends);
    }
  });
}

Deno.test("a stop string may begin in the prompt", async () => {
  const letters = {
    decode: (ids: readonly number[]) => ids.map((id) => String.fromCodePoint(0x4e00 + id)).join(""),
    tokenStream: () => ({ put: () => "", end: () => "" }),
  };
  const whole = (await generate(model, inputs, { ...greedy, maxNewTokens: 4 })).sequences[0]!;
  const stopStrings = letters.decode(whole.slice(2, 5));
  const { sequences } = await generate(model, inputs, { ...greedy, maxNewTokens: 4, stopStrings, tokenizer: letters });
  assertEquals(sequences[0], whole.slice(0, 5));
});

Deno.test("maxTime ends a row with the first token past it, and there is always one", async () => {
  let clock = 1000;
  const criterion = maxTimeCriterion(0.25, () => clock);
  assertEquals([250, 251].map((ms) => (clock = 1000 + ms, criterion([]))), [false, true]);
  const start = performance.now();
  const { sequences } = await generate(model, inputs, { ...greedy, maxNewTokens: 800, maxTime: 0 });
  assertEquals(sequences[0]!.length, prompt.length + 1);
  assert(performance.now() - start < 10_000);
});

Deno.test("criteria come in their order: time, stop strings, the caller's", () => {
  const own = () => false, rest = { seed: 0, eosTokenIds: [], padToken: 0, prefillChunkSize: 1, newTokens: 1 };
  const criteria = criteriaOf({
    ...DEFAULTS,
    ...rest,
    maxTime: 1,
    stops: ["."],
    tokenizer: codec(["."]),
    stoppingCriteria: [own],
  });
  assertEquals(criteria.length, 3);
  assertEquals(criteria[1]!([0]), true);
  assertEquals(criteria[2], own);
});

Deno.test("a criterion ends its own row alone, which is then padded", async () => {
  const two = { inputIds: [prompt, [2043, 300]] };
  const stoppingCriteria = [(ids: readonly number[]) => ids[1] === 300 && ids.length === 4];
  const { sequences } = await generate(model, two, { ...greedy, padTokenId: 9, maxNewTokens: 5, stoppingCriteria });
  assertEquals(sequences[1]!.slice(4), [9, 9, 9, ...(sequences[1]!.length > 7 ? [9, 9] : [])]);
  assertEquals(sequences[0]!.length, prompt.length + 5);
});

Deno.test("runs past the model's positions are reminded of, once", async () => {
  const heard: string[] = [], before = setWarningHook((category, text) => heard.push(`${category}: ${text}`));
  try {
    const most = model.sizes.maxPositionEmbeddings, stoppingCriteria = [() => true];
    for (const maxNewTokens of [most, most - 3, most - prompt.length]) {
      await generate(model, inputs, { ...greedy, maxNewTokens, stoppingCriteria });
    }
    assertEquals(heard, [
      "log: This is a friendly reminder - the current text generation call will exceed the model's predefined maximum " +
      `length (${most}). Depending on the model, you may observe exceptions, performance degradation, or nothing at all.`,
    ]);
  } finally {
    setWarningHook(before);
  }
});
