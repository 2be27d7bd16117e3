// Every case of the reference tokenizers against transformers 5.23: ids, tokens, decodings, pairs, padding, chats.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { TemplateError } from "../../src/errors.ts";
import { type ChatMessage, loadTokenizer, type Side } from "../../src/tokenizer/mod.ts";
import { loadGoldens } from "../reference.ts";
import { referenceTokenizers } from "./fixtures.ts";

interface Golden {
  text: string;
  texts: string[];
  text_pair: string;
  ids: number[] & number[][];
  tokens: string[];
  ids_without_special: number[];
  decoded: string;
  decoded_skip_special: string;
  token_type_ids: number[] | null;
  max_length: number;
  pad_to_multiple_of: number;
  attention_mask: number[][];
  messages: ChatMessage[];
  add_generation_prompt: boolean;
  error?: string;
}

for (const [kind, folder] of referenceTokenizers()) {
  const tokenizer = await loadTokenizer(folder);
  const { head, cases } = (await loadGoldens<Golden>(`data/tokenizers/${kind}/goldens`))!;
  const some = (prefix: string) => {
    const found = cases.filter((c) => c.name.startsWith(prefix));
    if (prefix !== "chat_") assert(found.length > 0, `${kind} has no case ${prefix}`);
    return found;
  };

  Deno.test(`tokenizer() equals transformers: ids and tokens of ${kind}`, () => {
    assertEquals(tokenizer.vocabSize, head.vocab_size);
    for (const c of some("encode_")) {
      assertEquals(tokenizer(c.text).inputIds, [c.ids], c.text);
      assertEquals(tokenizer.convertIdsToTokens(c.ids), c.tokens, c.text);
      assertEquals(tokenizer.encode(c.text, { addSpecialTokens: false }), c.ids_without_special, c.text);
    }
  });

  Deno.test(`tokenizer.decode() equals transformers: ${kind}`, () => {
    for (const c of some("encode_")) {
      assertEquals(tokenizer.decode(c.ids), c.decoded);
      assertEquals(tokenizer.decode(c.ids, { skipSpecialTokens: true }), c.decoded_skip_special);
    }
  });

  Deno.test(`tokenizer() equals transformers: a pair, special tokens in the text, truncation, padding of ${kind}`, () => {
    for (const c of some("pair")) {
      const { inputIds, tokenTypeIds } = tokenizer(c.text, { textPair: c.text_pair });
      assertEquals(inputIds, [c.ids]);
      assertEquals(tokenTypeIds?.[0] ?? null, c.token_type_ids);
    }
    for (const c of some("special_in_text")) assertEquals(tokenizer.encode(c.text), c.ids);
    for (const c of some("truncated")) {
      assertEquals(tokenizer.encode(c.text, { truncation: true, maxLength: c.max_length }), c.ids);
    }
    for (const c of some("padded_")) {
      const paddingSide = c.name.replace("padded_", "") as Side;
      const batch = tokenizer(c.texts, { padding: true, padToMultipleOf: c.pad_to_multiple_of, paddingSide });
      assertEquals(batch.inputIds, c.ids);
      assertEquals(batch.attentionMask, c.attention_mask);
    }
  });

  const chats = some("chat_");
  if (chats.length === 0) continue;
  Deno.test(`tokenizer.applyChatTemplate() equals transformers: ${kind}`, async () => {
    for (const { messages, add_generation_prompt: addGenerationPrompt, text, ids, error } of chats) {
      const asText = () => tokenizer.applyChatTemplate(messages, { addGenerationPrompt, tokenize: false });
      if (error !== undefined) {
        assertEquals((await assertRejects(asText, TemplateError)).message, error);
        continue;
      }
      assertEquals(await asText(), text);
      assertEquals(await tokenizer.applyChatTemplate(messages, { addGenerationPrompt }), ids);
    }
  });
}
