/**
 * The tokenizer.json that a GGUF file's metadata stands for.
 *
 * @module
 */
import { NotSupportedError, TokenizerError } from "../errors.ts";
import type { GgufValue } from "../weights/gguf.ts";
import { parseJsonText } from "../weights/json_text.ts";
import { isObject, type Json } from "./checks.ts";

type Metadata = ReadonlyMap<string, GgufValue>;

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const REST = String.raw`[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
const pattern = (digits: string) => `${CONTRACTIONS}|${REST.replace("DIGITS", () => digits)}`;
const TRIPLES = pattern(String.raw`\p{N}{1,3}`), SINGLES = pattern(String.raw`\p{N}`);

/** How texts are split before pairs are merged, by `tokenizer.ggml.pre`; null: as GPT-2 does. */
export const PRE: Readonly<Record<string, { regex: string | null; ignoreMerges?: boolean; normalizer?: string }>> = {
  default: { regex: null },
  "gpt-2": { regex: null },
  "llama-bpe": { regex: TRIPLES, ignoreMerges: true },
  llama3: { regex: TRIPLES, ignoreMerges: true },
  "llama-v3": { regex: TRIPLES, ignoreMerges: true },
  qwen2: { regex: SINGLES, normalizer: "NFC" },
};

const NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, BYTE = 6; // kinds of tokens
const SPACE = "▁";

/** A tokenizer.json and the tokenizer_config.json beside it. */
export interface GgufTokenizer {
  /** tokenizer.json. */
  json: Json;
  /** tokenizer_config.json. */
  config: Json;
}

/**
 * Reads the tokenizer of a GGUF file: `tokenizer.huggingface.json` where it has one, else the tokens and merges.
 *
 * @throws {TokenizerError} if the metadata is malformed
 * @throws {NotSupportedError} for a kind of tokenizer that is not known
 */
export function ggufTokenizer(metadata: Metadata, file: string): GgufTokenizer {
  const whole = metadata.get("tokenizer.huggingface.json");
  const tokens = strings(metadata, "tokenizer.ggml.tokens", file), config = configOf(metadata, tokens);
  if (typeof whole === "string") {
    // it says itself what stands around a text
    return { json: parsed(whole, file), config: { ...config, add_bos_token: undefined, add_eos_token: undefined } };
  }
  const model = metadata.get("tokenizer.ggml.model");
  const types = numbers(metadata, "tokenizer.ggml.token_type", tokens.length, NORMAL, file);
  const added = tokens.flatMap((content, id) => {
    const special = types[id] === CONTROL || types[id] === UNKNOWN;
    return special || types[id] === USER_DEFINED ? [addedToken(content, id, special)] : [];
  });
  if (model === "gpt2") return { json: { ...byteLevel(metadata, tokens, file), added_tokens: added }, config };
  if (model === "llama") {
    return { json: { ...sentencePiece(metadata, tokens, types, file), added_tokens: added }, config };
  }
  throw new NotSupportedError(
    `Cannot load the tokenizer of ${file} as tokenizer.ggml.model must be gpt2 or llama: current value is ` +
      JSON.stringify(model),
  );
}

function parsed(text: string, file: string): Json {
  try {
    const json = parseJsonText(text);
    if (isObject(json)) return json;
  } catch {
    // said below
  }
  return fail(file, "tokenizer.huggingface.json must be a JSON object: it is not");
}

function addedToken(content: string, id: number, special: boolean): Json {
  return { id, content, special, single_word: false, lstrip: false, rstrip: false, normalized: false };
}

function configOf(metadata: Metadata, tokens: readonly string[]): Json {
  const config: Json = { clean_up_tokenization_spaces: false };
  for (const [name, key] of [["bos", "bos"], ["eos", "eos"], ["unk", "unknown"], ["pad", "padding"]] as const) {
    const id = metadata.get(`tokenizer.ggml.${key}_token_id`);
    const token = typeof id === "number" ? tokens[id] : undefined;
    if (token !== undefined) config[`${name}_token`] = token;
  }
  const flag = (key: string, otherwise: boolean) => {
    const value = metadata.get(`tokenizer.ggml.${key}`);
    return typeof value === "boolean" ? value : otherwise;
  };
  const sentencePieces = metadata.get("tokenizer.ggml.model") === "llama";
  config.add_bos_token = flag("add_bos_token", sentencePieces) && config.bos_token !== undefined;
  config.add_eos_token = flag("add_eos_token", false) && config.eos_token !== undefined;
  const template = metadata.get("tokenizer.chat_template");
  if (typeof template === "string") config.chat_template = template;
  return config;
}

/** Bytes as letters, pairs merged by rank. */
function byteLevel(metadata: Metadata, tokens: readonly string[], file: string): Json {
  const name = metadata.get("tokenizer.ggml.pre") ?? "default";
  const pre = typeof name === "string" && Object.hasOwn(PRE, name) ? PRE[name] : undefined;
  if (!pre) {
    throw new NotSupportedError(
      `Cannot load the tokenizer of ${file} as tokenizer.ggml.pre must be one of ${Object.keys(PRE).join(", ")}: ` +
        `current value is ${JSON.stringify(name)}`,
      { hint: "Load the tokenizer from the folder that the model was made from." },
    );
  }
  const bytes = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: pre.regex === null };
  const split = { type: "Split", pattern: { Regex: pre.regex }, behavior: "Isolated", invert: false };
  return {
    normalizer: pre.normalizer ? { type: pre.normalizer } : null,
    pre_tokenizer: pre.regex === null ? bytes : { type: "Sequence", pretokenizers: [split, bytes] },
    post_processor: { ...bytes, use_regex: false },
    decoder: { ...bytes, use_regex: false },
    model: {
      type: "BPE",
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: strings(metadata, "tokenizer.ggml.merges", file).map((merge) => pairOf(merge, file)),
      ignore_merges: pre.ignoreMerges ?? false,
      byte_fallback: false,
      fuse_unk: false,
      unk_token: null,
    },
  };
}

/** A space parts the two tokens; either may begin with one. */
function pairOf(merge: string, file: string): [string, string] {
  const at = merge.indexOf(" ", 1);
  return at < 0
    ? fail(file, `merges must be pairs: one is ${JSON.stringify(merge)}`)
    : [merge.slice(0, at), merge.slice(at + 1)];
}

/** Pieces with scores: of two neighbours those merge first whose union scores highest. */
function sentencePiece(metadata: Metadata, tokens: readonly string[], types: readonly number[], file: string): Json {
  const scores = numbers(metadata, "tokenizer.ggml.scores", tokens.length, 0, file);
  const vocab = new Map(tokens.map((token, id) => [token, id]));
  const unknown = metadata.get("tokenizer.ggml.unknown_token_id"),
    prefix = metadata.get("tokenizer.ggml.add_space_prefix");
  const merges = tokens.flatMap((token, id) => {
    if (types[id] !== NORMAL && types[id] !== USER_DEFINED) return [];
    const letters = [...token], pairs: { pair: [string, string]; score: number; ids: [number, number] }[] = [];
    for (let i = 1, at = 0; i < letters.length; i++) {
      at += letters[i - 1]!.length;
      const pair: [string, string] = [token.slice(0, at), token.slice(at)], ids = pair.map((part) => vocab.get(part));
      if (ids.some((id) => id === undefined || types[id] === BYTE)) continue;
      pairs.push({ pair, score: scores[id]!, ids: ids as [number, number] });
    }
    return pairs.sort((a, b) => a.ids[0] - b.ids[0] || a.ids[1] - b.ids[1]);
  });
  merges.sort((a, b) => b.score - a.score);
  const prepend = prefix === false ? [] : [{ type: "Prepend", prepend: SPACE }];
  const strip = prefix === false ? [] : [{ type: "Strip", content: " ", start: 1, stop: 0 }];
  return {
    normalizer: {
      type: "Sequence",
      normalizers: [...prepend, { type: "Replace", pattern: { String: " " }, content: SPACE }],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: SPACE }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...strip,
      ],
    },
    model: {
      type: "BPE",
      vocab: Object.fromEntries(vocab),
      merges: merges.map(({ pair }) => pair),
      byte_fallback: true,
      fuse_unk: true,
      unk_token: typeof unknown === "number" ? tokens[unknown] ?? null : null,
    },
  };
}

function strings(metadata: Metadata, key: string, file: string): readonly string[] {
  const list = metadata.get(key);
  if (Array.isArray(list) && list.length > 0 && list.every((v) => typeof v === "string")) return list;
  return fail(file, `${key} must be a list of strings: it is ${list === undefined ? "missing" : "not"}`);
}

function numbers(metadata: Metadata, key: string, length: number, otherwise: number, file: string): readonly number[] {
  const list = metadata.get(key);
  if (list === undefined) return new Array(length).fill(otherwise);
  if (Array.isArray(list) && list.length === length && list.every((v) => typeof v === "number")) return list;
  return fail(file, `${key} must be ${length} numbers, one a token: it is not`);
}

function fail(file: string, rule: string): never {
  throw new TokenizerError(`Cannot load the tokenizer of ${file} as ${rule}`);
}
