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

/** What {@linkcode lookup} finds, and how long the n-gram was. */
interface Found {
  tokens: number[];
  n: number;
}

/**
 * Tokens that followed the leftmost earlier occurrence of the last n tokens of `ids`, for the greatest n that has one.
 *
 * Source: Saxena 2023, https://github.com/apoorvumang/prompt-lookup-decoding (semantics: G-70)
 */
export function lookup(ids: readonly number[], o: LookupOptions): number[] {
  return find(ids, o).tokens;
}

function find(ids: readonly number[], { numTokens, maxNgram, eosTokenIds }: LookupOptions): Found {
  for (let n = Math.min(maxNgram, ids.length - 1); n > 0; n--) {
    const tail = ids.length - n;
    for (let start = 0; start + n < ids.length; start++) {
      let same = 0;
      while (same < n && ids[start + same] === ids[tail + same]) same++;
      if (same < n) continue;
      const found = ids.slice(start + n, start + n + numTokens);
      const end = found.findIndex((id) => eosTokenIds.includes(id));
      return { tokens: end === -1 ? found : found.slice(0, end), n };
    }
  }
  return { tokens: [], n: 0 };
}

const FIRST_LENGTH = 3; // a pass of 4 tokens costs little more than one of 2
const LEAST_HITS = 0.3, RATE = 0.25; // of finds that are tried; by which a find changes what is known of the next

/**
 * Drafts by {@linkcode lookup}: three tokens, and after each draft that was right as a whole a longer one, since text that
 * was copied so far goes on being copied. What is found is compared with what came even where it was not tried, so a find is
 * tried only where those of n-grams of its length were right before.
 *
 * @throws {ValueError} if a number is not positive
 */
export function promptLookup(o: LookupOptions): DraftSource {
  if (!(o.numTokens > 0) || !(o.maxNgram > 0)) {
    throw new ValueError("Invalid maxMatchingNgramSize or promptLookupNumTokens");
  }
  const hits = new Map<number, number>(); // by n: how often the first token was right, the last finds counting most
  const hitsOf = (n: number) => hits.get(n) ?? (n === 1 ? LEAST_HITS : 0.5); // one token alone says little
  let length = FIRST_LENGTH, last: Found & { at: number } | undefined;
  return {
    propose(ids, most) {
      if (last) hits.set(last.n, hitsOf(last.n) + RATE * (Number(ids[last.at] === last.tokens[0]) - hitsOf(last.n)));
      const found = find(ids, o);
      last = found.tokens.length ? { ...found, at: ids.length } : undefined;
      const tokens = hitsOf(found.n) < LEAST_HITS ? [] : found.tokens.slice(0, Math.min(most, length));
      return Promise.resolve({ tokens });
    },
    learn(drafted, accepted) {
      if (drafted > 0) length = accepted === drafted ? longer(length) : Math.max(FIRST_LENGTH, widthBelow(accepted));
    },
  };
}

/** With the token before them, drafts are as wide as the kernels for few rows: 4, 8 … */
function longer(length: number): number {
  return 2 * length + 1;
}

function widthBelow(length: number): number {
  return 2 ** Math.floor(Math.log2(length + 1)) - 1;
}
