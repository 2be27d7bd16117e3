/** JSON schemas without a model: random logits write what validates, hostile schemas do no harm. No GPU. */
import { Ajv2020 as Ajv } from "ajv/dist/2020.js";
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { LimitError, NotSupportedError, ValueError } from "../../../src/errors.ts";
import { grammarVocabulary } from "../../../src/generation/grammar/constrain.ts";
import { enforceable } from "../../../src/generation/grammar/json_schema.ts";
import { patternProblem } from "../../../src/generation/grammar/patterns.ts";
import { TokenMask } from "../../../src/generation/grammar/token_mask.ts";
import { loadTokenizer } from "../../../src/tokenizer/mod.ts";
import { random } from "../../helpers.ts";
import { embedded } from "../models.ts";

const full = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const tokenizer = await loadTokenizer(embedded("tensaur-tiny"));
const V = 2048, STOPS = [2044, 2046];
const { vocab: VOCAB, vocabType } = grammarVocabulary(tokenizer, V, "jsonSchema");

type Schema = Record<string, unknown>;

const PATTERNS = ["^a{1,4}$", "[0-9]{2}-[A-F]+", "^(ab|c\\.d)?$", "x\\d{3}", "^[a-z_]{2,5}!$"];
const NAMES = ["a", "name", "größe", "x y", "_1"];

/** A schema whose documents are finite: lengths are bounded. */
function randomSchema(next: () => number, depth = 0): Schema {
  const whole = (n: number) => Math.floor(next() * n), some = <T>(list: readonly T[]) => list[whole(list.length)]!;
  const inner = () => randomSchema(next, depth + 1);
  switch (whole(depth > 2 ? 9 : 15)) {
    case 0:
      return { type: "string", maxLength: 1 + whole(8), minLength: whole(2), title: "a title" };
    case 1:
      return { enum: ["red", 7, null, 'a "b" \\', true].slice(0, 1 + whole(5)) };
    case 2:
      return { type: "boolean" };
    case 3:
      return { type: "integer", minimum: -whole(20), maximum: whole(1000) };
    case 4:
      return { const: some(["x", 3, false, { k: [1, "ü"] }]) };
    case 5:
      return { type: "string", pattern: some(PATTERNS) };
    case 6:
      return {
        type: "integer",
        [some(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"])]: whole(400) - 200,
      };
    case 7:
      return { type: ["integer", "string", "null"], minimum: whole(9), maxLength: 2 };
    case 8:
      return some([{ type: "number" }, { type: "string", enum: ["a", 1] }, { type: "null" }]);
    case 9:
      return { type: "array", items: inner(), minItems: whole(2), maxItems: 2 + whole(2) };
    case 10:
      return { anyOf: [inner(), { type: "null" }] };
    case 11:
      return { type: "array", prefixItems: [inner(), inner()], items: false };
    case 12:
      return {
        oneOf: ["cat", "dog"].map((kind) => ({
          type: "object",
          properties: { kind: { const: kind }, [kind]: inner() },
          required: ["kind"],
        })),
      };
    case 13:
      return { type: "object", additionalProperties: { type: "boolean" }, maxProperties: 1 + whole(2) };
    default: {
      const names = NAMES.slice(0, 1 + whole(5));
      const properties = Object.fromEntries(names.map((name) => [name, inner()]));
      const more = some([false, true, undefined]);
      return { type: "object", properties, required: names.filter(() => next() < 0.6), additionalProperties: more };
    }
  }
}

/** What random logits write within a grammar. */
function written(mask: TokenMask, next: () => number, most = 4000): string {
  const ids: number[] = [];
  while (ids.length < most) {
    const scores = Float32Array.from({ length: V }, next);
    mask.apply(0, ids, scores);
    const id = scores.indexOf(scores.reduce((a, b) => Math.max(a, b)));
    if (STOPS.includes(id)) return tokenizer.decode(ids);
    ids.push(id);
  }
  throw new Error(`it does not end: ${tokenizer.decode(ids).slice(0, 200)}`);
}

/** A mask of `schema` as generate() makes it. */
const maskOf = (schema: unknown, milliseconds?: number) => {
  const text = JSON.stringify(enforceable(schema));
  return TokenMask.compile({ kind: "jsonSchema", text, vocab: VOCAB, vocabType, stopTokenIds: STOPS }, {
    milliseconds,
  });
};

Deno.test(`jsonSchema: what random weights write parses and validates, for ${full ? 300 : 40} schemas`, async () => {
  const next = random(11), ajv = new Ajv({ strict: false, validateFormats: false });
  for (let i = 0; i < (full ? 300 : 40); i++) {
    const schema = { ...randomSchema(next), $schema: "https://json-schema.org/draft/2020-12/schema" };
    using mask = await maskOf(schema);
    const validate = ajv.compile(schema);
    for (let round = 0; round < (full ? 3 : 2); round++) {
      const json = written(mask, next);
      assert(validate(JSON.parse(json)), `${JSON.stringify(schema)}: ${json}: ${ajv.errorsText(validate.errors)}`);
    }
  }
});

const TREE = {
  $ref: "#/$defs/tree",
  $defs: {
    tree: {
      type: "object",
      properties: { leaf: { type: "boolean" }, next: { anyOf: [{ type: "null" }, { $ref: "#/$defs/tree" }] } },
      required: ["leaf", "next"],
    },
  },
};
Deno.test("jsonSchema: one that refers to itself, required names without a schema, types that keep their own bounds", async () => {
  const next = random(4), ajv = new Ajv({ strict: false });
  const union = { type: ["string", "integer"], maxLength: 2, minimum: 50 };
  for (const schema of [TREE, { type: "object", required: ["z"], additionalProperties: { type: "null" } }, union]) {
    using mask = await maskOf(schema);
    for (let round = 0; round < 8; round++) {
      const json = written(mask, next);
      assert(ajv.validate(schema, JSON.parse(json)), `${json}: ${ajv.errorsText()}`);
    }
  }
});

const T = { type: "string" };
const NOT_ENFORCED: [schema: Schema, message: string][] = [
  [{ $ref: "#/$defs/a", maxLength: 2, $defs: { a: T } }, 'jsonSchema must not have "maxLength" beside "$ref"'],
  [{ $ref: "http://localhost/x.json" }, "jsonSchema must refer to a part of itself"],
  [{ ...T, pattern: "^a*$", maxLength: 2 }, 'jsonSchema must not have a length beside "pattern"'],
  [{ ...T, pattern: "^a|b$" }, "jsonSchema.pattern must have its alternatives in brackets"],
  [{ type: "number", minimum: 0.5 }, 'jsonSchema must not have "minimum" of numbers that are no integers'],
  [{ oneOf: [{ type: "integer" }, { type: "number" }] }, "jsonSchema.oneOf must have schemas of different types"],
  [{ anyOf: [T], properties: { a: T } }, 'jsonSchema must not have "properties" beside "anyOf"'],
  [{ allOf: [T, { maxLength: 3 }] }, 'jsonSchema must have one schema in "allOf"'],
  [
    { properties: { a: { items: { uniqueItems: true } } } },
    'jsonSchema.properties.a.items must do without "uniqueItems"',
  ],
  [{ required: ["a"], additionalProperties: false }, 'jsonSchema must have a property "a", which it requires'],
  [
    { patternProperties: { "^a": T }, properties: { ab: T } },
    'jsonSchema must have "patternProperties" of one pattern',
  ],
  [{ minProperties: 2, type: "object" }, 'jsonSchema must not have "minProperties" without "properties"'],
];
Deno.test("jsonSchema: what the matcher would pass over is refused by its name and place", () => {
  for (const [schema, message] of NOT_ENFORCED) {
    assertStringIncludes(assertThrows(() => enforceable(schema), NotSupportedError).message, message);
  }
});

Deno.test("patternProblem() takes patterns of plain characters, and names what else there is", () => {
  for (const fine of ["", "^$", "a+?b{2,3}", "^(a|b)*\\.[0-9a-f_-]{4}$", "(?:x|y)", "[a\\]]", "\\$"]) {
    assertEquals(patternProblem(fine), undefined, fine);
  }
  for (const odd of ["a.b", "[^a]", "[ -~]", "\\s", "\\\\", '"', "ü", "(?=a)", "\\1", "a^b", "a|b", '["]', "\\"]) {
    assert(patternProblem(odd), odd);
  }
});

/** Schemas that are made to hang, to fill the memory, or to get through; the first ones take long everywhere. */
const many = (n: number, of: (i: number) => unknown) => Array.from({ length: n }, (_, i) => of(i));
const HOSTILE: Record<string, Schema> = {
  "nested repetition": { ...T, pattern: "(a{1,900}){1,900}" },
  "1,500 properties": {
    properties: Object.fromEntries(many(1500, (i) => [`p${i}`, { type: "null" }]) as [string, unknown][]),
  },
  "1,200 alternatives": { anyOf: many(1200, (i) => ({ properties: { [`k${i}`]: T } })) },
  "5,000 constants": { enum: many(5000, (i) => `v${i}`) },
  "a reference to itself": { $ref: "#" },
  "a circle of references": { $ref: "#/$defs/a", $defs: { a: { $ref: "#/$defs/b" }, b: { $ref: "#/$defs/a" } } },
  "2 to the 20th parts": {
    $ref: "#/$defs/d20",
    $defs: Object.fromEntries(many(21, (i) => {
      const half = { $ref: `#/$defs/d${i as number - 1}` };
      return [`d${i}`, i ? { type: "array", prefixItems: [half, half], items: false } : { type: "null" }];
    }) as [string, unknown][]),
  },
  "a thousand million items": { type: "array", items: { type: "null" }, minItems: 1e9 },
  "a thousand million letters": { ...T, minLength: 1e9 },
  "a catastrophic pattern": { ...T, pattern: "^(a+)+$" },
  "a length beyond 2^31": { ...T, maxLength: 2 ** 31 },
  "a bracket that is not closed": { ...T, pattern: "(" },
  "a lookahead": { ...T, pattern: "^(?=a)b$" },
  "a reference to nowhere": { $ref: "#/$defs/none" },
  "a reference into the network": { $ref: "http://localhost:1/x.json" },
  "no constants": { enum: [] },
  "bounds beyond all numbers": { type: "integer", minimum: -1e308, maximum: 1e308 },
  "a least above the most": { type: "integer", minimum: 5, maximum: 4 },
  "half a character": { const: "\ud800" },
  "a property __proto__": JSON.parse('{"properties":{"__proto__":{"type":"null"}},"required":["__proto__"]}'),
  "types that are none": { type: ["string", 5] },
  "properties that are none": { type: "object", properties: 3 },
};
Deno.test(`${Object.keys(HOSTILE).length} hostile schemas are refused with a typed error, or work; the next one always does`, async () => {
  const next = random(8), slow = full ? undefined : 400;
  for (const [name, schema] of Object.entries(HOSTILE)) {
    const start = performance.now();
    try {
      using mask = await maskOf(schema, slow);
      const ids: number[] = [];
      for (let i = 0; i < 20; i++) {
        const scores = Float32Array.from({ length: V }, next);
        mask.apply(0, ids, scores);
        const id = scores.indexOf(scores.reduce((a, b) => Math.max(a, b)));
        if (scores[id] === -Infinity || STOPS.includes(id)) break;
        ids.push(id);
      }
    } catch (error) {
      const typed = [LimitError, ValueError, NotSupportedError].some((kind) => error instanceof kind);
      assert(typed, `${name}: ${error}`);
    }
    assert(performance.now() - start < 30_000, name);
    using sane = await maskOf({ type: "boolean" });
    assert(["true", "false"].includes(written(sane, next)), name);
  }
});
