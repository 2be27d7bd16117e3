// Known differences from Python. A test that fails here means that npm:@huggingface/tokenizers or the JavaScript engine
// has changed: compare anew, and delete what is no longer true.
import { assert, assertEquals, assertThrows } from "@std/assert";
import * as upstream from "@huggingface/tokenizers";
import { renderChatTemplate } from "../../src/tokenizer/chat_template.ts";
import { createTokenizer } from "../../src/tokenizer/mod.ts";
import { type Json, partsOfPython } from "./fixtures.ts";

const python = await partsOfPython();

/** Every character a token, with a part of the case. */
function characters(text: string, part: Json) {
  const vocab = Object.fromEntries(Array.from(new Set(text), (char, id) => [char, id]));
  return createTokenizer({ model: { type: "BPE", vocab, merges: [] }, ...part });
}

const encoded: [title: string, part: Json, text: string, ours: string, python: string][] = [
  ["Strip takes U+FEFF for a space", { normalizer: { type: "Strip", strip_left: true } }, "\ufeffa", "a", "\ufeffa"],
  ["NFKC of U+32FF (Unicode 12.1) is newer", { normalizer: { type: "NFKC" } }, "令和\u32ff", "令和令和", "令和\u32ff"],
  ["StripAccents of U+0898 (Unicode 14) is newer", { normalizer: { type: "StripAccents" } }, "a\u0898", "a", "a\u0898"],
];
for (const [title, part, text, ours, python] of encoded) {
  Deno.test(`known difference of normalizers: ${title}`, () => {
    const tokenizer = characters(text, part);
    assertEquals(tokenizer.convertIdsToTokens(tokenizer.encode(text)).join(""), ours);
    assert(ours !== python);
  });
}

const decoded: [title: string, decoder: Json, tokens: string[], ours: string, python: string][] = [
  [
    "bytes that are no UTF-8 are one U+FFFD a character",
    { type: "ByteFallback" },
    ["<0xE4>", "<0xBB>", "a"],
    "\ufffda",
    "\ufffd\ufffda",
  ],
  ["ByteLevel makes U+0000 of a character that is no byte", { type: "ByteLevel" }, ["▁a"], "\0a", "▁a"],
  ["Metaspace keeps later spaces of the first token", { type: "Metaspace" }, ["▁▁a▁b"], " a b", "ab"],
  [
    "WordPiece leaves do not",
    { type: "WordPiece", prefix: "##", cleanup: true },
    ["x", " do not"],
    "x  do not",
    "x  don't",
  ],
];
for (const [title, decoder, tokens, ours, python] of decoded) {
  Deno.test(`known difference of decoders: ${title}`, () => {
    const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
    const tokenizer = createTokenizer({ model: { type: "BPE", vocab, merges: [] }, decoder });
    assertEquals(tokenizer.decode(tokens.map((token) => vocab[token]!)), ours);
    assert(ours !== python);
  });
}

Deno.test("known difference: an end-of-word suffix is decoded as a space, as transformers does for CLIP", () => {
  const { json, cases } = python.tokenizers["CLIP"]!;
  const { ids, decoded } = cases.find(({ text }) => text === "Hello world")!;
  assertEquals(createTokenizer(json).decode(ids), '"hello world !');
  assertEquals(decoded, '"hello</w>world</w>!');
});

// What the library does otherwise, and src/tokenizer says in other words or refuses.
Deno.test("known upstream difference: WordLevel loads, and gives undefined ids", () => {
  const model = { type: "WordLevel", vocab: { a: 0 } };
  const json = { model, normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, added_tokens: [] };
  assertEquals(new upstream.Tokenizer(json, {}).encode("b").ids, [undefined as never]);
});

Deno.test("known upstream difference: Precompiled is approximated, U+200D becomes a space", () => {
  const normalizer = { type: "Precompiled", precompiled_charsmap: "" } as const;
  assertEquals(new upstream.PrecompiledNormalizer(normalizer).normalize("👩\u200d👩"), "👩 👩");
});

Deno.test("known upstream difference: a long word overflows the stack of Unigram", () => {
  const { json } = python.tokenizers["Unigram"]!;
  assertThrows(() => new upstream.Tokenizer(json, {}).encode("ab".repeat(150_000)), RangeError);
});

Deno.test("known upstream difference: decode([]) throws, ByteFallback drops U+FEFF, single_word is not read", () => {
  const { json } = python.tokenizers["byte level"]!;
  assertThrows(() => new upstream.Tokenizer(json, {}).decode([]), Error);
  assertEquals(
    new upstream.ByteFallbackDecoder({ type: "ByteFallback" }).decode_chain(["<0xEF>", "<0xBB>", "<0xBF>"]),
    [""],
  );
  const added_tokens = [{ id: 999, content: "the", single_word: true, normalized: false }];
  assertEquals(new upstream.Tokenizer({ ...json, added_tokens }, {}).encode("theory").ids[0], 999);
});

const splits: [title: string, theirs: upstream.PreTokenizer, text: string, python: string[]][] = [
  [
    "ByteLevel takes U+FEFF for a space, and U+0085 for none",
    new upstream.ByteLevelPreTokenizer({ type: "ByteLevel", add_prefix_space: false }),
    "a \ufeffb.\u0085b",
    ["a", "Ġï»¿", "b", ".", "Âħ", "b"],
  ],
  ["Whitespace knows ASCII letters only", new upstream.WhitespacePreTokenizer(), "naïve", ["naïve"]],
  [
    "Metaspace does not split",
    new upstream.MetaspacePreTokenizer({ type: "Metaspace", replacement: "▁", prepend_scheme: "always" }),
    "a b",
    ["▁a", "▁b"],
  ],
  [
    "Digits knows ASCII digits only",
    new upstream.DigitsPreTokenizer({ type: "Digits", individual_digits: true }),
    "٣½",
    ["٣", "½"],
  ],
];
for (const [title, theirs, text, python] of splits) {
  Deno.test(`known upstream difference: ${title}`, () => {
    assert(JSON.stringify(theirs.pre_tokenize(text)) !== JSON.stringify(python), "upstream equals Python now");
  });
}

const rendered: [title: string, source: string, ours: string, python: string][] = [
  ["dict.items() as a list holds lists", "{{ {'a': 1}.items()|list }}", "[['a', 1]]", "[('a', 1)]"],
  [
    "what a loop prints before continue is lost",
    "{% for i in range(2) %}{{ i }}{% if true %}{% continue %}{% endif %}{% endfor %}",
    "",
    "01",
  ],
  ["what map gives is a list, no generator", "{{ [{'a': 1}]|map(attribute='a')|tojson }}", "[1]", "TypeError"],
  ["safe marks nothing", "{{ '<'|safe + '<' }}", "<<", "<&lt;"],
  ["a float without decimals that comes from JSON is an integer", "{{ x }}", "2", "2.0"],
];
for (const [title, source, ours, python] of rendered) {
  Deno.test(`known difference of chat templates: ${title}`, async () => {
    assertEquals(await renderChatTemplate(source, { x: 2.0 }, true), ours);
    assertEquals(ours === python, false);
  });
}
