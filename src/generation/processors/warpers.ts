/**
 * What sampling draws from: temperature, top-k, top-p, min-p (semantics: G-28, G-29). On the GPU these four are one kernel
 * with the draw; these are their plain forms. NaN counts as -infinity from the first of them on.
 *
 * @module
 */
import type { ResolvedOptions } from "../options.ts";
import { NEG, perRow, type Processor, type ProcessorContext, type ProcessorOf } from "./processor.ts";

/** Tokens that a warper keeps in any case: beams need one that does not end the sequence. */
export function leastKept({ numBeams, eosTokenIds }: ResolvedOptions): number {
  return numBeams > 1 ? Math.max(1, eosTokenIds.length) + 1 : 1;
}

/** `temperature`: divides the logits. */
export const temperature: ProcessorOf = (o, c) => {
  if (o.temperature === 1) return;
  const divide = (scores: Float32Array) => {
    for (let i = 0; i < scores.length; i++) scores[i] = scores[i]! > NEG ? scores[i]! / o.temperature : -Infinity;
  };
  return { name: "temperature", host: perRow(c, divide) };
};

/** `topK`: the k largest logits and those equal to the last of them. */
export const topK: ProcessorOf = (o, c) =>
  o.topK === 0 ? undefined : warper("topK", c, () => Math.max(o.topK, leastKept(o)) - 1);

/** `topP`: the most probable tokens until their probabilities sum up to p, and those equal to the last of them. */
export const topP: ProcessorOf = (o, c) => {
  if (o.topP >= 1) return;
  return warper("topP", c, (ranked) => {
    let above = 0;
    const crossing = softmaxOf(ranked).findIndex((p) => (above += p) >= o.topP);
    return Math.max(crossing === -1 ? ranked.length - 1 : crossing, leastKept(o) - 1);
  });
};

/** `minP`: tokens at least so probable as this share of the most probable one. */
export const minP: ProcessorOf = (o, c) => {
  const share = o.minP;
  if (share === null) return;
  return warper("minP", c, (ranked) => {
    const p = softmaxOf(ranked), dropped = p.findIndex((x) => x < share * p[0]!);
    return Math.max(dropped === -1 ? ranked.length - 1 : dropped - 1, leastKept(o) - 1);
  });
};

/** Keeps what is not below the score whose place in descending order `lastOf` names; the rest becomes -infinity. */
function warper(name: string, c: ProcessorContext, lastOf: (ranked: Float32Array) => number): Processor {
  return {
    name,
    host: perRow(c, (scores) => {
      const ranked = scores.filter((x) => x > NEG).sort().reverse();
      const least = ranked[Math.min(lastOf(ranked), ranked.length - 1)] ?? Infinity;
      for (let i = 0; i < scores.length; i++) if (!(scores[i]! >= least)) scores[i] = -Infinity;
    }),
  };
}

function softmaxOf(ranked: Float32Array): number[] {
  const weights = Array.from(ranked, (x) => Math.exp(x - ranked[0]!));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((x) => x / sum);
}
