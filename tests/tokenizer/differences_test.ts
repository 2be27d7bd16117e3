// Known differences. The first half says where npm:@huggingface/tokenizers 0.2.0 is not what Python is, and why we have
// our own parts: a test that fails there means that upstream has changed, and that a part of ours may go. The second
// half says where we are not what Python is.
import { assertEquals, assertThrows } from "@std/assert";
import * as upstream from "@huggingface/tokenizers";
import { Budget } from "../../src/tokenizer/budget.ts";
import { renderChatTemplate } from "../../src/tokenizer/chat_template.ts";
import { createDecoder } from "../../src/tokenizer/decoders.ts";
import { createTokenizer } from "../../src/tokenizer/mod.ts";
import { createNormalizer } from "../../src/tokenizer/normalizers.ts";
import { createPreTokenizer } from "../../src/tokenizer/pre_tokenizers.ts";
import { hasReference, referencePath } from "../reference.ts";
import { partsOfPython } from "./fixtures.ts";

type Splitter = { pre_tokenize_text(text: string): string[] };

const splits: [title: string, theirs: Splitter, config: Record<string, unknown>, text: string, python: string[]][] = [
  [
    "ByteLevel takes U+FEFF for a space",
    new upstream.ByteLevelPreTokenizer({
      type: "ByteLevel",
      add_prefix_space: false,
      trim_offsets: true,
      use_regex: true,
    }),
    { type: "ByteLevel", add_prefix_space: false },
    "a \ufeffb",
    ["a", "Ġï»¿", "b"],
  ],
  [
    "ByteLevel does not take U+0085 for a space",
    new upstream.ByteLevelPreTokenizer({
      type: "ByteLevel",
      add_prefix_space: false,
      trim_offsets: true,
      use_regex: true,
    }),
    { type: "ByteLevel", add_prefix_space: false },
    "a.\u0085b",
    ["a", ".", "Âħ", "b"],
  ],
  [
    "Split knows no MergedWithNext",
    new upstream.SplitPreTokenizer({
      type: "Split",
      pattern: { String: " " },
      behavior: "MergedWithNext",
      invert: false,
    }),
    { type: "Split", pattern: { String: " " }, behavior: "MergedWithNext", invert: false },
    "a b",
    ["a", " b"],
  ],
  [
    "Whitespace knows ASCII letters only",
    new upstream.WhitespacePreTokenizer(),
    { type: "Whitespace" },
    "naïve",
    ["naïve"],
  ],
  [
    "Metaspace does not split",
    new upstream.MetaspacePreTokenizer({ type: "Metaspace", replacement: "▁", prepend_scheme: "always" }),
    { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true },
    "a b",
    ["▁a", "▁b"],
  ],
  [
    "Digits knows ASCII digits only",
    new upstream.DigitsPreTokenizer({ type: "Digits", individual_digits: true }),
    { type: "Digits", individual_digits: true },
    "٣½",
    ["٣", "½"],
  ],
];
for (const [title, theirs, config, text, python] of splits) {
  Deno.test(`known upstream difference: ${title}`, () => {
    assertEquals(createPreTokenizer(config, false)(text, true, new Budget()), python);
    const still = JSON.stringify(theirs.pre_tokenize_text(text)) !== JSON.stringify(python);
    assertEquals(still, true, "upstream equals Python now");
  });
}

Deno.test("known upstream difference: ByteFallback drops U+FEFF", () => {
  const tokens = ["<0xEF>", "<0xBB>", "<0xBF>"];
  const stage = createDecoder({ type: "ByteFallback" }, false)();
  let text = "";
  for (const token of tokens) stage.push(token, (more) => text += more);
  stage.end((more) => text += more);
  assertEquals(text, "\ufeff");
  assertEquals(new upstream.ByteFallbackDecoder({ type: "ByteFallback" }).decode_chain(tokens).join(""), "");
});

Deno.test("known upstream difference: WordLevel loads, and gives undefined ids", async () => {
  const { json } = (await partsOfPython()).tokenizers["WordLevel"]!;
  assertEquals(createTokenizer(json).encode("zzz").every(Number.isInteger), true);
  assertEquals(new upstream.Tokenizer(json, {}).encode("zzz").ids, [undefined as never]);
});

Deno.test("known upstream difference: a word of a million characters overflows the stack of Unigram", async () => {
  const { json } = (await partsOfPython()).tokenizers["Unigram"]!;
  assertThrows(() => new upstream.Tokenizer(json, {}).encode("ab".repeat(150_000)), RangeError);
});

Deno.test("known upstream difference: decode([]) throws", async () => {
  const { json } = (await partsOfPython()).tokenizers["byte level"]!;
  assertThrows(() => new upstream.Tokenizer(json, {}).decode([]), Error);
  assertEquals(createTokenizer(json).decode([]), "");
});

Deno.test("known upstream difference: single_word, lstrip and rstrip", async () => {
  const { json, cases } = (await partsOfPython()).tokenizers["byte level"]!;
  const theirs = new upstream.Tokenizer(json, {});
  const differ = cases.filter(({ text, ids }) => JSON.stringify(theirs.encode(text).ids) !== JSON.stringify(ids));
  assertEquals(differ.length > 0, true, "upstream equals Python now");
});

if (hasReference("data/tokenizers/spm_unigram")) {
  Deno.test("known upstream difference: Precompiled is approximated (U+200D becomes a space)", async () => {
    const json = JSON.parse(await Deno.readTextFile(referencePath("data/tokenizers/spm_unigram/tokenizer.json")));
    const config = json.normalizer.normalizers[0];
    const text = "👩\u200d👩";
    assertEquals(createNormalizer(config, false)(text, new Budget()), text);
    assertEquals(new upstream.PrecompiledNormalizer(config).normalize(text), "👩 👩");
  });
}

// What Python has is the last column; it is not what we have.
const normalized: [title: string, config: Record<string, unknown>, text: string, ours: string, python: string][] = [
  ["NFKC of U+32FF (Unicode 12.1)", { type: "NFKC" }, "\u32ff", "令和", "\u32ff"],
  ["NFKC of U+1E030 (Unicode 15)", { type: "NFKC" }, "\u{1e030}", "а", "\u{1e030}"],
  ["StripAccents of U+0898 (Unicode 14)", { type: "StripAccents" }, "a\u0898", "a", "a\u0898"],
  ["BertNormalizer of U+0890 (Unicode 14)", { type: "BertNormalizer" }, "a\u0890", "a", "a\u0890"],
];
for (const [title, config, text, ours, python] of normalized) {
  Deno.test(`known difference: ${title}; Python's tables are older`, () => {
    assertEquals(createNormalizer(config, false)(text, new Budget()), ours);
    assertEquals(ours === python, false);
  });
}

Deno.test("known difference: punctuation newer than Unicode 9, such as U+2E4D; Python's table is older", () => {
  const pieces = createPreTokenizer({ type: "BertPreTokenizer" }, false)("a⹍b", true, new Budget());
  assertEquals(pieces, ["a", "⹍", "b"]); // Python: ["a⹍b"]
});

const rendered: [title: string, source: string, ours: string, python: string][] = [
  ["dict.items() as a list holds lists", "{{ {'a': 1}.items()|list }}", "[['a', 1]]", "[('a', 1)]"],
  [
    "what a loop prints before continue is lost",
    "{% for i in range(2) %}{{ i }}{% if true %}{% continue %}{% endif %}{% endfor %}",
    "",
    "01",
  ],
  ["a float without decimals that comes from JSON is an integer", "{{ x }}", "2", "2.0"],
];
for (const [title, source, ours, python] of rendered) {
  Deno.test(`known difference of chat templates: ${title}`, async () => {
    assertEquals(await renderChatTemplate(source, { x: 2.0 }, true), ours);
    assertEquals(ours === python, false);
  });
}
