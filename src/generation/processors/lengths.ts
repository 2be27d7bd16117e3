/**
 * Forced first and last tokens, and an end that becomes likelier (semantics: G-35, G-36).
 *
 * @module
 */
import { forceTokens, forceTokensReference } from "../../ops/force_tokens.ts";
import { lengthDecay, lengthDecayReference } from "../../ops/length_decay.ts";
import { longestOf, perRow, type Processor, type ProcessorContext, type ProcessorOf } from "./processor.ts";

/** `forcedBosTokenId`: the token after a prompt of one. */
export const forcedBos: ProcessorOf = (o, c) => {
  if (o.forcedBosTokenId === null || longestOf(c) !== 1) return;
  return forced("forcedBosTokenId", [o.forcedBosTokenId], 0, c);
};

/** `forcedEosTokenId`: the last token before `maxLength`. */
export const forcedEos: ProcessorOf = (o, c) => {
  if (o.forcedEosTokenId === null) return;
  return forced("forcedEosTokenId", [o.forcedEosTokenId].flat(), o.maxLength - longestOf(c) - 1, c);
};

/** `exponentialDecayLengthPenalty`: after `start` new tokens, `|logit| · (factor^k - 1)` is added to the end's. */
export const exponentialDecay: ProcessorOf = (o, c) => {
  if (o.exponentialDecayLengthPenalty === null || o.eosTokenIds.length === 0) return;
  const [start, factor] = o.exponentialDecayLengthPenalty, ends = o.eosTokenIds;
  return {
    name: "exponentialDecayLengthPenalty",
    host: perRow(c, (scores, { step }) => lengthDecayReference(scores, ends, step - start, factor)),
    gpu: ({ put, step }) => {
      const settings = put([start, ...ends]), by = put([factor], "float32");
      return (scores) => lengthDecay(scores, settings, by, step);
    },
  };
};

function forced(name: string, ids: readonly number[], at: number, c: ProcessorContext): Processor {
  return {
    name,
    host: perRow(c, (scores, { step }) => {
      if (step === at) forceTokensReference(scores, ids);
    }),
    gpu: ({ put, step }) => {
      const settings = put([at, ...ids]);
      return (scores) => forceTokens(scores, settings, step);
    },
  };
}
