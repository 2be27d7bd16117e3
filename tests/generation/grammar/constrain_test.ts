/** Output that follows a JSON schema, a regular expression or a grammar, whatever the weights want. */
import { Ajv2020 as Ajv } from "ajv/dist/2020.js";
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { AbortError, LimitError, NotSupportedError, ValueError } from "../../../src/errors.ts";
import { generate, type GenerationOptions } from "../../../src/generation/mod.ts";
import { grammarVocabulary } from "../../../src/generation/grammar/constrain.ts";
import { GrammarThread } from "../../../src/generation/grammar/grammar_thread.ts";
import { TokenMask } from "../../../src/generation/grammar/token_mask.ts";
import { loadModel } from "../../../src/models/mod.ts";
import { loadTokenizer } from "../../../src/tokenizer/mod.ts";
import { testDevice } from "../../helpers.ts";
import { embedded } from "../models.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-tiny"), { device, dtype: "float32" });
const tokenizer = await loadTokenizer(embedded("tensaur-tiny"));
globalThis.addEventListener("unload", () => model.dispose());

const V = model.sizes.vocabSize, STOPS = [2044, 2046];
const { vocab: VOCAB, vocabType } = grammarVocabulary(tokenizer, V, "jsonSchema");
const run = async (options: GenerationOptions) => {
  const { sequences } = await generate(model, { inputIds: [[2043, 510]] }, { tokenizer, doSample: false, ...options });
  return tokenizer.decode([...sequences[0]!].slice(2), { skipSpecialTokens: true });
};

Deno.test("a grammar is compiled once, and its thread serves the next call", async () => {
  const options = { jsonSchema: { type: "object", properties: { yes: { type: "boolean" } } }, maxNewTokens: 12 };
  const text = await run(options), before = { ...GrammarThread.counters };
  assertEquals(await run(options), text);
  assertEquals(GrammarThread.counters, before);
  await run({ ...options, jsonSchema: { type: "null" } });
  assertEquals(GrammarThread.counters, { started: before.started, compiled: before.compiled + 1 });
  const both = await Promise.all([run(options), run(options)]);
  assertEquals(both, [text, text]);
});

Deno.test("TokenMask follows histories that go back and change, each row for itself", async () => {
  using mask = await TokenMask.compile({
    kind: "grammar",
    text: 'root ::= "ab" | "acd"',
    vocab: VOCAB,
    vocabType,
    stopTokenIds: STOPS,
  });
  const [a, b, c, d] = ["a", "b", "c", "d"].map((token) => VOCAB.indexOf(token)) as [number, number, number, number];
  const allowed = (row: number, tokens: number[]) => {
    const scores = new Float32Array(V);
    mask.apply(row, tokens, scores);
    return [...scores.keys()].filter((id) => scores[id] === 0).map((id) => VOCAB[id]);
  };
  assertEquals(allowed(0, [a, c]), ["d"]);
  assertEquals(allowed(1, [a]).sort(), ["b", "c"]);
  assertEquals(allowed(0, [a, b]), ["", ""]); // the two ends of sequence
  assertEquals(allowed(0, [a, c, d]), ["", ""]);
  assertEquals(allowed(1, []), allowed(2, []));
});

const PERSON = {
  type: "object",
  properties: { name: { type: "string", maxLength: 8 }, age: { type: "integer", maximum: 120, minimum: 0 } },
  required: ["name", "age"],
};
const WAYS: [name: string, options: GenerationOptions][] = [
  ["greedy search", {}],
  ["sampling", { doSample: true, seed: 5 }],
  ["beam search", { numBeams: 2 }],
  ["prompt lookup", { promptLookupNumTokens: 3 }],
];
for (const [name, options] of WAYS) {
  Deno.test(`generate() with jsonSchema gives a valid document: ${name}`, async () => {
    const text = await run({ jsonSchema: PERSON, maxNewTokens: 60, ...options });
    assert(new Ajv().validate(PERSON, JSON.parse(text)), text);
  });
}

Deno.test("generate() with regex and grammar matches them as a whole", async () => {
  assertMatch(await run({ regex: "[a-f]{3}-[0-9]{2}", maxNewTokens: 20 }), /^[a-f]{3}-[0-9]{2}$/);
  assert(["yes", "no"].includes(await run({ grammar: 'root ::= "yes" | "no"', maxNewTokens: 20 })));
});

const deep = (n: number) => "(".repeat(n) + "a" + ")".repeat(n);
const REFUSED: [options: GenerationOptions, kind: new (message: string) => Error, message: string][] = [
  [{ jsonSchema: "{" }, ValueError, "jsonSchema must be JSON"],
  [{ jsonSchema: "[1]" }, ValueError, "jsonSchema must be an object or a boolean"],
  [{ jsonSchema: { type: "nothing" } }, ValueError, 'Unsupported type "nothing"'],
  [{ jsonSchema: { items: { not: {} } } }, NotSupportedError, 'jsonSchema.items must do without "not"'],
  [{ jsonSchema: { title: "x".repeat(70_000) } }, LimitError, "at most 65536 bytes"],
  [{ regex: deep(40) }, LimitError, "nested at most 32 deep: it is 40 deep"],
  [{ regex: "(a" }, ValueError, "The parenthesis is not closed"],
  [{ grammar: "root ::= missing" }, ValueError, "grammar must be one that can be compiled"],
  [{ regex: "a", grammar: "b" }, ValueError, "only one of"],
  [{ regex: "a", tokenizer: undefined }, ValueError, "tokenizer must be given"],
  [{ regex: "a", eosTokenId: null }, ValueError, "eosTokenId must name a token"],
];
for (const [options, kind, message] of REFUSED) {
  Deno.test(`generate() refuses ${JSON.stringify(options).slice(0, 50)}: ${message}`, async () => {
    const before = device.pool.stats.bytesInUse;
    const error = await assertRejects(() => run({ maxNewTokens: 4, ...options }), kind);
    assertStringIncludes(error.message, message);
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}

Deno.test("TokenMask.compile() stops at its time and at an abort", async () => {
  const given = {
    kind: "regex",
    text: "(a{1,900}){1,900}",
    vocab: VOCAB,
    vocabType,
    stopTokenIds: STOPS,
  } as const;
  await assertRejects(
    () => TokenMask.compile({ ...given, stopTokenIds: [...STOPS] }, { milliseconds: 1 }),
    LimitError,
    "at most 1 ms",
  );
  const signal = AbortSignal.timeout(5);
  await assertRejects(() => TokenMask.compile({ ...given, stopTokenIds: [...STOPS] }, { signal }), AbortError);
});
