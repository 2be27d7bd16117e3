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

/** The vocabulary as a trie over UTF-16 units, and the search of the best path through a word. */
class Lattice {
  readonly #edges = new Map<number, number>(); // node * 65536 + unit -> node
  readonly #ids: (number | undefined)[] = [undefined]; // node -> the piece that ends there
  readonly #scores: readonly number[];
  readonly #unk: number | undefined;
  readonly #unkScore: number;

  constructor(vocabulary: Vocabulary, scores: readonly number[], unk: number | undefined) {
    this.#scores = scores;
    this.#unk = unk;
    this.#unkScore = scores.reduce((least, score) => Math.min(least, score), Infinity) - UNKNOWN_PENALTY;
    for (const [piece, id] of vocabulary.entries()) {
      let node = 0;
      for (let i = 0; i < piece.length; i++) {
        const edge = node * 0x10000 + piece.charCodeAt(i);
        let child = this.#edges.get(edge);
        if (child === undefined) this.#edges.set(edge, child = this.#ids.push(undefined) - 1);
        node = child;
      }
      if (node > 0) this.#ids[node] = id;
    }
  }

  /** The pieces of `word` with their ids, the id undefined for an unknown character without an unknown token. */
  best(word: string, budget: Budget): [piece: string, id: number | undefined][] {
    const n = word.length;
    const score = new Float64Array(n + 1), from = new Int32Array(n + 1).fill(-1), by = new Int32Array(n + 1);
    for (let start = 0; start < n;) {
      const width = word.codePointAt(start)! > 0xffff ? 2 : 1;
      const here = score[start]!;
      let single = false, end = start, node: number | undefined = 0;
      const reach = (to: number, id: number, total: number) => {
        if (from[to]! >= 0 && total <= score[to]!) return;
        score[to] = total;
        from[to] = start;
        by[to] = id;
      };
      while (end < n) {
        node = this.#edges.get(node * 0x10000 + word.charCodeAt(end++));
        if (node === undefined) break;
        const id = this.#ids[node];
        if (id === undefined) continue;
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
