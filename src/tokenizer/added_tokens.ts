/**
 * Added tokens: strings that are one token wherever they stand in a text, such as `<|im_start|>`.
 *
 * @module
 */
import type { Budget } from "./budget.ts";
import { asArray, asBoolean, asInteger, asObject, asString, isObject, MAX_ID, refuse } from "./checks.ts";
import { Trie } from "./trie.ts";

/** An added token and how it is found. */
export interface AddedToken {
  /** Its text. */
  content: string;
  /** Its id. */
  id: number;
  /** Whether decoding may skip it. */
  special: boolean;
  /** Whether it is searched in the normalized text, and normalized itself. */
  normalized: boolean;
  /** Whether it takes the spaces before it. */
  lstrip: boolean;
  /** Whether it takes the spaces after it. */
  rstrip: boolean;
  /** Whether it must not touch a letter or digit. */
  singleWord: boolean;
}

/** A part of a text: an added token's id, or text between two of them. */
export type Section = number | string;

/** The added tokens of a tokenizer.json. */
export function parseAddedTokens(value: unknown): AddedToken[] {
  return asArray(value, "added_tokens").map((entry, i) => {
    const token = asObject(entry, `added_tokens[${i}]`);
    return makeAddedToken(token, asInteger(token.id, `added_tokens[${i}].id`, 0, MAX_ID), `added_tokens[${i}]`);
  });
}

/** An added token from its object in a file, or from its text alone (then it is special). */
export function makeAddedToken(value: unknown, id: number, path: string): AddedToken {
  const token = isObject(value) ? value : { content: value, special: true, normalized: false };
  const content = asString(token.content, `${path}.content`);
  if (content === "") refuse(`${path}.content`, "be a text that is not empty", content);
  const special = asBoolean(token.special, `${path}.special`, false);
  return {
    content,
    id,
    special,
    normalized: asBoolean(token.normalized, `${path}.normalized`, !special),
    lstrip: asBoolean(token.lstrip, `${path}.lstrip`, false),
    rstrip: asBoolean(token.rstrip, `${path}.rstrip`, false),
    singleWord: asBoolean(token.single_word, `${path}.single_word`, false),
  };
}

/** Finds added tokens in a text; the longest one wins at each place. */
export class AddedTokenSplitter {
  readonly #trie = new Trie();
  readonly #tokens: AddedToken[] = [];

  /** Searches `tokens` by their content, or by what `rewrite` makes of it. */
  constructor(tokens: Iterable<AddedToken>, rewrite: (content: string) => string = (content) => content) {
    for (const token of tokens) {
      const text = rewrite(token.content);
      if (text !== "") this.#trie.set(text, this.#tokens.push(token) - 1);
    }
  }

  /** `text` cut into added tokens and what lies between them. */
  split(text: string, budget: Budget): Section[] {
    if (this.#tokens.length === 0) return text === "" ? [] : [text];
    const sections: Section[] = [];
    let done = 0;
    for (let at = 0; at < text.length;) {
      const found = this.#longest(text, at, budget);
      if (!found) {
        at++;
        continue;
      }
      const { token, end } = found;
      at = end;
      if (token.singleWord && touchesWord(text, end - found.length, end)) continue;
      const start = token.lstrip ? spacesBefore(text, end - found.length, done) : end - found.length;
      const stop = token.rstrip ? spacesAfter(text, end) : end;
      if (start > done) sections.push(text.slice(done, start));
      sections.push(token.id);
      done = stop;
    }
    if (done < text.length) sections.push(text.slice(done));
    return sections;
  }

  #longest(text: string, at: number, budget: Budget): { token: AddedToken; end: number; length: number } | undefined {
    let found = -1, end = at, i = at;
    for (let node = 0; i < text.length;) {
      node = this.#trie.next(node, text.charCodeAt(i++));
      if (node < 0) break;
      if (this.#trie.value(node) >= 0) [found, end] = [this.#trie.value(node), i];
    }
    budget.spend(i - at);
    return found < 0 ? undefined : { token: this.#tokens[found]!, end, length: end - at };
  }
}

const WORD = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;

function touchesWord(text: string, start: number, end: number): boolean {
  // Not /[…]$/u: V8 misses characters beyond U+FFFF there.
  const before = [...text.slice(Math.max(0, start - 2), start)].at(-1) ?? "";
  return WORD.test(before) || WORD.test(text.slice(end, end + 2));
}

function spacesBefore(text: string, start: number, limit: number): number {
  let at = start;
  while (at > limit && /\p{White_Space}/u.test(text[at - 1]!)) at--;
  return at;
}

function spacesAfter(text: string, end: number): number {
  let at = end;
  while (at < text.length && /\p{White_Space}/u.test(text[at]!)) at++;
  return at;
}
