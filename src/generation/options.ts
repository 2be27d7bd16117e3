/**
 * Options of generation: what the caller gives, the model's generation_config.json, and the defaults of the documents,
 * in this order (semantics: G-2).
 *
 * @module
 */
import type { Cache } from "../cache/mod.ts";
import { ValueError } from "../errors.ts";
import type { ConfigJson, Model } from "../models/mod.ts";

/** What text needs of a tokenizer; the library's `Tokenizer` is one. */
export interface TextCodec {
  /** Token ids to text. */
  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string;
  /** Token ids to text, one after the other; never half a character. */
  tokenStream(options?: { skipSpecialTokens?: boolean }): { put(id: number): string; end(): string };
}

/** A logits processor on the host: changes or replaces the scores [V] of one row, given its ids so far. */
export type LogitsProcessor = (inputIds: readonly number[], scores: Float32Array) => Float32Array | void;

/** Stops rows on the host: true ends the row whose ids these are. */
export type StoppingCriterion = (inputIds: readonly number[]) => boolean;

/** Options of {@linkcode generate}; names and meanings are those of Transformers' GenerationConfig. */
export interface GenerationOptions {
  /** Most new tokens; wins over `maxLength`. */
  maxNewTokens?: number;
  /** Most tokens, prompt included. Default 20. */
  maxLength?: number;
  /** No end of sequence before so many new tokens. */
  minNewTokens?: number;
  /** Draw tokens instead of taking the likeliest. Default false. */
  doSample?: boolean;
  /** Divides the logits. Default 1. */
  temperature?: number;
  /** Draw among the k likeliest; 0 for all. Default 50. */
  topK?: number;
  /** Draw among the likeliest that have this probability together. Default 1. */
  topP?: number;
  /** Draw among those at least so likely as this share of the likeliest. Default 0. */
  minP?: number;
  /** Divides the logits of tokens that were there before (multiplies negative ones). Default 1. */
  repetitionPenalty?: number;
  /** Seed of the draws: the same seed gives the same tokens. Default: a random one. */
  seed?: number;
  /** Tokens that end a sequence; null for none. */
  eosTokenId?: number | readonly number[] | null;
  /** What rows that ended are filled with. Default: the first end of sequence. */
  padTokenId?: number | null;
  /** Texts that end a sequence; needs `tokenizer`. */
  stopStrings?: string | readonly string[];
  /** For `stopStrings`, and for the text of `stream`. */
  tokenizer?: TextCodec;
  /** Keys and values of a prefix of the input, which are not computed again; they are added to. */
  cache?: Cache;
  /** The most tokens of a prompt to run at once. Default 512. */
  prefillChunkSize?: number;
  /** Give the scores after all processors, one [B, V] a step. */
  outputScores?: boolean;
  /** Give the raw logits, one [B, V] a step. */
  outputLogits?: boolean;
  /** Host closures on the logits, in order; each step then waits for the host. */
  logitsProcessor?: readonly LogitsProcessor[];
  /** Host closures that end rows. */
  stoppingCriteria?: readonly StoppingCriterion[];
  /** Stops generation within a step. */
  signal?: AbortSignal;
}

/** Options with every default filled in. */
export interface ResolvedOptions extends GenerationOptions {
  doSample: boolean;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  minNewTokens: number;
  seed: number;
  eosTokenIds: readonly number[];
  padToken: number;
  stops: readonly string[];
  prefillChunkSize: number;
  /** Most new tokens of each row. */
  newTokens: number;
}

/** Keys of generation_config.json that this library reads. */
const FROM_FILE = {
  maxNewTokens: "max_new_tokens",
  maxLength: "max_length",
  minNewTokens: "min_new_tokens",
  doSample: "do_sample",
  temperature: "temperature",
  topK: "top_k",
  topP: "top_p",
  minP: "min_p",
  repetitionPenalty: "repetition_penalty",
  eosTokenId: "eos_token_id",
  padTokenId: "pad_token_id",
} as const;

/**
 * Fills in what the caller left out, and checks.
 *
 * @param longest length of the longest prompt
 * @throws {ValueError} naming the option, what must hold and what came
 */
export function resolveOptions(model: Model, given: GenerationOptions, longest: number): ResolvedOptions {
  const o = { ...fromFile(model.generationConfig), ...definedOf(given) };
  const eosTokenIds = eosOf(
    o.eosTokenId === undefined ? model.config.eos_token_id : o.eosTokenId,
    model.sizes.vocabSize,
  );
  const resolved: ResolvedOptions = {
    ...o,
    doSample: o.doSample ?? false,
    temperature: o.temperature ?? 1,
    topK: o.topK ?? 50,
    topP: o.topP ?? 1,
    minP: o.minP ?? 0,
    repetitionPenalty: o.repetitionPenalty ?? 1,
    minNewTokens: o.minNewTokens ?? 0,
    seed: o.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!,
    eosTokenIds,
    padToken: o.padTokenId ?? (model.config.pad_token_id as number | undefined) ?? eosTokenIds[0] ?? 0,
    stops: typeof o.stopStrings === "string" ? [o.stopStrings] : o.stopStrings ?? [],
    prefillChunkSize: o.prefillChunkSize ?? 512,
    newTokens: newTokensOf(o, given, longest),
  };
  check(resolved);
  return resolved;
}

function fromFile(json: ConfigJson): GenerationOptions {
  const read = Object.entries(FROM_FILE).map(([name, key]) => [name, json[key]]);
  return Object.fromEntries(read.filter(([, value]) => value !== undefined && value !== null));
}

function definedOf(options: GenerationOptions): GenerationOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** `maxNewTokens` wins over `maxLength`, and what the caller gives over what the file says. */
function newTokensOf(o: GenerationOptions, given: GenerationOptions, longest: number): number {
  const byLength = given.maxLength !== undefined && given.maxNewTokens === undefined;
  if (o.maxNewTokens !== undefined && !byLength) {
    whole("maxNewTokens", o.maxNewTokens, 1);
    return o.maxNewTokens;
  }
  const maxLength = o.maxLength ?? 20;
  whole("maxLength", maxLength, 1);
  if (longest < maxLength) return maxLength - longest;
  throw new ValueError(
    `Cannot generate as the prompt must be shorter than maxLength: it has ${longest} tokens, maxLength is ${maxLength}`,
    { hint: "Pass maxNewTokens, which counts new tokens only." },
  );
}

function eosOf(value: unknown, vocabSize: number): readonly number[] {
  const ids = value === undefined || value === null ? [] : [value].flat();
  for (const id of ids) {
    if (Number.isInteger(id) && id as number >= 0 && id as number < vocabSize) continue;
    throw new ValueError(`Cannot generate as eosTokenId must be token ids below ${vocabSize}: current value is ${id}`);
  }
  return ids as number[];
}

function check(o: ResolvedOptions): void {
  whole("minNewTokens", o.minNewTokens, 0);
  whole("topK", o.topK, 0, "use 0 to draw among all tokens");
  whole("seed", o.seed, 0);
  whole("prefillChunkSize", o.prefillChunkSize, 1);
  whole("padTokenId", o.padToken, 0);
  range("temperature", o.temperature, (x) => x > 0, "greater than 0", "Use doSample: false for greedy decoding.");
  range("topP", o.topP, (x) => x > 0, "greater than 0");
  range("minP", o.minP, (x) => x >= 0 && x <= 1, "from 0 to 1");
  range("repetitionPenalty", o.repetitionPenalty, (x) => x > 0, "greater than 0");
  if (o.stops.some((stop) => typeof stop !== "string" || stop === "")) {
    throw new ValueError(
      `Cannot generate as stopStrings must be texts that are not empty: current value is ${o.stops}`,
    );
  }
  if (o.stops.length && !o.tokenizer) {
    throw new ValueError("Cannot generate as stopStrings need the tokenizer to find them in the text: none came", {
      hint: "Pass tokenizer: the one that belongs to the model.",
    });
  }
}

function whole(name: string, value: unknown, least: number, hint?: string): void {
  if (Number.isSafeInteger(value) && value as number >= least) return;
  throw new ValueError(`Cannot generate as ${name} must be a whole number from ${least}: current value is ${value}`, {
    hint,
  });
}

function range(name: string, value: unknown, holds: (x: number) => boolean, rule: string, hint?: string): void {
  if (typeof value === "number" && Number.isFinite(value) && holds(value)) return;
  throw new ValueError(`Cannot generate as ${name} must be ${rule}: current value is ${value}`, { hint });
}
