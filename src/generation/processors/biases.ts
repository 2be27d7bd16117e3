/**
 * Processors that add to the logits of few tokens, or forbid them: sequence bias, bad words, suppressed tokens, and the
 * end of sequence before a least length (semantics: G-34, G-35, G-37).
 *
 * @module
 */
import { biasTable, biasTokens, biasTokensReference, type TokenBias } from "../../ops/bias_tokens.ts";
import type { ResolvedOptions } from "../options.ts";
import { longestOf, perRow, type Processor, type ProcessorContext, type ProcessorOf } from "./processor.ts";

const forbid = (ids: readonly number[], when: Partial<TokenBias> = {}): TokenBias[] =>
  ids.map((id) => ({ ids: [id], bias: -Infinity, ...when }));

/** `sequenceBias` and `logitBias`. */
export const sequenceBias: ProcessorOf = (o, c) => {
  const single = Object.entries(o.logitBias ?? {}).map(([id, bias]) => ({ ids: [Number(id)], bias }));
  const unique = new Map((o.sequenceBias ?? []).map(([ids, bias]) => [ids.join(), { ids, bias }]));
  return processorOf("sequenceBias", [...unique.values(), ...single], c);
};

/** `badWordsIds`: tokens that would complete one of them are forbidden; an end of sequence alone is no bad word. */
export const badWords: ProcessorOf = (o, c) => {
  const words = (o.badWordsIds ?? []).filter((ids) => ids.length > 1 || !o.eosTokenIds.includes(ids[0]!));
  return processorOf("badWordsIds", words.map((ids) => ({ ids, bias: -Infinity })), c);
};

/** `minLength`: no end of sequence before. */
export const minLength: ProcessorOf = (o, c) => endAfter("minLength", o.minLength - longestOf(c), o, c);

/** `minNewTokens`: no end of sequence before. */
export const minNewTokens: ProcessorOf = (o, c) => endAfter("minNewTokens", o.minNewTokens ?? 0, o, c);

/** `suppressTokens`: never chosen. */
export const suppress: ProcessorOf = (o, c) => processorOf("suppressTokens", forbid(o.suppressTokens ?? []), c);

/** `beginSuppressTokens`: not chosen first, after a forced first token if there is one. */
export const beginSuppress: ProcessorOf = (o, c) => {
  const from = longestOf(c) > 1 || o.forcedBosTokenId === null ? 0 : 1;
  return processorOf("beginSuppressTokens", forbid(o.beginSuppressTokens ?? [], { from, until: from + 1 }), c);
};

function endAfter(name: string, until: number, o: ResolvedOptions, c: ProcessorContext): Processor | undefined {
  return until > 0 ? processorOf(name, forbid(o.eosTokenIds, { until }), c) : undefined;
}

function processorOf(name: string, biases: readonly TokenBias[], c: ProcessorContext): Processor | undefined {
  if (biases.length === 0) return;
  const needsHistory = biases.some(({ ids }) => ids.length > 1);
  return {
    name,
    host: perRow(c, (scores, { ids, step }) => biasTokensReference(scores, biases, ids, step)),
    gpu: ({ put, step, history }) => {
      const table = put([...biasTable(biases)]);
      const past = needsHistory ? history() : undefined;
      return (scores) => biasTokens(scores, table, step, past);
    },
  };
}
