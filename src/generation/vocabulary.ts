/**
 * The tokens of a tokenizer by id, as its vocabulary writes them.
 *
 * @module
 */
import type { TextCodec } from "./options.ts";

/** A tokenizer whose tokens can be looked at; the library's `Tokenizer` is one. */
export interface Vocabulary extends TextCodec {
  convertIdsToTokens(ids: readonly number[]): (string | null)[];
}

/** Whether the tokens of `tokenizer` can be looked at. */
export function isVocabulary(tokenizer: TextCodec | undefined): tokenizer is Vocabulary {
  return tokenizer !== undefined && "convertIdsToTokens" in tokenizer;
}

const known = new WeakMap<Vocabulary, string[]>();

/** Tokens by id; special ones stand for no text and are empty. */
export function tokensOf(vocabulary: Vocabulary, vocabSize: number): string[] {
  const before = known.get(vocabulary);
  if (before?.length === vocabSize) return before;
  const ids = Array.from({ length: vocabSize }, (_, id) => id);
  const tokens = vocabulary.convertIdsToTokens(ids).map((token, id) => {
    return token === null || vocabulary.decode([id], { skipSpecialTokens: true }) === "" ? "" : token;
  });
  known.set(vocabulary, tokens);
  return tokens;
}
