/**
 * Byte-pair encoding: neighbouring symbols merge in the order of the merge list.
 *
 * Merges wait in a heap of numbers, so a word of a million characters takes n log n steps.
 *
 * @module
 */
import { TokenizerError } from "../errors.ts";
import { asArray, asBoolean, asInteger, asString, type Json, MAX_ID, refuse, show } from "./checks.ts";
import type { Model } from "./models.ts";
import { parseVocabulary, type Vocabulary } from "./vocabulary.ts";

const PAIR = MAX_ID + 1; // ids are below it: left * PAIR + right is a number of at most 44 bits
const POSITION = 2 ** 26; // symbols of a word are below it: rank * POSITION + position has at most 48 bits
const CACHED_WORDS = 10_000;
const CACHED_CHARS = 64;

const encoder = new TextEncoder();

/** The BPE model of a tokenizer.json. */
export function bpe(config: Json): Model {
  const vocabulary = parseVocabulary(config.vocab, "model.vocab");
  const dropout = config.dropout ?? 0;
  if (dropout !== 0) refuse("model.dropout", "be 0 or null (encoding must give the same ids each time)", dropout);
  const merges = new Merges(config, vocabulary);
  const symbols = new Symbols(config, vocabulary);
  const whole = asBoolean(config.ignore_merges, "model.ignore_merges", false);
  const cache = new Map<string, number[]>();
  return {
    vocabulary,
    encode(word, out) {
      const known = whole ? vocabulary.id(word) : undefined;
      if (known !== undefined) return void out.push(known);
      let ids = cache.get(word);
      if (!ids) {
        ids = merges.apply(symbols.of(word));
        if (word.length <= CACHED_CHARS) {
          if (cache.size >= CACHED_WORDS) cache.clear();
          cache.set(word, ids);
        }
      }
      for (const id of ids) out.push(id);
    },
  };
}

/** The first symbols of a word: a character each, or its bytes, or the unknown token. */
class Symbols {
  readonly #vocabulary: Vocabulary;
  readonly #prefix: string;
  readonly #suffix: string;
  readonly #unk: number | undefined;
  readonly #fuseUnk: boolean;
  readonly #bytes: readonly (number | undefined)[] | undefined;

  constructor(config: Json, vocabulary: Vocabulary) {
    this.#vocabulary = vocabulary;
    this.#prefix = asString(config.continuing_subword_prefix, "model.continuing_subword_prefix", "");
    this.#suffix = asString(config.end_of_word_suffix, "model.end_of_word_suffix", "");
    this.#fuseUnk = asBoolean(config.fuse_unk, "model.fuse_unk", false);
    const unk = asString(config.unk_token, "model.unk_token", "");
    this.#unk = vocabulary.id(unk);
    if (unk !== "" && this.#unk === undefined) refuse("model.unk_token", "be in model.vocab", unk);
    this.#bytes = asBoolean(config.byte_fallback, "model.byte_fallback", false) ? byteTokens(vocabulary) : undefined;
  }

  of(word: string): number[] {
    const ids: number[] = [];
    let unknown = false;
    for (let i = 0; i < word.length;) {
      const char = String.fromCodePoint(word.codePointAt(i)!);
      const end = i + char.length;
      const symbol = (i > 0 ? this.#prefix : "") + char + (end === word.length ? this.#suffix : "");
      i = end;
      const known = this.#vocabulary.id(symbol);
      const found = known === undefined ? this.#bytesOf(symbol) : [known];
      if (found) ids.push(...found);
      else if (this.#unk !== undefined && !(unknown && this.#fuseUnk)) ids.push(this.#unk);
      unknown = !found;
    }
    return ids;
  }

  #bytesOf(symbol: string): number[] | undefined {
    if (!this.#bytes) return;
    const ids: number[] = [];
    for (const byte of encoder.encode(symbol)) {
      const id = this.#bytes[byte];
      if (id === undefined) return;
      ids.push(id);
    }
    return ids;
  }
}

/** The ids of `<0x00>` to `<0xFF>`. */
export function byteTokens(vocabulary: Vocabulary): (number | undefined)[] {
  return Array.from(
    { length: 256 },
    (_, byte) => vocabulary.id(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`),
  );
}

class Merges {
  readonly #rank = new Map<number, number>(); // pair -> rank
  readonly #merged: number[] = []; // rank -> the id of both together

  constructor(config: Json, vocabulary: Vocabulary) {
    const prefix = asString(config.continuing_subword_prefix, "model.continuing_subword_prefix", "").length;
    const merges = asArray(config.merges, "model.merges");
    asInteger(merges.length, "the number of model.merges", 0, MAX_ID);
    const id = (token: string) => {
      const found = vocabulary.id(token);
      if (found !== undefined) return found;
      throw new TokenizerError(
        `Cannot load the tokenizer as model.vocab must hold the tokens of model.merges: it has no ${show(token)}`,
      );
    };
    for (const merge of merges) {
      const [left, right, more] = typeof merge === "string" ? merge.split(" ") : asArray(merge, "a merge");
      if (typeof left !== "string" || typeof right !== "string" || more !== undefined) {
        refuse("a merge", "be two tokens", merge);
      }
      this.#rank.set(id(left) * PAIR + id(right), this.#merged.length);
      this.#merged.push(id(left + right.slice(prefix)));
    }
  }

  /** Merges `ids` until no pair is in the list; lowest rank first, then leftmost. */
  apply(ids: number[]): number[] {
    const n = ids.length;
    if (n < 2) return ids;
    const next = Int32Array.from({ length: n }, (_, i) => i + 1 < n ? i + 1 : -1);
    const previous = Int32Array.from({ length: n }, (_, i) => i - 1);
    const heap = new Heap();
    const consider = (at: number) => {
      const right = next[at]!;
      const rank = right < 0 ? undefined : this.#rank.get(ids[at]! * PAIR + ids[right]!);
      if (rank !== undefined) heap.push(rank * POSITION + at);
    };
    for (let at = 0; at < n - 1; at++) consider(at);
    for (let entry = heap.pop(); entry !== undefined; entry = heap.pop()) {
      const at = entry % POSITION, merged = this.#merged[Math.floor(entry / POSITION)]!;
      const right = next[at]!;
      if (ids[at]! < 0 || right < 0) continue;
      const rank = this.#rank.get(ids[at]! * PAIR + ids[right]!);
      if (rank === undefined || this.#merged[rank] !== merged) continue; // merged away meanwhile
      ids[at] = merged;
      ids[right] = -1;
      const after = next[right]!;
      next[at] = after;
      if (after >= 0) previous[after] = at;
      if (previous[at]! >= 0) consider(previous[at]!);
      consider(at);
    }
    return ids.filter((id) => id >= 0);
  }
}

/** A binary heap of numbers, the least on top. */
class Heap {
  readonly #items: number[] = [];

  push(item: number): void {
    const items = this.#items;
    let at = items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (items[parent]! <= item) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  pop(): number | undefined {
    const items = this.#items;
    const top = items[0], last = items.pop();
    if (top === undefined || last === undefined || items.length === 0) return top;
    let at = 0;
    for (let child = 1; child < items.length; child = 2 * at + 1) {
      if (child + 1 < items.length && items[child + 1]! < items[child]!) child++;
      if (items[child]! >= last) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
    return top;
  }
}
