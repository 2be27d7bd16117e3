// long and random texts end with ids or a typed error, in time.
import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import fc from "fast-check";
import { LimitError, TensaurError } from "../../src/errors.ts";
import { createTokenizer, loadTokenizer, type Tokenizer } from "../../src/tokenizer/mod.ts";
import { cpuTime } from "../helpers.ts";
import { DEFAULT_MODEL, partsOfPython, referenceTokenizers } from "./fixtures.ts";

const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";

const python = await partsOfPython();
const tiny = await loadTokenizer(DEFAULT_MODEL);
const small: [string, Tokenizer][] = Object.entries(python.tokenizers)
  .map(([name, { json }]) => [name, createTokenizer(json)]);

for (const [name, tokenizer] of [["default model", tiny] as const, ...small]) {
  Deno.test(`tokenizer() takes a word of 1 MB or says that it is too long: ${name}`, () => {
    const start = cpuTime();
    try {
      const ids = tokenizer.encode("abcdefghij".repeat(100_000));
      assert(ids.length > 0 && ids.every((id) => Number.isInteger(id) && id >= 0 && id < tokenizer.vocabSize));
    } catch (error) {
      assertInstanceOf(error, LimitError);
      assertEquals(error.hint, "Split it, or put spaces into it.");
    }
    assert(cpuTime() - start < 5000, `${cpuTime() - start} ms`);
  });
}

Deno.test("tokenizer() cuts a word only where no token can cross: the ids stay the same", () => {
  const { json, cases } = python.tokenizers["Llama 2"]!;
  const { vocab, merges, ...rest } = json.model as { vocab: Record<string, number>; merges: [string, string][] };
  const crosses = (token: string) => /[^▁]▁/.test(token);
  const model = {
    ...rest,
    vocab: Object.fromEntries(Object.entries(vocab).filter(([token]) => !crosses(token))),
    merges: merges.filter((pair) => !crosses(pair.join(""))),
  };
  const cut = createTokenizer({ ...json, model });
  const whole = createTokenizer({ ...json, model: { ...model, vocab: { ...model.vocab, "x▁y": 2000 } } });
  for (const { text } of cases) assertEquals(cut.encode(text), whole.encode(text), text);
  const long = "quiet ".repeat(20_000);
  assert(cut.encode(long).length > 20_000);
  assertThrows(() => whole.encode(long), LimitError, "a piece of it");
});

Deno.test("tokenizer() refuses texts of more than 4 Mi characters", () => {
  const bare = createTokenizer({ model: { type: "WordPiece", vocab: { a: 0 }, unk_token: "a" } });
  assertEquals(bare.encode("x".repeat(4 * 2 ** 20)), [0]);
  const error = assertThrows(() => bare.encode("x".repeat(4 * 2 ** 20 + 1)), LimitError);
  assertEquals(error.hint, "Split it at paragraphs and encode the parts.");
});

Deno.test("tokenizer() takes shorter pieces where the vocabulary has very long tokens", () => {
  const a = "a".repeat(60_000);
  const tokenizer = createTokenizer({
    model: { type: "Unigram", unk_id: 0, vocab: [["<unk>", 0], ["a", -1], [a, -1]] },
  });
  assertEquals(tokenizer.encode("a".repeat(1000)).length, 1000);
  assertThrows(() => tokenizer.encode(a), LimitError, "at most 1118 characters");
});

const pieces = [
  "the quiet river",
  " ",
  "\n",
  "don't",
  "１２",
  "naïve",
  "日本語",
  "🙂",
  "👩‍👩‍👧",
  "\u0000",
  "\ufeff",
  "\u0085",
  "<sp>",
  "é1",
  "▁",
  "</s>",
];
const texts = fc.oneof(
  fc.string({ unit: "binary", maxLength: 30 }),
  fc.string({ unit: "grapheme", maxLength: 20 }),
  fc.array(fc.oneof(fc.constantFrom(...pieces), fc.string({ maxLength: 3 })), { maxLength: 12 }).map((all) =>
    all.join("")
  ),
  // UTF-16 units in any order: lone surrogates
  fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 12 }).map((units) => String.fromCharCode(...units)),
);

const every: [string, Tokenizer][] = [["default model", tiny], ...small];
for (const [kind, folder] of referenceTokenizers()) every.push([kind, await loadTokenizer(folder)]);
const TEXTS = 3000 * (FULL ? every.length : 1); // in the full tests 3,000 for each tokenizer
const byteLevel = new Set(["default model", "byte level", "gpt2", "llama3", "roberta", "whisper"]);

Deno.test(`tokenizer() gives ids of the vocabulary on ${TEXTS} random texts for ${every.length} tokenizers, and byte level texts come back`, () => {
  let round = 0;
  fc.assert(
    fc.property(texts, (text) => {
      const [name, tokenizer] = every[round++ % every.length]!;
      const ids = tokenizer.encode(text);
      for (const id of ids) assert(Number.isInteger(id) && id >= 0 && id < tokenizer.vocabSize, `${id} of ${name}`);
      const decoded = tokenizer.decode(tokenizer.encode(text, { addSpecialTokens: false }));
      // Added tokens that take spaces, or stand in the text by chance, do not come back as they were.
      if (byteLevel.has(name) && !/[<é]|word/.test(text)) assertEquals(decoded, text.toWellFormed(), name);
    }),
    { seed: 11, numRuns: TEXTS },
  );
});

/** A JSON value with one place of it replaced, left out or doubled. */
function mutate(json: unknown, path: number[], value: unknown): unknown {
  if (typeof json !== "object" || json === null || path.length === 0) return value;
  const [at, ...rest] = path as [number, ...number[]];
  if (Array.isArray(json)) {
    if (json.length === 0) return [value];
    const i = at % json.length;
    if (at % 7 === 0) return json.toSpliced(i, 1);
    if (at % 7 === 1) return [...json, json[i]];
    return json.with(i, mutate(json[i], rest, value));
  }
  const keys = Object.keys(json), key = keys[at % keys.length] ?? "x";
  const copy = { ...json } as Record<string, unknown>;
  if (at % 11 === 0) delete copy[key];
  else if (at % 11 === 1) copy[keys[(at >> 4) % keys.length] ?? "y"] = copy[key];
  else copy[key] = mutate(copy[key], rest, value);
  return copy;
}

const awkward = fc.constantFrom<unknown>(
  ...[null, undefined, -1, 0, 0.5, 1e9, NaN, true, "", "x", " ", "▁", "🙂", [], {}, [[]], [null], { type: "Sequence" }],
  ...[
    { String: "" },
    { Regex: "(a+)+" },
    { Regex: "\\" },
    { type: "ByteLevel" },
    { type: "Replace" },
    "x".repeat(5000),
  ],
);

Deno.test("createTokenizer() loads or gives a typed error on 2,000 mutations of tokenizer.json, none over 1 s", () => {
  const originals = Object.values(python.tokenizers).map(({ json }) => json);
  const texts = ["Hello <sp> naïve 日本 🙂\n", "", "a".repeat(300)];
  let round = 0, loaded = 0;
  const use = (json: Record<string, unknown>) => {
    const tokenizer = createTokenizer(json);
    loaded++;
    for (const text of texts) {
      const ids = tokenizer.encode(text);
      for (const id of ids) assert(Number.isInteger(id) && id >= 0 && id < tokenizer.vocabSize, `id ${id}`);
      tokenizer.decode(ids);
    }
  };
  fc.assert(
    fc.property(fc.array(fc.nat(), { minLength: 1, maxLength: 6 }), awkward, (path, value) => {
      const json = mutate(originals[round++ % originals.length], path, value) as Record<string, unknown>;
      const start = cpuTime();
      try {
        use(json);
      } catch (error) {
        assertInstanceOf(error, TensaurError, String((error as Error).stack));
      }
      assert(cpuTime() - start < 1000, `${cpuTime() - start} ms`);
    }),
    { seed: 3, numRuns: 2000 },
  );
  assert(loaded > 200 && loaded < 1900, `${loaded} of 2000 loaded`);
});
