/**
 * Checks of the options that hold lists of tokens (semantics: G-34).
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import type { GenerationConfigFields } from "./config_fields.ts";

const isToken = (id: unknown): boolean => Number.isSafeInteger(id) && (id as number) >= 0;
const isSequence = (ids: unknown): boolean => Array.isArray(ids) && ids.length > 0 && ids.every(isToken);

/**
 * Checks sequence biases, bad words and lists of tokens.
 *
 * @param vocabSize ids are below it, where it is known
 * @throws {ValueError} in the words of Transformers, with our names of the options
 */
export function checkBiases(o: GenerationConfigFields, vocabSize = Infinity): void {
  const { sequenceBias, badWordsIds, logitBias } = o;
  if (sequenceBias !== null) checkSequenceBias(sequenceBias);
  if (badWordsIds !== null) checkBadWords(badWordsIds);
  const pairs = Object.entries(logitBias ?? {});
  if (pairs.some(([id, bias]) => !isToken(Number(id)) || typeof bias !== "number" || Number.isNaN(bias))) {
    throw new ValueError(
      `\`logitBias\` has to be an object of tokens and floats, but is ${JSON.stringify(logitBias)}.`,
    );
  }
  const biased = [
    ...(sequenceBias ?? []).flatMap(([ids]) => ids),
    ...(badWordsIds ?? []).flat(),
    ...pairs.map(([id]) => Number(id)),
  ].filter((id) => id >= vocabSize);
  if (biased.length) {
    throw new ValueError(
      `The model vocabulary size is ${vocabSize}, but the following tokens were being biased: [${biased.join(", ")}]`,
    );
  }
  checkLists(o, vocabSize);
}

function checkSequenceBias(bias: NonNullable<GenerationConfigFields["sequenceBias"]>): void {
  const text = JSON.stringify(bias);
  if (!Array.isArray(bias) || bias.length === 0) {
    throw new ValueError(
      `\`sequenceBias\` has to be a non-empty dictionary, or non-empty list of lists but is ${text}.`,
    );
  }
  if (bias.every((pair) => isSequence(pair[0]) && typeof pair[1] === "number" && !Number.isNaN(pair[1]))) return;
  throw new ValueError(
    "Each element in `sequenceBias` has to be a non-empty list of lists of positive integers and float, but is " +
      `${text}.`,
  );
}

function checkBadWords(words: NonNullable<GenerationConfigFields["badWordsIds"]>): void {
  const text = JSON.stringify(words);
  if (!Array.isArray(words) || words.length === 0) {
    throw new ValueError(`\`badWordsIds\` has to be a non-empty list, but is ${text}.`);
  }
  if (!words.every(Array.isArray)) throw new ValueError(`\`badWordsIds\` has to be a list of lists, but is ${text}.`);
  if (words.every(isSequence)) return;
  throw new ValueError(`Each list in \`badWordsIds\` has to be a list of positive integers, but is ${text}.`);
}

/** Words to force that are lists of numbers; what they must be else, constraints check. */
function known(words: GenerationConfigFields["forceWordsIds"]): readonly number[] | null {
  const ids: unknown[] = Array.isArray(words) ? words.flat(2) : [];
  return ids.every(isToken) ? ids as number[] : null;
}

function checkLists(o: GenerationConfigFields, vocabSize: number): void {
  const lists = {
    suppressTokens: o.suppressTokens,
    beginSuppressTokens: o.beginSuppressTokens,
    forcedBosTokenId: o.forcedBosTokenId,
    forcedEosTokenId: o.forcedEosTokenId,
    forceWordsIds: known(o.forceWordsIds),
  };
  for (const [name, list] of Object.entries(lists)) {
    const bad = [list ?? []].flat().find((id) => !isToken(id) || id >= vocabSize);
    if (bad === undefined) continue;
    const below = vocabSize < Infinity ? ` below ${vocabSize}` : "";
    throw new ValueError(`\`${name}\` has to be a list of positive integers${below}, but is ${JSON.stringify(list)}`);
  }
  const decay = o.exponentialDecayLengthPenalty;
  if (decay === null || (Array.isArray(decay) && decay.length === 2 && decay.every(Number.isFinite))) return;
  throw new ValueError(
    `\`exponentialDecayLengthPenalty\` has to be a list of a start and a factor, but is ${JSON.stringify(decay)}`,
  );
}
