import fc from "fast-check";
import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { LimitError, ModelFormatError } from "../../src/errors.ts";
import { readJson } from "../../src/weights/files.ts";
import { parseJson } from "../../src/weights/json.ts";
import { Meter, mutatedJson, seed, TemporaryFolder } from "./fixture.ts";

const badJson: [what: string, json: string | Uint8Array, message: string][] = [
  ["an empty file", "", "must be JSON"],
  ["bytes that are no UTF-8", new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d]), "must be UTF-8"],
  ["UTF-16", new Uint8Array([0xff, 0xfe, 0x7b, 0, 0x7d, 0]), "must be UTF-8"],
  ["a byte order mark", "\ufeff{}", "must be JSON"],
  ["an array", "[]", "it holds an array"],
  ["null", "null", "it holds null"],
  ["a number", "1", "it holds a number"],
  ["a string", '"x"', "it holds a string"],
  ["a trailing comma", '{"a":1,}', "must be JSON"],
  ["a comment", '{"a":1} // x', "must be JSON"],
  ["NaN", '{"a":NaN}', "must be JSON"],
  ["two objects", "{}{}", "must be JSON"],
  ["an end in the middle", '{"a":[1,2', "must be JSON"],
  ["a string that does not end", '{"a":"', "must be JSON"],
  ["65 levels", `${'{"a":'.repeat(65)}1${"}".repeat(65)}`, "at most 64 deep: line 1, column 321"],
  ["a million brackets", "[".repeat(1_000_000), "at most 64 deep"],
  ["a key twice", '{\n  "a": 1,\n  "a": 2\n}', 'keys must be unique: "a" stands again at line 3, column 3'],
  ["a key twice, once escaped", '{"a":1,"\\u0061":2}', "keys must be unique"],
  ["a key twice one level down", '{"a":{"b":1,"b":2}}', 'keys must be unique: "b"'],
];

for (const [what, json, message] of badJson) {
  Deno.test(`readJson() refuses ${what}`, async () => {
    using folder = new TemporaryFolder();
    folder.write("config.json", json);
    await assertRejects(() => readJson(folder.path, "config.json"), ModelFormatError, message);
  });
}

Deno.test("readJson() reads objects and bounds their size", async () => {
  using folder = new TemporaryFolder();
  const good = `{"a": [1, {"b": "}]\\"{["}], "__proto__": 1, "b": {"a": 1}, "c": {"a": 1}, "é": "a", "": "\\ud83e"}`;
  folder.write("config.json", good);
  assertEquals(Object.entries(await readJson(folder.path, "config.json")), Object.entries(JSON.parse(good)));
  const size = new TextEncoder().encode(good).length;
  await readJson(folder.path, "config.json", { maxBytes: size });
  await assertRejects(() => readJson(folder.path, "config.json", { maxBytes: size - 1 }), LimitError, `it has ${size}`);
  parseJson(new TextEncoder().encode(`${'{"a":'.repeat(64)}1${"}".repeat(64)}`), "x");
  parseJson(new TextEncoder().encode('{"a":{"b":{"c":1,"c":2}}}'), "x"); // the third level is not watched
});

Deno.test(`parseJson() refuses or reads 2,000 damaged configs (seed ${seed})`, () => {
  const config = {
    architectures: ["LlamaForCausalLM"],
    hidden_size: 64,
    rms_norm_eps: 1e-6,
    rope_scaling: { rope_type: "llama3", factor: 8.0, original: [1, [2, '\n{["é']] },
    tie_word_embeddings: false,
    torch_dtype: null,
  };
  const meter = new Meter();
  let read = 0;
  fc.assert(
    fc.property(mutatedJson(JSON.stringify(config, null, 2)), (bytes) => {
      try {
        const got = meter.step(() => parseJson(bytes, "config.json"));
        assertEquals(got, JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)));
        read++;
      } catch (error) {
        assertInstanceOf(error, ModelFormatError);
      }
    }),
    { numRuns: 2000, seed },
  );
  assert(read > 50 && read < 1950, `${read} read`);
  assert(meter.slowest < 1000, `the slowest took ${meter.slowest} ms`);
  assert(meter.growth < 64 * 2 ** 20, `the heap grew by ${meter.growth} bytes`);
});

Deno.test("parseJson() names a file that is no JSON", () => {
  assertThrows(() => parseJson(new Uint8Array([1]), "tokenizer.json"), ModelFormatError, "Cannot read tokenizer.json");
});
