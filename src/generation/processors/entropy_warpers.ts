/**
 * Warpers that look at the whole distribution: typical, epsilon, eta and top-h (semantics: G-30, G-31).
 *
 * @module
 */
import { cutoffLogits, cutoffLogitsReference } from "../../ops/cutoff_logits.ts";
import { topHLogits, topHLogitsReference } from "../../ops/top_h_logits.ts";
import { typicalLogits, typicalLogitsReference } from "../../ops/typical_logits.ts";
import { perRow, type Processor, type ProcessorContext, type ProcessorOf } from "./processor.ts";
import { leastKept } from "./warpers.ts";

/** `topH`: among the 100 likeliest, the largest ones that hold this share of their entropy. */
export const topH: ProcessorOf = (o, c) => {
  const share = o.topH;
  if (share === null) return;
  return {
    name: "topH",
    host: perRow(c, (scores) => topHLogitsReference(scores, share)),
    gpu: ({ put }) => {
      const by = put([share], "float32");
      return (scores) => topHLogits(scores, by);
    },
  };
};

/** `typicalP`: tokens whose information is nearest to the entropy, until they have this probability together. */
export const typicalP: ProcessorOf = (o, c) => {
  if (o.typicalP >= 1) return;
  return {
    name: "typicalP",
    host: perRow(c, (scores) => typicalLogitsReference(scores, o.typicalP, leastKept(o))),
    gpu: ({ put }) => {
      const by = put([o.typicalP], "float32");
      return (scores) => typicalLogits(scores, by);
    },
  };
};

/** `epsilonCutoff`: tokens at least so probable. */
export const epsilonCutoff: ProcessorOf = (o, c) => cutoff("epsilonCutoff", o.epsilonCutoff, leastKept(o), c);

/** `etaCutoff`: the same, with a bound that falls with the entropy. */
export const etaCutoff: ProcessorOf = (o, c) => cutoff("etaCutoff", o.etaCutoff, leastKept(o), c);

function cutoff(
  name: "epsilonCutoff" | "etaCutoff",
  bound: number,
  keep: number,
  c: ProcessorContext,
): Processor | undefined {
  if (!(bound > 0 && bound < 1)) return;
  const byEntropy = name === "etaCutoff";
  return {
    name,
    host: perRow(c, (scores) => cutoffLogitsReference(scores, bound, byEntropy, keep)),
    gpu: ({ put }) => {
      const settings = put([bound, Number(byEntropy)], "float32");
      return (scores) => cutoffLogits(scores, settings);
    },
  };
}
