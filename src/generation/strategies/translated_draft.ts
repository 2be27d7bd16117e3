/**
 * Universal assisted decoding: the assistant has another tokenizer, so tokens go over by way of their text.
 *
 * @module
 */
import type { DraftSource } from "./assisted_decoding.ts";
import type { Draft } from "./speculative.ts";

/** What a tokenizer must do for this. */
export interface Codec {
  /** Token ids to text. */
  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string;
  /** Text to token ids. */
  encode(text: string, options?: { addSpecialTokens?: boolean }): number[];
}

/** The two tokenizers, and how many tokens are encoded anew in each round. */
export interface TranslationOptions {
  /** The model's. */
  target: Codec;
  /** The assistant's. */
  assistant: Codec;
  /** Last tokens of the model's that are written in the assistant's. */
  targetLookbehind: number;
  /** Last tokens of the assistant's that are written in the model's. */
  assistantLookbehind: number;
}

/** The longest run of equal tokens of two lists that are about the same text: where it begins in each, and its length. */
export function longestDiagonal(
  a: readonly number[],
  b: readonly number[],
): { a: number; b: number; length: number } {
  let best = { a: 0, b: 0, length: 0 };
  for (let shift = 1 - b.length; shift < a.length; shift++) {
    let length = 0;
    for (let i = Math.max(0, shift); i < a.length && i - shift < b.length; i++) {
      length = a[i] === b[i - shift] ? length + 1 : 0;
      if (length > best.length) best = { a: i - length + 1, b: i - shift - length + 1, length };
    }
  }
  return best;
}

/** Replaces the end of `ids` by what `fresh`, the tokens of the same text's end, say; undefined if they share no token. */
export function spliceTail(ids: readonly number[], fresh: readonly number[], window: number): number[] | undefined {
  const from = Math.max(0, ids.length - window);
  const same = longestDiagonal(ids.slice(from), fresh);
  return same.length === 0 ? undefined : [...ids.slice(0, from + same.a), ...fresh.slice(same.b)];
}

/** Lets `inner`, which drafts in the assistant's tokens, draft in the model's. */
export function translatedDraft(inner: DraftSource, o: TranslationOptions): DraftSource {
  let known: number[] | undefined;
  let drafted = 0;
  const over = (ids: readonly number[], from: Codec, to: Codec, addSpecialTokens = false) =>
    to.encode(from.decode(ids, { skipSpecialTokens: true }), { addSpecialTokens });
  const whole = (ids: readonly number[]) => over(ids, o.target, o.assistant, true);
  return {
    async propose(ids, most): Promise<Draft> {
      const fresh = known && over(ids.slice(-o.targetLookbehind), o.target, o.assistant);
      const source = known && fresh && spliceTail(known, fresh, fresh.length + o.assistantLookbehind) || whole(ids);
      if (source.length === 0) return { tokens: [] };
      const { tokens } = await inner.propose(source, most);
      known = source;
      drafted = tokens.length;
      const back = over([...source.slice(-o.assistantLookbehind), ...tokens], o.assistant, o.target);
      const from = ids.slice(-2 * o.targetLookbehind);
      const same = longestDiagonal(from, back);
      if (same.length === 0 || same.a + same.length !== from.length) return { tokens: [] };
      return { tokens: back.slice(same.b + same.length).slice(0, most) };
    },
    learn: (translated, accepted) => inner.learn(drafted, translated === accepted ? drafted : 0),
  };
}
