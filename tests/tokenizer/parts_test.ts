// The parts of a tokenizer.json against what Python's `tokenizers` makes of awkward texts (tests/data/make_tokenizers.py).
import { Tokenizer } from "@huggingface/tokenizers";
import { assertEquals } from "@std/assert";
import { createTokenizer } from "../../src/tokenizer/mod.ts";
import { readParts } from "../../src/tokenizer/parts.ts";
import { partsOfPython } from "./fixtures.ts";

const python = await partsOfPython();
const model = { type: "BPE", vocab: {}, merges: [] };

function title(config: Record<string, unknown>): string {
  const { type, ...options } = config;
  return `${type} ${JSON.stringify(options)}`.slice(0, 120);
}

/** The library with the part that `json` holds. */
function library(json: Record<string, unknown>): Tokenizer {
  return new Tokenizer({ ...readParts(json, false), model, added_tokens: [] }, {});
}

for (const { config, texts } of python.normalizers) {
  Deno.test(`readParts() makes a normalizer that equals Python's: ${title(config)}`, () => {
    const { normalizer } = library({ normalizer: config });
    python.texts.forEach((text, i) => {
      if (text !== "") assertEquals(normalizer!.normalize(text), texts[i], JSON.stringify(text)); // "" is never asked
    });
  });
}

Deno.test("createTokenizer() runs a charsmap on added tokens that are normalized, and on no others, as Python does", () => {
  const { config } = python.normalizers.find(({ config }) => config.type === "Precompiled")!;
  const tokenizer = createTokenizer({
    model: { ...model, vocab: { x: 0, h: 1 }, unk_token: "x" },
    normalizer: config,
    added_tokens: [{ id: 2, content: "H½", normalized: true }, { id: 3, content: "½H", normalized: false }],
  });
  const texts = ["H½", "h½", "h1/2", "½H", "½h", "HH½"];
  assertEquals(texts.map((text) => tokenizer.encode(text)), [[2], [2], [2], [3], [0, 0, 0, 1], [1, 2]]);
  assertEquals(tokenizer.decode([2, 3]), "h1/2 ½H");
});

for (const { config, pieces } of python.pre_tokenizers) {
  Deno.test(`readParts() makes a pre-tokenizer that equals Python's: ${title(config)}`, () => {
    const { pre_tokenizer } = library({ pre_tokenizer: config });
    python.texts.forEach((text, i) => {
      if (text === "") return;
      const got = pre_tokenizer!.pre_tokenize(text, { section_index: 0 }).filter((piece) => piece !== "");
      assertEquals(got, pieces[i]!.filter((piece) => piece !== ""), JSON.stringify(text));
    });
  });
}

for (const { config, texts } of python.decoders) {
  Deno.test(`tokenizer.decode() equals Python's decoder: ${title(config)}`, () => {
    python.tokens.forEach((tokens, i) => {
      const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
      const tokenizer = createTokenizer({ model: { ...model, vocab }, decoder: config });
      assertEquals(tokenizer.decode(tokens.map((token) => vocab[token]!)), texts[i], JSON.stringify(tokens));
    });
  });
}

for (const [name, { json, cases }] of Object.entries(python.tokenizers)) {
  const tokenizer = createTokenizer(json, { config: { model_input_names: ["token_type_ids"] } });
  Deno.test(`tokenizer() equals Python: ${name}`, () => {
    for (const c of cases) assertEquals(tokenizer.encode(c.text), c.ids, JSON.stringify(c.text));
  });
  if (name !== "CLIP") { // see differences_test.ts
    Deno.test(`tokenizer.decode() equals Python: ${name}`, () => {
      for (const c of cases) {
        assertEquals(tokenizer.decode(c.ids), c.decoded, JSON.stringify(c.text));
        assertEquals(tokenizer.decode(c.ids, { skipSpecialTokens: true }), c.skipped, JSON.stringify(c.text));
        assertEquals(tokenizer.decode(c.some), c.some_decoded, JSON.stringify(c.some));
      }
    });
  }
  Deno.test(`tokenizer() equals Python on pairs, and truncates as it does: ${name}`, () => {
    cases.forEach((c, i) => {
      const truncationSide = i % 2 ? "left" : "right";
      const cut = { truncation: true, maxLength: 9, truncationSide } as const;
      assertEquals(tokenizer.encode(c.text, cut), c.truncated, JSON.stringify(c.text));
      if (c.pair === "") return; // Python's tokenizers take it for a pair, transformers and we do not
      const pair = tokenizer(c.text, { textPair: c.pair });
      assertEquals(pair.inputIds, [c.pair_ids], JSON.stringify(c.text));
      assertEquals(pair.tokenTypeIds, [c.pair_types], JSON.stringify(c.text));
      assertEquals(tokenizer.encode(c.text, { textPair: c.pair, ...cut }), c.truncated_pair, JSON.stringify(c.text));
    });
  });
}
