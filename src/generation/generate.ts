/**
 * `generate` and `stream`.
 *
 * @module
 */
import type { Cache, ModelInputs } from "../cache/mod.ts";
import { ShapeError, ValueError } from "../errors.ts";
import type { Model } from "../models/mod.ts";
import { Decoder } from "./decoder.ts";
import { decode, type Step } from "./loop.ts";
import type { GenerationOptions, ResolvedOptions, StoppingCriterion } from "./options.ts";
import { resolveOptions } from "./resolve.ts";
import { criteriaOf } from "./stopping.ts";

/** What {@linkcode generate} gives. */
export interface GenerateOutput {
  /** Each row as it was given, then its new tokens, padded on the right to one length. */
  sequences: number[][];
  /** With `outputScores`: [B · V] of each step, after the processors. */
  scores?: Float32Array[];
  /** With `outputLogits`: [B · V] of each step, before the processors. */
  logits?: Float32Array[];
  /** The cache that was passed in; it holds each row but its last token. */
  cache?: Cache;
}

/** What {@linkcode stream} yields. */
export interface StreamStep {
  /** A token of each row; rows that have ended give the pad token. */
  tokens: number[];
  /** With `tokenizer` and one row: the text that the token finished, special tokens left out. */
  text?: string;
}

/** The rows of a run, as the host knows them. */
class Rows {
  readonly prompts: number[][];
  readonly done: boolean[];
  readonly fresh: number[][];
  readonly #criteria: StoppingCriterion[][];
  readonly #o: ResolvedOptions;

  constructor(prompts: number[][], o: ResolvedOptions) {
    this.prompts = prompts;
    this.done = prompts.map(() => false);
    this.fresh = prompts.map(() => []);
    this.#criteria = prompts.map((row) => criteriaOf(o, row.length));
    this.#o = o;
  }

  /** Takes the tokens of a step; returns what each row shows for it. */
  accept(tokens: Uint32Array, ids: number[][]): number[] {
    return [...tokens].map((token, b) => {
      if (this.done[b]) return this.#o.padToken;
      this.fresh[b]!.push(token);
      ids[b]!.push(token);
      this.done[b] = this.#o.eosTokenIds.includes(token) || this.#criteria[b]!.some((ends) => ends(ids[b]!));
      return token;
    });
  }
}

/**
 * Generates token ids after the prompts.
 *
 * Prompts may have different lengths, padded on either side with `attentionMask` or not at all.
 *
 * Source: Transformers' `generate` (greedy search and multinomial sampling).
 *
 * @throws {ValueError} if an option or a prompt cannot be taken
 * @throws {AbortError} if `signal` fires
 * @throws {NumericError} if the logits are not finite
 *
 * @example
 * ```ts
 * import { generate, loadModel, loadTokenizer } from "@tensaur/tensaur";
 * using model = await loadModel("models/tensaur-tiny");
 * const tokenizer = await loadTokenizer("models/tensaur-tiny");
 * const { sequences } = await generate(model, tokenizer("The cat"), { maxNewTokens: 10, seed: 7 });
 * console.log(tokenizer.decode(sequences[0]!));
 * ```
 */
export async function generate(
  model: Model,
  inputs: ModelInputs,
  options: GenerationOptions = {},
): Promise<GenerateOutput> {
  const scores: Float32Array[] = [], logits: Float32Array[] = [];
  const { rows, o, steps } = prepare(model, inputs, options);
  for await (const { step } of steps) {
    if (step.scores) scores.push(step.scores);
    if (step.logits) logits.push(step.logits);
  }
  const width = Math.max(...inputs.inputIds.map((row, b) => row.length + rows.fresh[b]!.length));
  const sequences = inputs.inputIds.map((row, b) => {
    const full = [...row, ...rows.fresh[b]!];
    return [...full, ...Array(width - full.length).fill(o.padToken)];
  });
  return {
    sequences,
    ...o.outputScores && { scores },
    ...o.outputLogits && { logits },
    ...o.cache && { cache: o.cache },
  };
}

/**
 * Generates as {@linkcode generate} does, and yields each step as soon as it is there. Leaving the loop stops the run.
 *
 * @example
 * ```ts
 * import { loadModel, loadTokenizer, stream } from "@tensaur/tensaur";
 * using model = await loadModel("models/tensaur-tiny");
 * const tokenizer = await loadTokenizer("models/tensaur-tiny");
 * for await (const { text } of stream(model, tokenizer("Once upon a time"), { tokenizer, maxNewTokens: 16 })) {
 *   await Deno.stdout.write(new TextEncoder().encode(text));
 * }
 * ```
 */
export async function* stream(
  model: Model,
  inputs: ModelInputs,
  options: GenerationOptions = {},
): AsyncGenerator<StreamStep> {
  const { rows, o, steps } = prepare(model, inputs, options);
  const text = rows.prompts.length === 1 ? o.tokenizer?.tokenStream({ skipSpecialTokens: true }) : undefined;
  for await (const { shown } of steps) {
    yield { tokens: shown, ...text && { text: text.put(shown[0]!) } };
  }
  const rest = text?.end();
  if (rest) yield { tokens: [], text: rest };
}

interface Prepared {
  rows: Rows;
  o: ResolvedOptions;
  steps: AsyncGenerator<{ step: Step; shown: number[] }>;
}

/** Checks everything before anything runs. */
function prepare(model: Model, inputs: ModelInputs, options: GenerationOptions): Prepared {
  if (model.task !== "causal-lm") {
    throw new ValueError(`Cannot generate as the model must be a causal language model: its task is "${model.task}"`);
  }
  const prompts = realTokens(inputs, model.sizes.vocabSize);
  const o = resolveOptions(model, options, Math.max(...prompts.map((row) => row.length)));
  const rows = new Rows(prompts, o);
  return { rows, o, steps: run(model, rows, o) };
}

async function* run(model: Model, rows: Rows, o: ResolvedOptions): Prepared["steps"] {
  const cache = o.cache ?? model.newCache();
  try {
    if (o.cache) reuse(cache, rows.prompts);
    using decoder = new Decoder(model, rows.prompts, cache, o);
    try {
      for await (const step of decode(decoder, o)) {
        const shown = rows.accept(step.tokens, decoder.ids);
        yield { step, shown };
        if (rows.done.every(Boolean)) break;
      }
    } finally {
      if (o.cache && !model.device.guard.error) cropTo(cache, decoder.ids);
      await decoder.settled();
    }
  } finally {
    if (!o.cache) cache[Symbol.dispose]();
  }
}

/** The last token of each row has not been run: the cache ends before it. */
function cropTo(cache: Cache, ids: readonly number[][]): void {
  if (cache.lengths.length) cache.crop(cache.lengths.map((n, b) => Math.min(n, ids[b]!.length - 1)));
}

/** A cache that holds whole prompts gives back their last tokens: something must run. */
function reuse(cache: Cache, prompts: readonly number[][]): void {
  if (cache.lengths.length === prompts.length) cropTo(cache, prompts);
}

function realTokens({ inputIds, attentionMask }: ModelInputs, vocabSize: number): number[][] {
  if (inputIds.length === 0) throw new ShapeError("Cannot generate as inputIds must have at least one row: none came");
  return inputIds.map((row, b) => {
    const mask = attentionMask?.[b];
    if (attentionMask && mask?.length !== row.length) {
      throw new ShapeError(
        `Cannot generate as attentionMask must have the shape of inputIds: row ${b} has ${mask?.length} against ${row.length}`,
      );
    }
    const ids = mask ? row.filter((_, i) => mask[i]) : [...row];
    if (ids.length === 0) throw new ValueError(`Cannot generate as each row must have a token: row ${b} has none`);
    const bad = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
    if (bad === undefined) return ids;
    throw new ValueError(
      `Cannot generate as inputIds must be whole numbers from 0 to ${
        vocabSize - 1
      }: current value is ${bad} in row ${b}`,
      { hint: "Use the tokenizer that belongs to the model." },
    );
  });
}
