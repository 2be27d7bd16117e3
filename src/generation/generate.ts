/**
 * `generate` and `stream`.
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import type { ModelInputs } from "../cache/mod.ts";
import type { EncoderDecoderInputs, Model } from "../models/mod.ts";
import { compileConstraint } from "./grammar/constrain.ts";
import { healTokens } from "./heal_tokens.ts";
import { HeldCache } from "./held_cache.ts";
import type { GenerationOptions, ResolvedOptions } from "./options.ts";
import { beamOutput, type GenerateOutput, recordsOf, sequencesOf } from "./outputs.ts";
import { onDevice, seenLengths } from "./prompt_embeds.ts";
import { resolveOptions } from "./resolve.ts";
import { type GenerationInputs, promptsOf } from "./prompts.ts";
import { Rows } from "./rows.ts";
import { checkStrategy, chooseStrategy, isBeamSearch, type Strategy } from "./strategies/choose_strategy.ts";
import type { BeamResult } from "./strategies/beam_search.ts";
import type { SearchStep, StepRecord } from "./strategies/search.ts";
import { searchBeams, searchSteps } from "./strategies/start.ts";

/** What {@linkcode stream} yields. */
export interface StreamStep {
  /** A token of each row; rows that have ended give the pad token. */
  tokens: number[];
  /** With `tokenizer` and one row: the text that the token finished, special tokens left out. */
  text?: string;
}

/**
 * Generates token ids after the prompts.
 *
 * An encoder-decoder reads its inputs once; its `sequences` are the decoder's, which begin with `decoderInputIds` or else
 * with `decoderStartTokenId`.
 *
 * A decoder's prompts may also come as `inputsEmbeds`; its sequences then hold new tokens only, behind `inputIds` if these
 * are given too. Inputs on another device than the model's are copied, with a warning.
 *
 * Prompts may have different lengths, padded on either side with `attentionMask` or not at all. The options choose the
 * strategy: greedy search, or sampling (`doSample`), beam search (`numBeams`, with `doSample` beam sampling), diverse beam
 * search (`numBeamGroups`), constrained beam search (`forceWordsIds`, `constraints`), contrastive search (`penaltyAlpha`,
 * `topK`), DoLa (`dolaLayers`), assisted decoding (`assistantModel`), prompt lookup (`promptLookupNumTokens`).
 *
 * Source: Transformers' `generate`.
 *
 * @param inputs prompts; without them, one row begins with the model's first token
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
  inputs?: GenerationInputs,
  options: GenerationOptions = {},
): Promise<GenerateOutput> {
  using here = await onDevice(model, inputs);
  const run = await prepare(model, here.inputs, options), { o, given } = run;
  using _ = o.tokenMask = await compileConstraint(o, model.sizes.vocabSize);
  const held = new HeldCache(run), { vocabSize } = model.sizes;
  if (isBeamSearch(run.strategy)) {
    const result = await runBeams(run, held);
    return { ...beamOutput(given, result, o), ...await held.encoded, vocabSize, ...held.given };
  }
  const records: StepRecord[] = [];
  for await (const { step } of runSteps(run, held)) records.push(step);
  const rows = given.flatMap((row) => Array<typeof row>(run.copies).fill(row));
  const sequences = sequencesOf(rows, run.rows.fresh, o.padToken);
  return { ...sequences, ...recordsOf(o, records), ...await held.encoded, vocabSize, ...held.given };
}

/**
 * Generates as {@linkcode generate} does, and yields each step as soon as it is there. Leaving the loop stops the run.
 *
 * @throws {ValueError} as `generate`, and for beam searches, whose tokens are known only at the end
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
  inputs?: GenerationInputs,
  options: GenerationOptions = {},
): AsyncGenerator<StreamStep> {
  using here = await onDevice(model, inputs);
  const run = await prepare(model, here.inputs, options), { o, rows, strategy } = run;
  if (isBeamSearch(strategy)) {
    throw new ValueError("`streamer` cannot be used with beam search (yet!). Make sure that `numBeams` is set to 1.");
  }
  using _ = o.tokenMask = await compileConstraint(o, model.sizes.vocabSize);
  const text = rows.prompts.length === 1 ? o.tokenizer?.tokenStream({ skipSpecialTokens: true }) : undefined;
  for await (const { shown } of runSteps(run)) {
    yield { tokens: shown, ...text && { text: text.put(shown[0]!) } };
  }
  const rest = text?.end();
  if (rest) yield { tokens: [], text: rest };
}

interface Run {
  model: Model;
  strategy: Strategy;
  rows: Rows;
  o: ResolvedOptions;
  /** Rows for each prompt. */
  copies: number;
  /** The prompts as they came. */
  given: readonly (readonly number[])[];
  /** What the encoder reads, where there is one. */
  encoder?: EncoderDecoderInputs;
}

/** Checks everything before anything runs, but for the last tokens of prompts that are chosen anew. */
async function prepare(
  model: Model,
  inputs: GenerationInputs | undefined,
  options: GenerationOptions,
): Promise<Run> {
  if (model.task !== "causal-lm" && model.task !== "seq2seq-lm") {
    throw new ValueError(`Cannot generate as the model must be a causal language model: its task is "${model.task}"`);
  }
  const { prompts, given, embeds, encoder, encoderIds } = promptsOf(model, inputs, options);
  const longest = Math.max(...prompts.map((row) => row.length));
  const o: ResolvedOptions = { ...resolveOptions(model, options, longest), embeds };
  if (embeds) Object.assign(o, seenLengths(o, longest));
  const strategy = chooseStrategy(o), copies = isBeamSearch(strategy) ? 1 : o.numReturnSequences;
  checkStrategy(strategy, o, model, prompts.length);
  if (o.tokenHealing && inputs) {
    const healed = await healTokens(model, inputs as ModelInputs, o);
    return await prepare(model, healed, { ...options, seed: o.seed, tokenHealing: false });
  }
  const each = (rows: number[][]) => rows.flatMap((row) => Array<number[]>(copies).fill(row));
  const rows = new Rows(each(prompts), o, encoderIds && each(encoderIds));
  return { model, strategy, rows, o, copies, given, encoder };
}

/** The steps of a strategy that gives tokens as it goes, and what each row shows for them. */
async function* runSteps(run: Run, held = new HeldCache(run)): AsyncGenerator<{ step: SearchStep; shown: number[] }> {
  const { rows, o: { streamer } } = run;
  await using cache = held;
  try {
    streamer?.put(rows.prompts.map((row) => run.o.embeds?.seen(row) ?? row));
    let round: number[][] = rows.prompts.map(() => []);
    for await (const step of searchSteps(run.strategy, cache.start)) {
      const shown = rows.accept(step.tokens), ended = rows.done.every(Boolean);
      cache.keeps = rows.ids.map((row) => row.length - 1);
      round.forEach((tokens, b) => tokens.push(shown[b]!));
      if (!step.more || ended) {
        streamer?.put(round);
        round = rows.prompts.map(() => []);
      }
      yield { step, shown };
      if (ended) break;
    }
    cache.finished = true;
  } finally {
    streamer?.end();
  }
}

async function runBeams(run: Run, held: HeldCache): Promise<BeamResult> {
  await using cache = held;
  const result = await searchBeams(run.strategy, cache.start);
  cache.finished = true;
  return result;
}
