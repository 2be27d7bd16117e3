/**
 * The rows of a run, as the host knows them.
 *
 * @module
 */
import { ShapeError, ValueError } from "../errors.ts";
import type { ModelInputs } from "../cache/mod.ts";
import type { Model } from "../models/mod.ts";
import type { GenerationOptions, ResolvedOptions, StoppingCriterion } from "./options.ts";
import { criteriaOf } from "./stopping.ts";

/** Prompts, what came after them, and which have ended. */
export class Rows {
  /** Ids of the prompts, without padding. */
  readonly prompts: readonly (readonly number[])[];
  /** Prompts and new tokens. */
  readonly ids: number[][];
  /** New tokens. */
  readonly fresh: number[][];
  /** Whether each row has ended. */
  readonly done: boolean[];
  readonly #criteria: readonly StoppingCriterion[];
  readonly #o: ResolvedOptions;

  /** Rows before the first step. */
  constructor(
    prompts: readonly (readonly number[])[],
    o: ResolvedOptions,
    /** What the encoder reads for each prompt, where there is one that reads tokens. */
    readonly encoderIds?: readonly (readonly number[])[],
  ) {
    this.prompts = prompts;
    this.ids = prompts.map((row) => [...row]);
    this.fresh = prompts.map(() => []);
    this.done = prompts.map(() => false);
    this.#criteria = criteriaOf(o);
    this.#o = o;
  }

  /** Whether a row of these ids ends, for another reason than its last token. */
  stops(ids: readonly number[]): boolean {
    const seen = this.#o.embeds?.seen(ids) ?? ids;
    return this.#criteria.some((ends) => ends(seen));
  }

  /** Takes the tokens of a step; returns what each row shows for it. */
  accept(tokens: Iterable<number>): number[] {
    return [...tokens].map((token, b) => {
      if (this.done[b]) return this.#o.padToken;
      this.fresh[b]!.push(token);
      this.ids[b]!.push(token);
      this.done[b] = this.#o.eosTokenIds.includes(token) || this.stops(this.ids[b]!);
      return token;
    });
  }
}

/**
 * The rows of `inputs` without their padding.
 *
 * @throws {ShapeError} if the mask has another shape
 * @throws {ValueError} if a row has no token, or one that is none
 */
export function realTokens({ inputIds, attentionMask }: ModelInputs, vocabSize: number): number[][] {
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

/**
 * What a call without inputs starts from: one row of the token that begins a sequence.
 *
 * @throws {ValueError} if there is none
 */
export function fromBos(model: Model, o: GenerationOptions): ModelInputs {
  const bos = bosOf(model, o);
  if (bos !== undefined) return { inputIds: [[bos]] };
  throw new ValueError("`bosTokenId` has to be defined when no `inputIds` are provided.");
}

/** The token that begins a sequence, where there is one. */
export function bosOf(model: Model, { bosTokenId, generationConfig }: GenerationOptions): number | undefined {
  const own = model.generationConfig.bos_token_id ?? model.config.bos_token_id;
  return (bosTokenId ?? generationConfig?.bosTokenId ?? own ?? undefined) as number | undefined;
}
