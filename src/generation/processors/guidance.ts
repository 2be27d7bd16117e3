/**
 * Classifier-free guidance (semantics: G-40).
 *
 * @module
 */
import { RuntimeError } from "../../errors.ts";
import { guideLogits, guideLogitsReference } from "../../ops/guide_logits.ts";
import { logSoftmax } from "../../ops/mod.ts";
import type { ProcessorOf } from "./processor.ts";
import { logSoftmaxRow } from "./values.ts";

/**
 * `guidanceScale`: from the log-probabilities after the negative prompt, so many times the way to those after the prompt.
 *
 * @throws {RuntimeError} on the host, where the step has no `unconditional` logits
 */
export const guidance: ProcessorOf = ({ guidanceScale: scale }, { vocabSize: V }) => {
  if (scale === null || scale === 1) return;
  return {
    name: "guidanceScale",
    host: (ids, scores, step) => {
      if (step?.unconditional?.length !== scores.length) {
        throw new RuntimeError("Cannot guide as each step must have logits after the negative prompt: none came");
      }
      const from = step.unconditional.slice();
      for (let r = 0; r < ids.length; r++) {
        for (const rows of [scores, from]) logSoftmaxRow(rows.subarray(r * V, (r + 1) * V));
      }
      guideLogitsReference(scores, from, scale);
    },
    gpu: ({ put, unconditional }) => {
      const by = put([scale], "float32");
      return (scores) => guideLogits(logSoftmax(scores), logSoftmax(unconditional()), by);
    },
  };
};
