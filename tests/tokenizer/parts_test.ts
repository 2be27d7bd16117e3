// Every part of a tokenizer.json against what Python's `tokenizers` makes of awkward texts (tests/data/make_tokenizers.py).
import { assertEquals } from "@std/assert";
import { Budget } from "../../src/tokenizer/budget.ts";
import { createDecoder } from "../../src/tokenizer/decoders.ts";
import { createNormalizer } from "../../src/tokenizer/normalizers.ts";
import { createPreTokenizer } from "../../src/tokenizer/pre_tokenizers.ts";
import { createTokenizer } from "../../src/tokenizer/mod.ts";
import { partsOfPython } from "./fixtures.ts";

const python = await partsOfPython();

function title(config: Record<string, unknown>): string {
  const { type, ...options } = config;
  return `${type} ${JSON.stringify(options)}`.slice(0, 120);
}

for (const { config, texts } of python.normalizers) {
  Deno.test(`createNormalizer() equals Python: ${title(config)}`, () => {
    const normalize = createNormalizer(config, false);
    python.texts.forEach((text, i) => assertEquals(normalize(text, new Budget()), texts[i], JSON.stringify(text)));
  });
}

for (const { config, pieces } of python.pre_tokenizers) {
  Deno.test(`createPreTokenizer() equals Python: ${title(config)}`, () => {
    const split = createPreTokenizer(config, false);
    python.texts.forEach((text, i) => {
      if (text === "") return; // a tokenizer never asks
      const got = split(text, true, new Budget()).filter((piece) => piece !== "");
      assertEquals(got, pieces[i]!.filter((piece) => piece !== ""), JSON.stringify(text));
    });
  });
}

for (const { config, texts } of python.decoders) {
  Deno.test(`createDecoder() equals Python: ${title(config)}`, () => {
    const start = createDecoder(config, false);
    python.tokens.forEach((tokens, i) => {
      const stage = start();
      let text = "";
      for (const token of tokens) stage.push(token, (more) => text += more);
      stage.end((more) => text += more);
      assertEquals(text, texts[i], JSON.stringify(tokens));
    });
  });
}

for (const [name, { json, cases }] of Object.entries(python.tokenizers)) {
  const tokenizer = createTokenizer(json, { config: { model_input_names: ["token_type_ids"] } });
  Deno.test(`tokenizer() equals Python: ${name}`, () => {
    for (const c of cases) assertEquals(tokenizer.encode(c.text), c.ids, JSON.stringify(c.text));
  });
  Deno.test(`tokenizer.decode() equals Python: ${name}`, () => {
    for (const c of cases) {
      assertEquals(tokenizer.decode(c.ids), c.decoded, JSON.stringify(c.text));
      assertEquals(tokenizer.decode(c.ids, { skipSpecialTokens: true }), c.skipped, JSON.stringify(c.text));
      assertEquals(tokenizer.decode(c.some), c.some_decoded, JSON.stringify(c.some));
    }
  });
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
