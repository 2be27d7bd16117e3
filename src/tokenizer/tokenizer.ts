/**
 * The tokenizer that users call.
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import { type BatchEncoding, encodeBatch, type EncodeOptions, type Side } from "./batch.ts";
import { type ChatMessage, type ChatTemplateOptions, type ChatTemplates, renderChat } from "./chat.ts";
import type { Pipeline } from "./pipeline.ts";
import { cleanUpSpaces, type DecodeOptions, DecoderStream, isShown, type TokenStream } from "./token_stream.ts";

/** The special tokens that Transformers names. */
export const SPECIAL_TOKENS = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"] as const;

/** One of the special tokens that Transformers names. */
export type SpecialToken = typeof SPECIAL_TOKENS[number];

/**
 * Text to token ids and back, as the model was trained with.
 *
 * Call it to encode: `tokenizer("Hello")`, `tokenizer(["a", "bc"], { padding: true })`.
 *
 * @example
 * ```ts ignore
 * const tokenizer = await loadTokenizer("models/tensaur-tiny");
 * const { inputIds, attentionMask } = tokenizer(["Hello", "Hello world"], { padding: true });
 * tokenizer.decode(inputIds[0]!, { skipSpecialTokens: true }); // "Hello"
 * ```
 */
export interface Tokenizer {
  /**
   * Encodes a text, or a batch of them.
   *
   * @param text one text (a batch of one) or several, each of at most 4 Mi UTF-16 units
   * @returns ids and masks, [B][T]
   * @throws ValueError if the options do not fit together
   * @throws LimitError if a text is too long, a word of it has more than 65,536 characters (words end at spaces, or where
   *   the tokenizer's pattern splits), or encoding it takes more than 30 s
   * @throws TokenizerError if the vocabulary has neither a character nor an unknown token
   */
  (text: string | readonly string[], options?: EncodeOptions): BatchEncoding;
  /** The ids of one text; the first row of what the call returns. */
  encode(text: string, options?: EncodeOptions): number[];
  /** The text of `ids`; ids without a token add nothing. */
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  /** The texts of several lists of ids. */
  batchDecode(batch: Iterable<Iterable<number>>, options?: DecodeOptions): string[];
  /** Decodes ids as they come; never half a character. */
  tokenStream(options?: DecodeOptions): TokenStream;
  /** The text of a conversation in the model's format. */
  applyChatTemplate(
    messages: readonly ChatMessage[],
    options: ChatTemplateOptions & { tokenize: false },
  ): Promise<string>;
  /**
   * The ids of a conversation in the model's format.
   *
   * The template is the model author's program: it runs with limits, at first in a worker thread.
   *
   * @throws TemplateError if there is no template, or it fails, takes too long, or refuses the messages
   */
  applyChatTemplate(
    messages: readonly ChatMessage[],
    options?: ChatTemplateOptions & { tokenize?: true },
  ): Promise<number[]>;
  /** Ids of a conversation, or its text with `tokenize: false`. */
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatTemplateOptions): Promise<string | number[]>;
  /** The id of a token, that of the unknown token for others, null where there is none. */
  convertTokensToIds(token: string): number | null;
  /** The ids of several tokens. */
  convertTokensToIds(tokens: readonly string[]): (number | null)[];
  /** The token of an id, null where there is none. */
  convertIdsToTokens(id: number): string | null;
  /** The tokens of several ids. */
  convertIdsToTokens(ids: readonly number[]): (string | null)[];
  /** One more than the highest id, added tokens included (Python's `len(tokenizer)`): every id is below it. */
  readonly vocabSize: number;
  /** Special tokens by the names that tokenizer_config.json and chat templates use, such as `bos_token`. */
  readonly specialTokensMap: Readonly<Record<string, string>>;
  /** The chat template, several of them by name, or null. */
  chatTemplate: ChatTemplates;
  /** Id of the token that begins a text, or null. */
  bosTokenId: number | null;
  /** Id of the token that ends a text, or null. */
  eosTokenId: number | null;
  /** Id of the token for what the vocabulary has not, or null. */
  unkTokenId: number | null;
  /** Id of the token between two texts, or null. */
  sepTokenId: number | null;
  /** Id of the token that fills rows up, or null. */
  padTokenId: number | null;
  /** Id of the token that stands for the whole text, or null. */
  clsTokenId: number | null;
  /** Id of the token that hides a word, or null. */
  maskTokenId: number | null;
  /** Longest row that the model takes, in tokens; Infinity where unknown. */
  modelMaxLength: number;
  /** Where padding goes by default. */
  paddingSide: Side;
  /** Where truncation takes tokens away by default. */
  truncationSide: Side;
}

/** What the files say beside tokenizer.json. */
export interface TokenizerSettings {
  /** Special tokens by name, such as `bos_token`. */
  specialTokensMap: Record<string, string>;
  /** The chat templates. */
  chatTemplate: ChatTemplates;
  /** Longest row; Infinity where unknown. */
  modelMaxLength: number;
  /** Default side of padding. */
  paddingSide: Side;
  /** Default side of truncation. */
  truncationSide: Side;
  /** Whether to return `tokenTypeIds`. */
  tokenTypes: boolean;
  /** Whether decoding takes spaces before punctuation away by default. */
  cleanUpTokenizationSpaces: boolean;
  /** Whether the author of the files is trusted. */
  trust: boolean;
}

/** The callable tokenizer around a pipeline. */
export function makeTokenizer(pipeline: Pipeline, settings: TokenizerSettings): Tokenizer {
  const { specialTokensMap, cleanUpTokenizationSpaces, tokenTypes, trust } = settings;
  const idOf = (name: SpecialToken): number | null => {
    const token = specialTokensMap[`${name}_token`];
    return token === undefined ? null : pipeline.id(token) ?? null;
  };
  const toId = (token: string) => pipeline.id(token) ?? tokenizer.unkTokenId;
  const toToken = (id: number) => pipeline.token(id) ?? null;
  const tokenStream = (options: DecodeOptions = {}): TokenStream =>
    new DecoderStream(pipeline, { cleanUpTokenizationSpaces, ...options });
  const decode = (ids: Iterable<number>, options: DecodeOptions = {}) => {
    const text = pipeline.decode(Array.from(ids).filter((id) => isShown(pipeline, id, options.skipSpecialTokens)));
    const clean = options.cleanUpTokenizationSpaces ?? cleanUpTokenizationSpaces;
    return clean && !pipeline.isBpe ? cleanUpSpaces(text) : text;
  };
  const encode = (text: string | readonly string[], options: EncodeOptions = {}) => {
    const { modelMaxLength, padTokenId, paddingSide, truncationSide } = tokenizer;
    checkSide("paddingSide", options.paddingSide ?? paddingSide);
    checkSide("truncationSide", options.truncationSide ?? truncationSide);
    const defaults = { modelMaxLength, padTokenId, paddingSide, truncationSide, tokenTypes };
    return encodeBatch(pipeline, defaults, text, options);
  };
  async function applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}) {
    const text = await renderChat(tokenizer.chatTemplate, messages, specialTokensMap, options, trust);
    return options.tokenize === false ? text : pipeline.encode(text);
  }

  const tokenizer: Tokenizer = Object.assign(encode, {
    encode: (text: string, options?: EncodeOptions) => encode(text, options).inputIds[0]!,
    decode,
    batchDecode: (batch: Iterable<Iterable<number>>, options?: DecodeOptions) =>
      Array.from(batch, (ids) => decode(ids, options)),
    tokenStream,
    applyChatTemplate: applyChatTemplate as Tokenizer["applyChatTemplate"],
    convertTokensToIds: ((tokens: string | readonly string[]) =>
      typeof tokens === "string" ? toId(tokens) : tokens.map(toId)) as Tokenizer["convertTokensToIds"],
    convertIdsToTokens: ((ids: number | readonly number[]) =>
      typeof ids === "number" ? toToken(ids) : ids.map(toToken)) as Tokenizer["convertIdsToTokens"],
    vocabSize: pipeline.size,
    specialTokensMap,
    chatTemplate: settings.chatTemplate,
    bosTokenId: idOf("bos"),
    eosTokenId: idOf("eos"),
    unkTokenId: idOf("unk"),
    sepTokenId: idOf("sep"),
    padTokenId: idOf("pad"),
    clsTokenId: idOf("cls"),
    maskTokenId: idOf("mask"),
    modelMaxLength: settings.modelMaxLength,
    paddingSide: settings.paddingSide,
    truncationSide: settings.truncationSide,
  });
  return tokenizer;
}

function checkSide(name: string, side: Side): void {
  if (side === "left" || side === "right") return;
  throw new ValueError(`Cannot encode as ${name} must be "left" or "right": current value is ${JSON.stringify(side)}`);
}
