/**
 * Processors that look at numbers alone (semantics: G-36, G-42).
 *
 * @module
 */
import { finiteLogits, finiteLogitsReference } from "../../ops/finite_logits.ts";
import { logSoftmax } from "../../ops/mod.ts";
import { perRow, type ProcessorOf } from "./processor.ts";

/** `removeInvalidValues`: NaN becomes 0, infinities the largest and the least number. */
export const removeInvalid: ProcessorOf = (o, c) =>
  o.removeInvalidValues
    ? { name: "removeInvalidValues", host: perRow(c, finiteLogitsReference), gpu: () => finiteLogits }
    : undefined;

/** `renormalizeLogits`: log-probabilities. */
export const renormalize: ProcessorOf = (o, c) =>
  o.renormalizeLogits
    ? { name: "renormalizeLogits", host: perRow(c, logSoftmaxRow), gpu: () => (scores) => logSoftmax(scores) }
    : undefined;

/** Log-probabilities of a row, in place; NaN anywhere makes all of them NaN. */
export function logSoftmaxRow(scores: Float32Array): void {
  const top = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = scores.reduce((total, x) => total + Math.exp(x - top), 0);
  const shift = top + Math.log(sum);
  for (let i = 0; i < scores.length; i++) scores[i]! -= shift;
}
