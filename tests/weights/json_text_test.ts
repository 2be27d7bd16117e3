/** Keys written with an escape: V8's JSON.parse takes some of them for keys of objects that it saw before. */
import fc from "fast-check";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { loadTokenizer } from "../../src/tokenizer/mod.ts";
import { parseJsonText } from "../../src/weights/json_text.ts";
import { mutatedJson, seed, TemporaryFolder } from "./fixture.ts";

/** A JSON text by its keys and values, written as they come: no object is built that V8 could remember. */
type Written = null | number | string | Written[] | { members: [key: string, value: Written][] };

const every = (text: string) => text.replace(/[^]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

function write(value: Written, quote: (text: string) => string): string {
  if (Array.isArray(value)) return `[${value.map((item) => write(item, quote))}]`;
  if (typeof value === "string") return quote(value);
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{${value.members.map(([key, item]) => `${quote(key)} :${write(item, quote)}`)}}`;
}

/** The same of what was parsed. */
function written(value: unknown): Written {
  if (Array.isArray(value)) return value.map(written);
  if (typeof value !== "object" || value === null) return value as Written;
  return { members: Object.entries(value).map(([key, item]) => [key, written(item)]) };
}

const pairs: [first: string, then: string][] = [
  ["\\", "é"],
  ["\\", "\n"],
  ["\\", '"'],
  ["\\n", "\nx"],
  ["\\u", "éx"],
  ["\\u00", "€\0\b\f"],
];
for (const [i, [first, then]] of pairs.entries()) {
  Deno.test(`parseJsonText() reads the key ${JSON.stringify(then)} after another object's ${JSON.stringify(first)}`, () => {
    for (const [k, value] of ["0", "{}", '"x"', "[1]"].entries()) {
      const member = `"pair ${i}, ${k}":0,`;
      JSON.parse(`{${member}${JSON.stringify(first)}:${value}}`);
      for (const key of [JSON.stringify(then), `"${every(then)}"`]) {
        const object = parseJsonText(`{${member}${key}:${value}}`) as object;
        assertEquals(Object.keys(object)[1], then);
        assertEquals(JSON.stringify(Object.values(object)[1]), value);
      }
    }
  });
}

Deno.test("loadTokenizer() reads a vocabulary right after one that begins alike", async () => {
  const ids = async (token: string) => {
    using folder = new TemporaryFolder();
    const json = (key: string) => `{"model": {"type": "WordPiece", "unk_token": "?", "vocab": {"?": 0, ${key}: 1}}}`;
    folder.write("tokenizer.json", json(JSON.stringify(token)));
    return (await loadTokenizer(folder.path)).encode(token);
  };
  assertEquals([await ids("\\"), await ids('"'), await ids("\n\n"), await ids("é")], [[1], [1], [1], [1]]);
});

const key = fc.oneof(
  fc.constantFrom("a", "b", "\\", '"', "\n", "é", "\\n", "\nx", "\\\\", "", "__proto__", "1", "\ue000", "\ue0000", "{"),
  fc.string({ maxLength: 3 }),
);
const { value } = fc.letrec<{ value: Written }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.constantFrom<Written>(null, 1.5, "", "x\\", '":"', "\ue000", '{"a":1}'),
    fc.array(tie("value"), { maxLength: 3 }),
    fc.uniqueArray(fc.tuple(key, tie("value")), { selector: ([name]) => name, maxLength: 4 })
      .map((members) => ({ members })),
  ),
}));
// As an object orders its keys: whole numbers first.
const ordered = (value: Written): Written => {
  if (Array.isArray(value)) return value.map(ordered);
  if (typeof value !== "object" || value === null) return value;
  const members = value.members.map(([name, item]): [string, Written] => [name, ordered(item)]);
  const isIndex = ([name]: [string, Written]) => /^(0|[1-9]\d*)$/.test(name);
  const indices = members.filter(isIndex).sort(([a], [b]) => Number(a) - Number(b));
  return { members: [...indices, ...members.filter((member) => !isIndex(member))] };
};

Deno.test(`parseJsonText() gives keys and values as they are written (seed ${seed})`, () => {
  let escaped = 0;
  fc.assert(
    fc.property(value, fc.constantFrom(JSON.stringify, (text: string) => `"${every(text)}"`), (value, quote) => {
      const text = ` ${write(value, quote)}\n`;
      if (text.includes("\\")) escaped++;
      assertEquals(written(parseJsonText(text)), ordered(value), text);
    }),
    { numRuns: 3000, seed },
  );
  assert(escaped > 1000, `${escaped} of 3000 had an escape`);
});

Deno.test(`parseJsonText() refuses what JSON.parse refuses, in its words (seed ${seed})`, () => {
  const text = '{"\\"a": [1, {"\\u00e9": "\\\\"}], "b\\n" : {"": "x\\""}, "c": "\\":"}';
  let refused = 0;
  for (const bytes of fc.sample(mutatedJson(text), { numRuns: 3000, seed })) {
    const damaged = new TextDecoder().decode(bytes);
    try {
      JSON.parse(damaged);
    } catch (error) {
      refused++;
      assertThrows(() => parseJsonText(damaged), SyntaxError, (error as Error).message);
      continue;
    }
    parseJsonText(damaged);
  }
  assert(refused > 1000, `${refused} of 3000 were refused`);
});

Deno.test("parseJsonText() reads 100,000 nested arrays and a string of a million escapes", () => {
  assertEquals(parseJsonText(`{"a\\n": "${"\\n".repeat(1e6)}"}`), { "a\n": "\n".repeat(1e6) });
  let depth = 0;
  let inner = parseJsonText(`${"[".repeat(1e5)}{"\\n":1}${"]".repeat(1e5)}`) as unknown;
  for (; Array.isArray(inner); inner = inner[0]) depth++;
  assertEquals([depth, inner], [1e5, { "\n": 1 }]);
});
