/**
 * Models of a tokenizer.json: a piece of text to token ids.
 *
 * @module
 */
import { TokenizerError } from "../errors.ts";
import { bpe } from "./bpe.ts";
import type { Budget } from "./budget.ts";
import { asInteger, asString, buildPart, type Json, MAX_TEXT_CHARS, refuse, show } from "./checks.ts";
import { unigram } from "./unigram.ts";
import { parseVocabulary, type Vocabulary } from "./vocabulary.ts";

/** A model: what makes ids of a piece. */
export interface Model {
  /** Its tokens; the added ones join them. */
  readonly vocabulary: Vocabulary;
  /** Appends the ids of `word`, one piece of the pre-tokenizer, to `out`. */
  encode(word: string, out: number[], budget: Budget): void;
}

/** The model of a tokenizer.json; files of the first versions name no type, their keys tell. */
export function createModel(config: Json): Model {
  return buildPart<Model>("model", { ...config, type: config.type ?? guessType(config) }, {
    BPE: bpe,
    Unigram: unigram,
    WordLevel: wordLevel,
    WordPiece: wordPiece,
  });
}

function guessType(config: Json): string | undefined {
  if (config.merges !== undefined) return "BPE";
  if (config.unk_id !== undefined) return "Unigram";
  return config.continuing_subword_prefix !== undefined ? "WordPiece" : undefined;
}

function wordLevel(config: Json): Model {
  const vocabulary = parseVocabulary(config.vocab, "model.vocab");
  const unk = vocabulary.id(asString(config.unk_token, "model.unk_token", "<unk>"));
  return {
    vocabulary,
    encode(word, out) {
      const id = vocabulary.id(word) ?? unk;
      if (id === undefined) {
        throw new TokenizerError(
          `Cannot encode ${show(word)} as the vocabulary must have it or an unknown token`,
        );
      }
      out.push(id);
    },
  };
}

function wordPiece(config: Json): Model {
  const vocabulary = parseVocabulary(config.vocab, "model.vocab");
  const prefix = asString(config.continuing_subword_prefix, "model.continuing_subword_prefix", "##");
  const maxChars = asInteger(config.max_input_chars_per_word, "model.max_input_chars_per_word", 0, MAX_TEXT_CHARS, 100);
  const unkToken = asString(config.unk_token, "model.unk_token", "[UNK]");
  const unk = vocabulary.id(unkToken) ?? refuse("model.unk_token", "be in model.vocab", unkToken);
  let longest = 0;
  for (const [token] of vocabulary.entries()) longest = Math.max(longest, token.length);
  return {
    vocabulary,
    encode(word, out, budget) {
      if (word.length > maxChars && [...word].length > maxChars) return void out.push(unk);
      const ids: number[] = [];
      for (let start = 0; start < word.length;) {
        const lead = start > 0 ? prefix : "";
        let end = Math.min(word.length, start + longest - lead.length);
        let id: number | undefined;
        for (; end > start; end--) {
          budget.spend(1 + ((end - start) >> 4));
          id = vocabulary.id(lead + word.slice(start, end));
          if (id !== undefined) break;
        }
        if (id === undefined) return void out.push(unk);
        ids.push(id);
        start = end;
      }
      for (const id of ids) out.push(id);
    },
  };
}
