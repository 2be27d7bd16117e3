// The default model's tokenizer against transformers 5.23, for clones without the reference data.
import { assertEquals } from "@std/assert";
import { loadTokenizer } from "../../src/tokenizer/mod.ts";
import { DEFAULT_MODEL } from "./fixtures.ts";

const tokenizer = await loadTokenizer(DEFAULT_MODEL);
const cases: [text: string, ids: number[]][] = [
  ["", [2043]],
  ["Hello world", [2043, 1052, 399, 322]],
  ["  two  spaces\n\n", [2043, 220, 702, 220, 567, 64, 912, 532]],
  [
    "The cat's 1234567 naïve 🙂",
    [2043, 429, 1462, 1131, 220, 1154, 18, 19, 20, 21, 22, 287, 64, 127, 107, 334, 220, 172, 253, 247, 224],
  ],
  ["<|im_start|>user\nHi<|im_end|>", [2043, 2045, 338, 198, 1440, 2046]],
  ["\ufeffa\u0085b 日本", [2043, 171, 119, 123, 64, 126, 227, 65, 220, 162, 245, 98, 162, 250, 105]],
];

for (const [text, ids] of cases) {
  Deno.test(`tokenizer() equals transformers on ${JSON.stringify(text)}`, () => {
    assertEquals(tokenizer(text), { inputIds: [ids], attentionMask: [ids.map(() => 1)] });
    assertEquals(tokenizer.encode(text), ids);
    assertEquals(tokenizer.decode(ids, { skipSpecialTokens: true }), text.replace(/<\|[a-z_]+\|>/g, ""));
    assertEquals(tokenizer.decode(ids), `<|begin_of_text|>${text}`);
  });
}

Deno.test("tokenizer has the special tokens of its files", () => {
  assertEquals(tokenizer.vocabSize, 2048);
  assertEquals([tokenizer.bosTokenId, tokenizer.eosTokenId, tokenizer.padTokenId], [2043, 2044, 2047]);
  assertEquals(
    [tokenizer.unkTokenId, tokenizer.sepTokenId, tokenizer.clsTokenId, tokenizer.maskTokenId],
    [null, null, null, null],
  );
  assertEquals([tokenizer.modelMaxLength, tokenizer.paddingSide, tokenizer.truncationSide], [1024, "right", "right"]);
});

Deno.test("tokenizer.convertTokensToIds() and convertIdsToTokens() take one or several", () => {
  assertEquals(tokenizer.convertTokensToIds("<|pad|>"), 2047);
  assertEquals(tokenizer.convertTokensToIds(["<|pad|>", "no such token"]), [2047, null]);
  assertEquals(tokenizer.convertIdsToTokens(399), "Ġwor");
  assertEquals(tokenizer.convertIdsToTokens([2043, 5000]), ["<|begin_of_text|>", null]);
});

Deno.test("tokenizer.applyChatTemplate() equals transformers: text, ids, an open last message", async () => {
  const messages = [{ role: "user", content: " Hi there " }, { role: "assistant", content: "Yes" }];
  const begin = "<|begin_of_text|><|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\nYes";
  assertEquals(await tokenizer.applyChatTemplate(messages, { tokenize: false }), `${begin}<|im_end|>\n`);
  assertEquals(await tokenizer.applyChatTemplate(messages, { tokenize: false, continueFinalMessage: true }), begin);
  const ids = [2043, 2045, 338, 198, 1440, 423, 2046, 198, 2045, 339, 198, 1259, 2046, 198, 2045, 339, 198];
  assertEquals(await tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true }), ids);
});
