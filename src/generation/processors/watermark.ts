/**
 * A watermark in the choice of tokens (semantics: G-41).
 *
 * @module
 */
import { watermarkLogits, watermarkLogitsReference, watermarkWords } from "../../ops/watermark_logits.ts";
import { perRow, type ProcessorOf } from "./processor.ts";

/** `watermarkingConfig`: green tokens are made likelier; rows that are too short yet are left as they are. */
export const watermark: ProcessorOf = ({ watermarkingConfig: config }, c) => {
  if (!config) return;
  return {
    name: "watermarkingConfig",
    host: perRow(c, (scores, { ids }) => watermarkLogitsReference(scores, ids, config)),
    gpu: ({ history, put }) => {
      const past = history(), settings = put([...watermarkWords(config)]);
      return (scores) => watermarkLogits(scores, past, settings);
    },
  };
};
