/**
 * What a caller may pass to `generate`, and what becomes of it.
 *
 * @module
 */
import type { Cache } from "../cache/mod.ts";
import type { Model } from "../models/mod.ts";
import type { GenerationConfigFields } from "./config_fields.ts";
import type { TokenMask } from "./grammar/token_mask.ts";
import type { PromptEmbeds } from "./prompt_embeds.ts";

/** What text needs of a tokenizer; the library's `Tokenizer` is one. */
export interface TextCodec {
  /** Token ids to text. */
  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string;
  /** Token ids to text, one after the other; never half a character. */
  tokenStream(options?: { skipSpecialTokens?: boolean }): { put(id: number): string; end(): string };
}

/** Takes tokens as they come; `TextStreamer` is one. */
export interface Streamer {
  /** The prompts' ids first, then those of each step; one list a row. */
  put(rows: readonly (readonly number[])[]): void;
  /** Nothing more comes. Also called where a run fails. */
  end(): void;
}

/** A logits processor on the host: changes or replaces the scores [V] of one row, given its ids so far. */
export interface LogitsProcessor {
  /** Changes `scores`, or gives others. */
  (inputIds: readonly number[], scores: Float32Array): Float32Array | void;
  /** The option that it stands for, which must not be set too. */
  readonly option?: keyof GenerationConfigFields;
}

/** Stops rows on the host: true ends the row whose ids these are. */
export interface StoppingCriterion {
  /** Whether the row ends. */
  (inputIds: readonly number[]): boolean;
  /** The option that it stands for, which must not be set too. */
  readonly option?: keyof GenerationConfigFields;
}

/** The tokens that may follow, on the host: given the prompt's place in the batch and the ids so far. */
export type PrefixAllowedTokens = (batchId: number, inputIds: readonly number[]) => readonly number[];

/** What only a call takes, and no config. */
export interface CallOptions {
  /** Replaces the model's own config; special tokens that it leaves out are still the model's. */
  generationConfig?: Partial<GenerationConfigFields>;
  /** Seed of the draws: the same seed gives the same tokens. Default: a random one. */
  seed?: number;
  /** For `stopStrings`, and for the text of `stream`. */
  tokenizer?: TextCodec;
  /** Keys and values of a prefix of the input, which are not computed again; they are added to. */
  cache?: Cache;
  /** The most tokens of a prompt to run at once. Default 512. */
  prefillChunkSize?: number;
  /** Host closures on the logits, in order, after the built-in ones; each step then waits for the host. */
  logitsProcessor?: readonly LogitsProcessor[];
  /** Host closures that end rows. */
  stoppingCriteria?: readonly StoppingCriterion[];
  /** Only these tokens may follow; each step then waits for the host. */
  prefixAllowedTokensFn?: PrefixAllowedTokens;
  /** For `guidanceScale`: what to go away from, one row a prompt. Default: the last token of each prompt. */
  negativePromptIds?: readonly (readonly number[])[];
  /** Which of `negativePromptIds` are no padding. */
  negativePromptAttentionMask?: readonly (readonly number[])[];
  /**
   * The output is JSON that this schema takes, on one line; needs `tokenizer`. Objects have no other properties than it
   * names, and whole numbers at most 15 digits. What cannot be enforced is refused: `not`, bounds of numbers that are no
   * integers, patterns that are not plain ASCII, and the like. Each step waits for the host.
   */
  jsonSchema?: object | string;
  /** The output matches this regular expression as a whole; as `jsonSchema`. */
  regex?: string;
  /** The output is a sentence of this grammar in EBNF, whose first rule is `root`; as `jsonSchema`. */
  grammar?: string;
  /** Drafts tokens that the model checks. */
  assistantModel?: Model;
  /** The assistant's tokenizer, where it is another one. */
  assistantTokenizer?: TextCodec;
  /** Takes the tokens as they come. */
  streamer?: Streamer;
  /** Where the releases of Transformers differ: "hf4" as 4.46, which the documents describe, "hf5" as 5.x. Default "hf4". */
  profile?: "hf4" | "hf5";
  /** Stops generation within a step. */
  signal?: AbortSignal;
}

/** Options of {@linkcode generate}: fields of {@linkcode GenerationConfig}, `null` for off, and what only a call takes. */
export type GenerationOptions =
  & CallOptions
  & { [K in keyof GenerationConfigFields]?: GenerationConfigFields[K] | null };

/** Options with every default filled in. */
export interface ResolvedOptions extends GenerationConfigFields, CallOptions {
  seed: number;
  eosTokenIds: readonly number[];
  padToken: number;
  stops: readonly string[];
  prefillChunkSize: number;
  /** The prompts, where they came as embeddings. */
  embeds?: PromptEmbeds;
  /** What the grammar lets follow, where there is one. */
  tokenMask?: TokenMask;
  /** Most new tokens of each row; `maxLength` is those and the longest prompt. */
  newTokens: number;
}

/** Names of {@linkcode CallOptions}. */
export const CALL_OPTIONS = Object.keys(
  {
    generationConfig: 1,
    seed: 1,
    tokenizer: 1,
    cache: 1,
    prefillChunkSize: 1,
    logitsProcessor: 1,
    stoppingCriteria: 1,
    prefixAllowedTokensFn: 1,
    jsonSchema: 1,
    regex: 1,
    grammar: 1,
    negativePromptIds: 1,
    negativePromptAttentionMask: 1,
    assistantModel: 1,
    assistantTokenizer: 1,
    streamer: 1,
    profile: 1,
    signal: 1,
  } satisfies Record<keyof CallOptions, 1>,
) as readonly (keyof CallOptions)[];
