import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { AbortError, LimitError, ModelPathError, TokenizerError } from "../../src/errors.ts";
import { createTokenizer, loadTokenizer } from "../../src/tokenizer/mod.ts";
import { DEFAULT_MODEL, defaultTokenizerJson, type Json, partsOfPython } from "./fixtures.ts";

const json = await defaultTokenizerJson();
const python = await partsOfPython();
const bert = python.tokenizers["WordPiece"]!.json;

const unknown: [part: string, change: Json, listed: string][] = [
  ["model", { model: { type: "Morfessor", vocab: { a: 0 } } }, "BPE, Unigram, WordPiece"],
  ["model WordLevel", { model: { type: "WordLevel", vocab: { a: 0 }, unk_token: "a" } }, "BPE, Unigram, WordPiece"],
  ["model without a type", { model: { vocab: { a: 0 } } }, "BPE, Unigram"],
  ["normalizer", { normalizer: { type: "Upper" } }, "BertNormalizer"],
  ["normalizer in a sequence", { normalizer: { type: "Sequence", normalizers: [{ type: "Upper" }] } }, "NFKC"],
  ["pre_tokenizer", { pre_tokenizer: { type: "UnicodeScripts" } }, "Whitespace"],
  ["pre_tokenizer in a sequence", { pre_tokenizer: { type: "Sequence", pretokenizers: [{}] } }, "Split"],
  ["decoder", { decoder: { type: "Rot13" } }, "ByteFallback"],
  ["post_processor", { post_processor: { type: "Other" } }, "TemplateProcessing"],
];
for (const [part, change, listed] of unknown) {
  Deno.test(`createTokenizer() refuses an unknown ${part} and lists those it knows`, () => {
    const error = assertThrows(() => createTokenizer({ ...json, ...change }), TokenizerError, part.split(" ")[0]);
    assertStringIncludes(error.message, listed);
  });
}

const broken: [title: string, change: Json][] = [
  ["no model", { model: undefined }],
  ["a model that is an array", { model: [] }],
  ["a vocabulary that is an array for BPE", { model: { type: "BPE", vocab: [], merges: [] } }],
  ["BPE with a prefix", { model: { type: "BPE", vocab: { a: 0 }, merges: [], continuing_subword_prefix: "##" } }],
  ["Unigram with bytes", { model: { type: "Unigram", vocab: [["a", 0]], unk_id: 0, byte_fallback: true } }],
  ["words of a million characters", {
    model: { type: "WordPiece", vocab: { "[UNK]": 0 }, max_input_chars_per_word: 1e6 },
  }],
  ["an added token that is a single word", { added_tokens: [{ id: 1, content: "x", single_word: true }] }],
  ["an added token of 60,000 letters", { added_tokens: [{ id: 1, content: "a".repeat(60_000) }] }],
  ["a negative id", { model: { type: "BPE", vocab: { a: -1 }, merges: [] } }],
  ["an id that is no whole number", { model: { type: "WordPiece", vocab: { a: 0.5 } } }],
  ["an id of 2^31", { model: { type: "BPE", vocab: { a: 2 ** 31 }, merges: [] } }],
  ["a merge of unknown tokens", { model: { type: "BPE", vocab: { a: 0 }, merges: ["a b"] } }],
  ["a merge of three", { model: { type: "BPE", vocab: { a: 0 }, merges: ["a a a"] } }],
  ["an unknown token that is none", { model: { type: "BPE", vocab: { a: 0 }, merges: [], unk_token: "b" } }],
  ["dropout", { model: { type: "BPE", vocab: { a: 0 }, merges: [], dropout: 0.1 } }],
  ["Unigram without pieces", { model: { type: "Unigram", vocab: [], unk_id: 0 } }],
  ["Unigram without scores", { model: { type: "Unigram", vocab: [["a"]], unk_id: 0 } }],
  ["unk_id outside the vocabulary", { model: { type: "Unigram", vocab: [["a", 0]], unk_id: 1 } }],
  ["an added token without a text", { added_tokens: [{ id: 1, content: "" }] }],
  ["an added token without an id", { added_tokens: [{ content: "x" }] }],
  ["added tokens that are an object", { added_tokens: {} }],
  ["a template with an unknown token", {
    post_processor: { type: "TemplateProcessing", single: [{ SpecialToken: { id: "x", type_id: 0 } }], pair: [] },
  }],
  ["two templates", {
    post_processor: { type: "Sequence", processors: [bert.post_processor, bert.post_processor] },
  }],
  ["a template without the text", { post_processor: { type: "TemplateProcessing", single: [], pair: [] } }],
  ["a normalizer that makes a text a thousand times longer", {
    normalizer: { type: "Replace", pattern: { String: "a" }, content: "b".repeat(1000) },
  }],
  ["a charsmap that is missing", { normalizer: { type: "Precompiled" } }],
  ["a charsmap that is no base64", { normalizer: { type: "Precompiled", precompiled_charsmap: "!" } }],
  ["a charsmap that is empty", { normalizer: { type: "Precompiled", precompiled_charsmap: "" } }],
  ["a charsmap that is cut", { normalizer: { type: "Precompiled", precompiled_charsmap: "ALwCAACEAAA=" } }],
  ["a charsmap that makes a text a thousand times longer", {
    normalizer: { type: "Precompiled", precompiled_charsmap: btoa("\x04\0\0\0\0\0\0\0" + "b".repeat(1000)) },
  }],
  ["a replacement in the whole decoded text", {
    decoder: {
      type: "Sequence",
      decoders: [{ type: "Fuse" }, { type: "Replace", pattern: { String: "ab" }, content: "c" }],
    },
  }],
  ["Removed with a group", {
    pre_tokenizer: { type: "Split", pattern: { Regex: "(a)b" }, behavior: "Removed", invert: false },
  }],
  ["merging at a regular expression", {
    pre_tokenizer: { type: "Split", pattern: { Regex: "a+" }, behavior: "MergedWithNext", invert: false },
  }],
  ["a prefix after a split", {
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [{ type: "WhitespaceSplit" }, { type: "Metaspace", prepend_scheme: "first" }],
    },
  }],
  ["a behavior that is none", {
    pre_tokenizer: { type: "Split", pattern: { String: "a" }, behavior: "Shuffled" },
  }],
  ["a Split without a pattern", { pre_tokenizer: { type: "Split", behavior: "Isolated" } }],
];
for (const [title, change] of broken) {
  Deno.test(`createTokenizer() refuses ${title}`, () => {
    const error = assertThrows(() => createTokenizer({ ...json, ...change }), TokenizerError, "Cannot load");
    assert(error.cause === undefined, "a rule must refuse it, not an accident");
  });
}

const settings: [title: string, config: Json][] = [
  ["padding_side", { padding_side: "top" }],
  ["model_max_length", { model_max_length: "long" }],
  ["bos_token", { bos_token: 7 }],
  ["chat_template", { chat_template: [{ name: "default" }] }],
  ["additional_special_tokens", { additional_special_tokens: [""] }],
];
for (const [title, config] of settings) {
  Deno.test(`createTokenizer() refuses a bad ${title}`, () => {
    assertThrows(() => createTokenizer(json, { config }), TokenizerError, title);
  });
}

Deno.test("createTokenizer() takes a vocabulary without an unknown token, until it needs one", () => {
  const tokenizer = createTokenizer({ model: { type: "Unigram", vocab: [["a", -1]] } });
  assertEquals(tokenizer.encode("aa"), [0, 0]);
  assertThrows(() => tokenizer.encode("b"), TokenizerError, "must have it or an unknown token");
});

Deno.test("createTokenizer() reads files of the first versions, whose models have no type", () => {
  const { type: _, ...model } = bert.model as Json;
  assertEquals(createTokenizer({ ...bert, model }).encode("Hello"), createTokenizer(bert).encode("Hello"));
  const { type: _bpe, ...bpe } = json.model as Json;
  assertEquals(createTokenizer({ ...json, model: bpe }).encode("Hello"), createTokenizer(json).encode("Hello"));
});

Deno.test("createTokenizer() adds the special tokens that tokenizer.json has not", () => {
  const config = { pad_token: "[PAD]", eos_token: { content: "in" }, additional_special_tokens: ["<a>", "<b>"] };
  const tokenizer = createTokenizer(json, { config });
  assertEquals([tokenizer.padTokenId, tokenizer.vocabSize], [2048, 2051]);
  assertEquals(tokenizer.encode("<b>[PAD]<a>", { addSpecialTokens: false }), [2050, 2048, 2049]);
  // A token that the model had already keeps its id, and is found in the text as a special token.
  assertEquals(tokenizer.eosTokenId, createTokenizer(json).convertTokensToIds("in"));
  assertEquals(tokenizer.decode(tokenizer.encode("main"), { skipSpecialTokens: true }), "ma");
});

Deno.test("createTokenizer() reads special_tokens_map.json where added_tokens_decoder is missing", () => {
  const specialTokensMap = { cls_token: "<|im_start|>", bos_token: { content: "<|im_end|>" } };
  const config = { bos_token: "<|pad|>", mask_token: "<|pad|>" };
  const tokenizer = createTokenizer(json, { config, specialTokensMap });
  assertEquals([tokenizer.clsTokenId, tokenizer.bosTokenId, tokenizer.maskTokenId], [2045, 2046, 2047]);
  const newer = createTokenizer(json, { config: { ...config, added_tokens_decoder: {} }, specialTokensMap });
  assertEquals([newer.clsTokenId, newer.bosTokenId], [null, 2047]);
});

Deno.test("createTokenizer() follows add_bos_token and add_eos_token", () => {
  const special = { bos_token: "<|begin_of_text|>", eos_token: "<|end_of_text|>" };
  const encode = (config: Json) => createTokenizer(json, { config: { ...special, ...config } }).encode("A");
  assertEquals(encode({}), [2043, 32]);
  assertEquals(encode({ add_bos_token: false }), [32]);
  assertEquals(encode({ add_bos_token: true, add_eos_token: true }), [2043, 32, 2044]);
});

Deno.test("createTokenizer() knows which models read token types", () => {
  const types = (config: Json) => createTokenizer(bert, { config })("a").tokenTypeIds;
  assertEquals(types({}), undefined);
  assertEquals(types({ tokenizer_class: "BertTokenizer" })?.length, 1);
  assertEquals(types({ tokenizer_class: "BertTokenizer", model_input_names: ["input_ids"] }), undefined);
  assertEquals(types({ model_input_names: ["input_ids", "token_type_ids"] })?.length, 1);
});

Deno.test("createTokenizer() treats __proto__ and constructor as words like any other", () => {
  const vocab = JSON.parse('{"__proto__": 0, "constructor": 1, "toString": 2, "<unk>": 3}');
  const tokenizer = createTokenizer({
    model: { type: "WordPiece", vocab, unk_token: "<unk>" },
    pre_tokenizer: { type: "WhitespaceSplit" },
  });
  assertEquals(tokenizer.encode("toString constructor __proto__ valueOf"), [2, 1, 0, 3]);
  assertThrows(() => createTokenizer({ ...json, normalizer: { type: "constructor" } }), TokenizerError);
});

Deno.test("loadTokenizer() says what is missing, and stops for its signal", async () => {
  const folder = await Deno.makeTempDir();
  await assertRejects(() => loadTokenizer(folder), ModelPathError, "tokenizer.json");
  await Deno.writeTextFile(`${folder}/tokenizer.json`, JSON.stringify(json));
  await Deno.writeTextFile(`${folder}/chat_template.jinja`, "x".repeat(70_000));
  await assertRejects(() => loadTokenizer(folder), TokenizerError, "chat_template.jinja");
  await Deno.remove(`${folder}/chat_template.jinja`);
  assertEquals((await loadTokenizer(folder)).bosTokenId, null); // tokenizer.json alone is enough
  await Deno.writeTextFile(`${folder}/tokenizer_config.json`, `{"a": "${"x".repeat(5 * 2 ** 20)}"}`);
  await assertRejects(() => loadTokenizer(folder), LimitError);
  await Deno.remove(folder, { recursive: true });
  await assertRejects(() => loadTokenizer(DEFAULT_MODEL, { signal: AbortSignal.abort() }), AbortError);
});
