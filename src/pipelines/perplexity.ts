/**
 * Perplexity of a text under a causal language model.
 *
 * @module
 */
import { packBatch } from "../cache/mod.ts";
import { NumericError, throwIfAborted, ValueError } from "../errors.ts";
import type { Model } from "../models/mod.ts";
import { crossEntropy } from "../ops/cross_entropy.ts";
import { gatherRows } from "../ops/mod.ts";
import type { Progress } from "../progress.ts";
import { type Tensor, tensor, tidy } from "../tensor/mod.ts";

/** What {@linkcode perplexity} needs of a tokenizer; the library's `Tokenizer` is one. */
export interface PerplexityTokenizer {
  /** The ids of a text. */
  encode(text: string): readonly number[];
  /** The text of ids: for the bytes where ids are given. */
  decode?(ids: readonly number[]): string;
  /** Special tokens by name; those that begin and end documents are not counted as bytes. */
  readonly specialTokensMap?: Readonly<Record<string, string>>;
}

/** How {@linkcode perplexity} goes over a text. */
export interface PerplexityOptions {
  /** Tokens of a window. Default: what the model allows, at most 1024. */
  maxLength?: number;
  /** Tokens from one window's begin to the next; the fewer, the more of its past each token sees. Default: half a window. */
  stride?: number;
  /** Told after each window, in tokens. */
  onProgress?: (progress: Progress) => void;
  /** Stops between two windows. */
  signal?: AbortSignal;
}

/** One window. */
export interface PerplexityWindow {
  /** Its first token. */
  begin: number;
  /** The token after its last. */
  end: number;
  /** How many tokens were scored: those that no window before had, but for the text's first, which nothing predicts. */
  scored: number;
  /** The sum of their negative log-likelihoods, in nats. */
  nll: number;
}

/** What {@linkcode perplexity} finds. */
export interface PerplexityResult {
  /** e to the mean negative log-likelihood of the scored tokens. */
  perplexity: number;
  /** The same with the weights of the loop in Transformers' documents, which takes one token off every window. */
  documentedPerplexity: number;
  /** Mean negative log-likelihood of the scored tokens, in nats. */
  meanNll: number;
  /** Bits that all scored tokens take, by the bytes of the text; what models with different tokenizers can be compared by. */
  bitsPerByte: number;
  /** Tokens that were scored. */
  scoredTokens: number;
  /** Tokens of the text. */
  tokens: number;
  /** Bytes of the text in UTF-8, without the tokens that begin and end documents; NaN of ids that cannot be decoded. */
  bytes: number;
  /** Each window. */
  windows: PerplexityWindow[];
}

const PASS_TOKENS = 512; // longer windows run in pieces, through a cache
const LOGITS_BYTES = 2 ** 26; // of the logits that exist at one time

/**
 * How well `model` predicts `text`: `exp(−mean log p(token | tokens before it))`, in windows that slide by `stride`.
 *
 * Each window scores the tokens that no window before it had. Only their logits are computed, and no logits leave the
 * GPU: one number a token does.
 *
 * Source: Transformers' "Perplexity of fixed-length models" (semantics: P-1 … P-7).
 *
 * @param text a text, or its token ids
 * @throws {ValueError} if the model is no causal language model, an option is out of range, or nothing can be scored
 * @throws {NumericError} if the logits are not finite
 * @throws {AbortError} if `signal` fires
 *
 * @example
 * ```ts
 * import { loadModel, loadTokenizer, perplexity } from "@tensaur/tensaur";
 * using model = await loadModel("models/tensaur-tiny");
 * const tokenizer = await loadTokenizer("models/tensaur-tiny");
 * const found = await perplexity(model, tokenizer, "Once upon a time, there was a fox.", { maxLength: 64, stride: 32 });
 * console.log(found.perplexity, found.bitsPerByte);
 * ```
 */
export async function perplexity(
  model: Model,
  tokenizer: PerplexityTokenizer,
  text: string | readonly number[],
  options: PerplexityOptions = {},
): Promise<PerplexityResult> {
  const { maxLength, stride } = checked(model, options), { onProgress, signal } = options;
  throwIfAborted(signal, "measuring perplexity");
  const ids = typeof text === "string" ? tokenizer.encode(text) : text;
  checkIds(ids, model.sizes.vocabSize);
  const bytes = bytesOf(typeof text === "string" ? text : tokenizer.decode?.(text), tokenizer);
  const windows: PerplexityWindow[] = [];
  try {
    for (const { begin, end, scored } of slidingWindows(ids.length, maxLength, stride)) {
      throwIfAborted(signal, "measuring perplexity");
      const nll = await windowNll(model, ids.slice(begin, end), scored);
      if (!Number.isFinite(nll)) throw notFinite(begin, end, nll);
      windows.push({ begin, end, scored, nll });
      onProgress?.({ phase: "score", label: "tokens", loaded: end, total: ids.length });
    }
  } finally {
    await model.device.stream.settled(); // early reads still have promises of their own
  }
  return summary(windows, ids.length, bytes);
}

/** Which windows a text of `tokens` tokens has, and how many tokens each scores. */
export function slidingWindows(tokens: number, maxLength: number, stride: number): Omit<PerplexityWindow, "nll">[] {
  const windows: Omit<PerplexityWindow, "nll">[] = [];
  for (let begin = 0, seen = 0; seen < tokens; begin += stride) {
    const end = Math.min(begin + maxLength, tokens);
    windows.push({ begin, end, scored: Math.min(end - seen, end - begin - 1) }); // nothing predicts a first token
    seen = end;
  }
  return windows;
}

/** The sum of the negative log-likelihoods of the last `scored` tokens of `ids`. */
async function windowNll(model: Model, ids: readonly number[], scored: number): Promise<number> {
  const { device } = model, first = ids.length - 1 - scored; // the token that predicts the first scored one
  using cache = model.newCache();
  let sum = 0;
  for (let from = 0; from < ids.length; from += PASS_TOKENS) {
    const piece = ids.slice(from, from + PASS_TOKENS), to = from + piece.length;
    const positions = piece.map((_, i) => from + i);
    using batch = packBatch(device, piece, positions, [piece.length]);
    cache.reserve(1, batch.lengths);
    using hidden = tidy(device, () => model.hidden(batch, cache)); // [T, D]
    cache.advanced(batch.lengths);
    const most = Math.max(1, Math.floor(LOGITS_BYTES / (4 * model.sizes.vocabSize)));
    for (let at = Math.max(first, from); at < Math.min(to, ids.length - 1); at += most) {
      const rows = Array.from({ length: Math.min(most, Math.min(to, ids.length - 1) - at) }, (_, i) => at + i);
      const words = (values: readonly number[]): Tensor => tensor(device, values, [rows.length], "uint32");
      using nll = tidy(device, () => {
        const chosen = gatherRows(hidden, words(rows.map((row) => row - from))); // [N, D]
        const logits = model.applyHead(chosen, batch); // [N, V]
        return crossEntropy(logits, words(rows.map((row) => ids[row + 1]!))); // [N]
      });
      for (const x of await nll.read({ early: true })) sum += Number(x);
    }
    if (to <= first) await device.stream.settled(); // bounds the work in flight
  }
  return sum;
}

function summary(windows: PerplexityWindow[], tokens: number, bytes: number): PerplexityResult {
  const sum = (of: (w: PerplexityWindow) => number) => windows.reduce((total, w) => total + of(w), 0);
  const nll = sum((w) => w.nll), scoredTokens = sum((w) => w.scored), meanNll = nll / scoredTokens;
  let seen = 0;
  const documented = windows.map(({ end, scored, nll }) => {
    const weight = end - seen - 1; // labels of the window, less one for its first token, whether it is scored or not
    seen = end;
    return { weight, loss: weight > 0 ? weight * nll / scored : 0 };
  });
  const weights = documented.reduce((total, { weight }) => total + weight, 0);
  return {
    perplexity: Math.exp(meanNll),
    documentedPerplexity: Math.exp(documented.reduce((total, { loss }) => total + loss, 0) / weights),
    meanNll,
    bitsPerByte: nll / Math.LN2 / bytes,
    scoredTokens,
    tokens,
    bytes,
    windows,
  };
}

function checked(model: Model, { maxLength, stride }: PerplexityOptions): { maxLength: number; stride: number } {
  if (model.task !== "causal-lm") {
    throw new ValueError(
      `Cannot measure perplexity as the model must be a causal language model: its task is "${model.task}"`,
      { hint: "Perplexity is not defined for masked models." },
    );
  }
  const limit = model.sizes.maxPositionEmbeddings, length = maxLength ?? Math.min(limit, 1024);
  expectWhole("maxLength", length, 2, limit);
  const step = stride ?? Math.ceil(length / 2);
  expectWhole("stride", step, 1, length);
  return { maxLength: length, stride: step };
}

function expectWhole(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new ValueError(
    `Cannot measure perplexity as ${name} must be a whole number from ${least} to ${most}: current value is ${value}`,
  );
}

function checkIds(ids: readonly number[], vocabSize: number): void {
  if (ids.length < 2) {
    throw new ValueError(
      `Cannot measure perplexity as the text must have at least 2 tokens: it has ${ids.length}`,
      { hint: "Each token is predicted from those before it." },
    );
  }
  const odd = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
  if (odd === undefined) return;
  throw new ValueError(
    `Cannot measure perplexity as tokens must be whole numbers from 0 to ${vocabSize - 1}: current value is ${odd}`,
    { hint: "Use the tokenizer that belongs to the model." },
  );
}

function bytesOf(text: string | undefined, { specialTokensMap = {} }: PerplexityTokenizer): number {
  if (text === undefined) return NaN;
  const { bos_token, eos_token } = specialTokensMap;
  const plain = [bos_token, eos_token].reduce<string>(
    (rest, marker) => marker ? rest.replaceAll(marker, "") : rest,
    text,
  );
  return new TextEncoder().encode(plain).length;
}

function notFinite(begin: number, end: number, nll: number): NumericError {
  return new NumericError(
    `Cannot measure perplexity as the log-likelihoods of tokens ${begin} to ${end} must be finite: their sum is ${-nll}`,
    { hint: 'Load the model with dtype: "float32", or check the weights.' },
  );
}
