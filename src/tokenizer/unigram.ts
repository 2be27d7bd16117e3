/**
 * Unigram: the split of a word whose pieces' log probabilities add up to the most.
 *
 * @module
 */
import { TokenizerError } from "../errors.ts";
import { byteTokens } from "./bpe.ts";
import type { Budget } from "./budget.ts";
import { asArray, asBoolean, asInteger, type Json, MAX_ID, refuse, show } from "./checks.ts";
import type { Model } from "./models.ts";
import { Trie } from "./trie.ts";
import { Vocabulary } from "./vocabulary.ts";

// What an unknown character costs more than the least likely piece.
const UNKNOWN_PENALTY = 10;

const encoder = new TextEncoder();

/** The Unigram model of a tokenizer.json. */
export function unigram(config: Json): Model {
  const { vocabulary, scores } = parsePieces(config.vocab);
  const unk = config.unk_id === null || config.unk_id === undefined
    ? undefined
    : asInteger(config.unk_id, "model.unk_id", 0, scores.length - 1);
  const bytes = asBoolean(config.byte_fallback, "model.byte_fallback", false) ? byteTokens(vocabulary) : undefined;
  const lattice = new Lattice(vocabulary, scores, unk);
  const unknown = (piece: string, out: number[]): void => {
    const known = vocabulary.id(piece); // the text of the unknown token itself
    const found = known === undefined ? bytes && Array.from(encoder.encode(piece), (byte) => bytes[byte]) : [known];
    if (found?.every((id) => id !== undefined)) {
      for (const id of found) out.push(id);
      return;
    }
    if (unk === undefined) {
      throw new TokenizerError(`Cannot encode ${show(piece)} as the vocabulary must have it or an unknown token`);
    }
    out.push(unk);
  };
  return {
    vocabulary,
    encode(word, out, budget) {
      let run = ""; // neighbouring unknown pieces are one
      for (const [piece, id] of lattice.best(word, budget)) {
        if (id === unk || id === undefined) {
          run += piece;
          continue;
        }
        if (run !== "") unknown(run, out);
        run = "";
        out.push(id);
      }
      if (run !== "") unknown(run, out);
    },
  };
}

function parsePieces(value: unknown): { vocabulary: Vocabulary; scores: number[] } {
  const pieces = asArray(value, "model.vocab");
  asInteger(pieces.length, "the number of entries of model.vocab", 1, MAX_ID);
  const vocabulary = new Vocabulary();
  const scores = pieces.map((entry, id) => {
    const [piece, score] = Array.isArray(entry) ? entry : [];
    if (typeof piece !== "string" || typeof score !== "number") {
      return refuse(`model.vocab[${id}]`, "be a piece and its score", entry);
    }
    vocabulary.set(piece, id);
    return score;
  });
  return { vocabulary, scores };
}

/** The search of the best path through a word. */
class Lattice {
  readonly #trie = new Trie();
  readonly #scores: readonly number[];
  readonly #unk: number | undefined;
  readonly #unkScore: number;

  constructor(vocabulary: Vocabulary, scores: readonly number[], unk: number | undefined) {
    this.#scores = scores;
    this.#unk = unk;
    this.#unkScore = scores.reduce((least, score) => Math.min(least, score), Infinity) - UNKNOWN_PENALTY;
    for (const [piece, id] of vocabulary.entries()) if (piece !== "") this.#trie.set(piece, id);
  }

  /** The pieces of `word` with their ids, the id undefined for an unknown character without an unknown token. */
  best(word: string, budget: Budget): [piece: string, id: number | undefined][] {
    const n = word.length, trie = this.#trie;
    const score = new Float64Array(n + 1), from = new Int32Array(n + 1).fill(-1), by = new Int32Array(n + 1);
    let start = 0;
    const reach = (end: number, id: number, total: number) => {
      if (from[end]! >= 0 && total <= score[end]!) return;
      score[end] = total;
      from[end] = start;
      by[end] = id;
    };
    while (start < n) {
      const width = word.codePointAt(start)! > 0xffff ? 2 : 1;
      const here = score[start]!;
      let single = false, end = start;
      for (let node = 0; end < n;) {
        node = trie.next(node, word.charCodeAt(end++));
        if (node < 0) break;
        const id = trie.value(node);
        if (id < 0) continue;
        reach(end, id, here + this.#scores[id]!);
        single ||= end - start === width;
      }
      budget.spend(end - start);
      if (!single) reach(start + width, this.#unk ?? -1, here + this.#unkScore);
      start += width;
    }
    const path: [string, number | undefined][] = [];
    for (let end = n; end > 0; end = from[end]!) {
      path.push([word.slice(from[end], end), by[end]! < 0 ? undefined : by[end]]);
    }
    return path.reverse();
  }
}
