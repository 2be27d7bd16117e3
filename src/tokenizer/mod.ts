/**
 * Tokenizers: text to token ids and back, batches, streams, chat templates.
 *
 * @module
 */
export type { BatchEncoding, EncodeOptions, Side } from "./batch.ts";
export type { ChatMessage, ChatTemplateOptions, ChatTemplates } from "./chat.ts";
export { createTokenizer, loadTokenizer, type LoadTokenizerOptions, type TokenizerFiles } from "./load.ts";
export type { DecodeOptions, TokenStream } from "./token_stream.ts";
export type { Tokenizer } from "./tokenizer.ts";
export type { Progress } from "../progress.ts";
export type { HubOverrides, ResolveOptions } from "../weights/hub.ts";
