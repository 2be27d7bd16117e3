/**
 * The model and the added tokens of a tokenizer.json, checked before `@huggingface/tokenizers` reads them.
 *
 * @module
 */
import {
  asArray,
  asBoolean,
  asInteger,
  asObject,
  asString,
  byType,
  isObject,
  type Json,
  MAX_ID,
  refuse,
} from "./checks.ts";

// The library's search for added tokens costs this much at each character of a text.
const MAX_ADDED_CHARS = 256;
// The library's WordPiece takes the third power of it for a word.
const MAX_WORD_CHARS = 1000;

type Ids = Map<string, number>;

const MODELS: Record<string, (model: Json, ids: Ids) => Json> = { BPE: bpe, Unigram: unigram, WordPiece: wordPiece };

/** The model of a tokenizer.json and its vocabulary; files of the first versions name no type, their keys tell. */
export function readModel(value: unknown): { model: Json; ids: Ids } {
  const config = asObject(value, "model"), ids: Ids = new Map();
  const model = { ...config, type: config.type ?? guessType(config) };
  return { model: byType("model", model, MODELS)(model, ids), ids };
}

function guessType(config: Json): string | undefined {
  if (config.merges !== undefined) return "BPE";
  if (config.unk_id !== undefined) return "Unigram";
  return config.continuing_subword_prefix === undefined ? undefined : "WordPiece";
}

function bpe(model: Json, ids: Ids): Json {
  readVocabulary(model.vocab, ids);
  for (const key of ["continuing_subword_prefix", "dropout"]) {
    if (model[key]) refuse(`model.${key}`, "be null for BPE", model[key]);
  }
  const unk = model.unk_token ?? null;
  if (unk !== null && !ids.has(unk as string)) refuse("model.unk_token", "be in model.vocab", unk);
  const merges = asArray(model.merges, "model.merges").map((merge, i) => {
    const pair = typeof merge === "string" ? merge.split(" ") : asArray(merge, `model.merges[${i}]`) as string[];
    const known = pair.length === 2 && pair.every((token) => ids.has(token)) && ids.has(pair.join(""));
    return known ? pair : refuse(`model.merges[${i}]`, "be two tokens that make a third", merge);
  });
  return { ...model, merges };
}

function unigram(model: Json, ids: Ids): Json {
  const pieces = asArray(model.vocab, "model.vocab");
  pieces.forEach((entry, id) => {
    const [piece, score] = Array.isArray(entry) ? entry : [];
    if (typeof piece === "string" && typeof score === "number") ids.set(piece, id);
    else refuse(`model.vocab[${id}]`, "be a piece and its score", entry);
  });
  if (model.byte_fallback) refuse("model.byte_fallback", "be false for Unigram", model.byte_fallback);
  const unk_id = model.unk_id ?? null;
  if (unk_id !== null) asInteger(unk_id, "model.unk_id", 0, pieces.length - 1);
  return { ...model, unk_id };
}

function wordPiece(model: Json, ids: Ids): Json {
  readVocabulary(model.vocab, ids);
  const { unk_token = "[UNK]", continuing_subword_prefix = "##", max_input_chars_per_word: most } = model;
  if (!ids.has(unk_token as string)) refuse("model.unk_token", "be in model.vocab", unk_token);
  const max_input_chars_per_word = asInteger(most, "model.max_input_chars_per_word", 0, MAX_WORD_CHARS, 100);
  return { ...model, unk_token, continuing_subword_prefix, max_input_chars_per_word };
}

function readVocabulary(value: unknown, ids: Ids): void {
  for (const [token, id] of Object.entries(asObject(value, "model.vocab"))) {
    ids.set(token, asInteger(id, `model.vocab[${JSON.stringify(token)}]`, 0, MAX_ID));
  }
}

/** The added tokens: strings that are one token wherever they stand in a text, such as `<|im_start|>`. */
export class AddedTokens {
  /** As the library takes them. */
  readonly list: Json[] = [];
  /** One more than the highest id. */
  size = 0;
  readonly #ids: Ids;
  readonly #contents = new Set<string>();

  /** Those of a tokenizer.json, over the vocabulary `ids`, which they join. */
  constructor(value: unknown, ids: Ids) {
    this.#ids = ids;
    for (const id of ids.values()) this.size = Math.max(this.size, id + 1);
    asArray(value, "added_tokens").forEach((entry, i) => {
      const path = `added_tokens[${i}]`, token = asObject(entry, path);
      this.#add(token, asInteger(token.id, `${path}.id`, 0, MAX_ID), path);
    });
  }

  /** Adds the token `value` (its text, which makes it special, or its object in a file) unless it is added already. */
  add(value: unknown, path: string, special?: boolean): void {
    const token = isObject(value) ? value : { content: value, special: true, normalized: false };
    const id = this.#ids.get(token.content as string) ?? this.size;
    this.#add({ ...token, special: special ?? token.special }, asInteger(id, `the id of ${path}`, 0, MAX_ID), path);
  }

  #add(token: Json, id: number, path: string): void {
    const content = asString(token.content, `${path}.content`);
    if (content === "" || content.length > MAX_ADDED_CHARS) {
      refuse(`${path}.content`, `have 1 to ${MAX_ADDED_CHARS} characters`, content);
    }
    const flag = (name: string, fallback = false) => asBoolean(token[name], `${path}.${name}`, fallback);
    const special = flag("special");
    if (flag("single_word")) refuse(`${path}.single_word`, "be false", true);
    const normalized = flag("normalized", !special);
    if (this.#contents.has(content)) return;
    this.list.push({ id, content, special, normalized, lstrip: flag("lstrip"), rstrip: flag("rstrip") });
    this.#contents.add(content);
    this.#ids.set(content, id);
    this.size = Math.max(this.size, id + 1);
  }
}
