/**
 * Prompt lookup decoding: the draft is what followed the same tokens before.
 *
 * @module
 */
import { ValueError } from "../../errors.ts";
import type { DraftSource } from "./assisted_decoding.ts";

/** How far to look, and how much to draft. */
export interface LookupOptions {
  /** Most tokens of a draft. */
  numTokens: number;
  /** Longest n-gram that is looked for. */
  maxNgram: number;
  /** A draft ends before these. */
  eosTokenIds: readonly number[];
}

/**
 * Tokens that followed the leftmost earlier occurrence of the last n tokens of `ids`, for the greatest n that has one.
 *
 * Source: Saxena 2023, https://github.com/apoorvumang/prompt-lookup-decoding (semantics: G-70)
 */
export function lookup(ids: readonly number[], { numTokens, maxNgram, eosTokenIds }: LookupOptions): number[] {
  for (let n = Math.min(maxNgram, ids.length - 1); n > 0; n--) {
    const tail = ids.length - n;
    for (let start = 0; start + n < ids.length; start++) {
      let same = 0;
      while (same < n && ids[start + same] === ids[tail + same]) same++;
      if (same < n) continue;
      const found = ids.slice(start + n, start + n + numTokens);
      const end = found.findIndex((id) => eosTokenIds.includes(id));
      return end === -1 ? found : found.slice(0, end);
    }
  }
  return [];
}

/**
 * Drafts by {@linkcode lookup}: one token, and after each draft that was right as a whole a longer one, since text that was
 * copied so far goes on being copied, and most other finds are wrong.
 *
 * @throws {ValueError} if a number is not positive
 */
export function promptLookup(o: LookupOptions): DraftSource {
  if (!(o.numTokens > 0) || !(o.maxNgram > 0)) {
    throw new ValueError("Invalid maxMatchingNgramSize or promptLookupNumTokens");
  }
  let length = 1;
  return {
    propose: (ids, most) => {
      return Promise.resolve({ tokens: lookup(ids, { ...o, numTokens: Math.min(most, length, o.numTokens) }) });
    },
    learn(drafted, accepted) {
      if (drafted > 0) length = accepted === drafted ? longer(length) : widthBelow(accepted);
    },
  };
}

/** With the token before them, drafts are as wide as the kernels for few rows: 2, 4, 8 … */
function longer(length: number): number {
  return 2 * length + 1;
}

function widthBelow(length: number): number {
  return Math.max(1, 2 ** Math.floor(Math.log2(length + 1)) - 1);
}
