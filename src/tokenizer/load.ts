/**
 * Tokenizers from the files of a checkpoint.
 *
 * @module
 */
import { TensaurError, throwIfAborted, TokenizerError } from "../errors.ts";
import { exists, openInside, readJson } from "../weights/files.ts";
import type { GgufOption } from "../weights/gguf_files.ts";
import type { ResolveOptions } from "../weights/hub.ts";
import type { Side } from "./batch.ts";
import type { ChatTemplates } from "./chat.ts";
import { asArray, asBoolean, asOneOf, asString, isObject, type Json, refuse } from "./checks.ts";
import { AddedTokens, readModel } from "./model.ts";
import { bosEosTemplate, readParts } from "./parts.ts";
import { Pipeline } from "./pipeline.ts";
import { makeTokenizer, SPECIAL_TOKENS, type Tokenizer } from "./tokenizer.ts";

// The largest one known (Gemma 3) has 33 MB.
const MAX_TOKENIZER_BYTES = 128 * 2 ** 20;
const MAX_TEMPLATE_BYTES = 64 * 1024;
const SIDES = ["left", "right"] as const;
// Classes whose models read token types, for files that do not say so themselves.
const TYPED_CLASSES =
  /^(Bert|Canine|Deberta|DebertaV2|FNet|MobileBert|Electra|ConvBert|Albert|XLNet|LayoutLM)Tokenizer/;

/** How to load a tokenizer. */
export interface LoadTokenizerOptions extends ResolveOptions, GgufOption {
  /**
   * Whether you know who made the files; default false. Then no regular expression is refused or timed, and chat
   * templates run without a worker.
   */
  trust?: boolean;
}

/** Files of a tokenizer beside tokenizer.json, as parsed. */
export interface TokenizerFiles {
  /** tokenizer_config.json. */
  config?: Record<string, unknown>;
  /** special_tokens_map.json. */
  specialTokensMap?: Record<string, unknown>;
  /** chat_template.jinja. */
  chatTemplate?: string;
  /** As in {@linkcode LoadTokenizerOptions}. */
  trust?: boolean;
}

/**
 * Loads a tokenizer from a folder or from the Hugging Face hub.
 *
 * The folder must hold tokenizer.json; tokenizer_config.json, special_tokens_map.json and chat_template.jinja are read
 * where they are there.
 *
 * A GGUF file has its own tokenizer and chat template.
 *
 * @param pathOrHubId a folder, a GGUF file, or a name on the hub such as "Qwen/Qwen2.5-0.5B-Instruct"
 * @throws TokenizerError if the tokenizer has a part that is not supported, or its files break a rule
 * @throws ModelPathError or ModelFormatError if a file is missing or is no JSON
 *
 * @example
 * ```ts ignore
 * const tokenizer = await loadTokenizer("models/tensaur-tiny");
 * const { inputIds } = tokenizer("Hello world");
 * ```
 */
export async function loadTokenizer(pathOrHubId: string, options: LoadTokenizerOptions = {}): Promise<Tokenizer> {
  throwIfAborted(options.signal, `loading the tokenizer of ${pathOrHubId}`);
  const { trust, ggufFile, ...resolve } = options;
  if (ggufFile !== undefined || /\.gguf$/i.test(pathOrHubId)) return await fromGguf(pathOrHubId, options);
  const { resolveModel } = await import("../weights/hub.ts"); // not needed by whoever makes a tokenizer of parsed files
  const { dir } = await resolveModel(pathOrHubId, { allow: isTokenizerFile, ...resolve });
  const json = await readJson(dir, "tokenizer.json", { maxBytes: MAX_TOKENIZER_BYTES });
  const optional = async (name: string) => await exists(dir, name) ? await readJson(dir, name) : undefined;
  return createTokenizer(json, {
    config: await optional("tokenizer_config.json"),
    specialTokensMap: await optional("special_tokens_map.json"),
    chatTemplate: await readTemplate(dir),
    trust,
  });
}

async function fromGguf(pathOrHubId: string, { trust, ...options }: LoadTokenizerOptions): Promise<Tokenizer> {
  const [{ findGguf }, { ggufTokenizer }] = await Promise.all([
    import("../weights/gguf_files.ts"),
    import("./gguf_tokenizer.ts"),
  ]);
  const { gguf } = (await findGguf(pathOrHubId, options))!;
  using open = gguf;
  const { json, config } = ggufTokenizer(open.header.metadata, open.file.name);
  return createTokenizer(json, { config, trust });
}

function isTokenizerFile(name: string): boolean {
  return /^(tokenizer|tokenizer_config|special_tokens_map)\.json$|^chat_template\.jinja$/.test(name);
}

async function readTemplate(dir: string): Promise<string | undefined> {
  if (!await exists(dir, "chat_template.jinja")) return;
  using file = await openInside(dir, "chat_template.jinja");
  if (file.size > MAX_TEMPLATE_BYTES) {
    refuse("chat_template.jinja", `have at most ${MAX_TEMPLATE_BYTES} bytes`, file.size);
  }
  return new TextDecoder().decode(await file.read(0, file.size));
}

/**
 * Makes a tokenizer of parsed files.
 *
 * @param json tokenizer.json
 * @throws TokenizerError as {@linkcode loadTokenizer} does
 */
export function createTokenizer(json: Record<string, unknown>, files: TokenizerFiles = {}): Tokenizer {
  try {
    return build(json, files);
  } catch (error) {
    if (error instanceof TensaurError) throw error;
    // What no rule has foreseen (a stack that overflows, an array too long) is the file's fault all the same.
    throw new TokenizerError(`Cannot load the tokenizer as its files must be sound: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function build(json: Json, { config = {}, specialTokensMap, chatTemplate, trust = false }: TokenizerFiles): Tokenizer {
  const parts = readParts(json, trust); // the small ones first: an unknown type is refused before the vocabulary is read
  const { model, ids } = readModel(json.model);
  const added = new AddedTokens(json.added_tokens, ids);
  const specials = addSpecialTokens(added, config, specialTokensMap);
  const bos = asBoolean(config.add_bos_token, "add_bos_token", false);
  const eos = asBoolean(config.add_eos_token, "add_eos_token", false);
  if (typeof config.add_bos_token === "boolean" || typeof config.add_eos_token === "boolean") {
    parts.post_processor = bosEosTemplate(bos ? specials.bos_token : undefined, eos ? specials.eos_token : undefined);
  }
  const pipeline = new Pipeline({ ...parts, model, added_tokens: added.list }, added.size);
  const names = config.model_input_names;
  return makeTokenizer(pipeline, {
    specialTokensMap: specials,
    chatTemplate: chatTemplate ?? parseTemplates(config.chat_template),
    modelMaxLength: maxLength(config.model_max_length),
    paddingSide: side(config.padding_side, "padding_side"),
    truncationSide: side(config.truncation_side, "truncation_side"),
    tokenTypes: Array.isArray(names)
      ? names.includes("token_type_ids")
      : TYPED_CLASSES.test(asString(config.tokenizer_class, "tokenizer_class", "")),
    cleanUpTokenizationSpaces: asBoolean(config.clean_up_tokenization_spaces, "clean_up_tokenization_spaces", false),
    trust,
  });
}

/** Adds the tokens that the configs name to those of tokenizer.json; returns the special ones by name. */
function addSpecialTokens(added: AddedTokens, config: Json, map: Json | undefined): Record<string, string> {
  const decoder = config.added_tokens_decoder;
  for (const [id, token] of isObject(decoder) ? Object.entries(decoder) : []) {
    added.add(token, `added_tokens_decoder.${id}`);
  }
  // special_tokens_map.json is the older file: it counts where the newer key is missing.
  const values: Json = decoder === undefined ? { ...config, ...map } : config;
  const special: Record<string, string> = {};
  for (const name of SPECIAL_TOKENS) {
    const key = `${name}_token`, value = values[key];
    if (value === undefined || value === null) continue;
    added.add(value, key, true);
    special[key] = isObject(value) ? asString(value.content, key) : asString(value, key);
  }
  for (const key of ["additional_special_tokens", "extra_special_tokens"]) {
    const value = values[key];
    const tokens = isObject(value) ? Object.values(value) : asArray(value, key);
    tokens.forEach((token, i) => added.add(token, `${key}[${i}]`, true));
  }
  return special;
}

function parseTemplates(value: unknown): ChatTemplates {
  if (value === undefined || value === null) return null;
  if (typeof value === "string") return value;
  return Object.fromEntries(
    asArray(value, "chat_template").map((entry, i) => {
      if (!isObject(entry)) refuse(`chat_template[${i}]`, "be an object", entry);
      return [
        asString(entry.name, `chat_template[${i}].name`),
        asString(entry.template, `chat_template[${i}].template`),
      ];
    }),
  );
}

function maxLength(value: unknown): number {
  if (value === undefined || value === null) return Infinity;
  if (typeof value !== "number" || !(value > 0)) return refuse("model_max_length", "be a number above 0", value);
  return value > 1e9 ? Infinity : Math.floor(value);
}

function side(value: unknown, path: string): Side {
  return asOneOf(value ?? "right", path, SIDES);
}
