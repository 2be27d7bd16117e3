/**
 * A watermark in the choice of tokens (semantics: G-41).
 *
 * @module
 */
import { watermarkLogits, watermarkLogitsReference, watermarkWords } from "../../ops/watermark_logits.ts";
import { synthIdLogits, synthIdLogitsReference, synthIdWords } from "../../ops/synthid_logits.ts";
import { SynthIDTextWatermarkingConfig } from "../watermarking_config.ts";
import { perRow, type Processor, type ProcessorContext, type ProcessorOf } from "./processor.ts";

/** `watermarkingConfig`: green tokens are made likelier; rows that are too short yet are left as they are. */
export const watermark: ProcessorOf = ({ watermarkingConfig: config }, c) => {
  if (!config) return;
  if (config instanceof SynthIDTextWatermarkingConfig) return synthId(config, c);
  return {
    name: "watermarkingConfig",
    host: perRow(c, (scores, { ids }) => watermarkLogitsReference(scores, ids, config)),
    gpu: ({ history, put }) => {
      const past = history(), settings = put([...watermarkWords(config)]);
      return (scores) => watermarkLogits(scores, past, settings);
    },
  };
};

function synthId(config: SynthIDTextWatermarkingConfig, c: ProcessorContext): Processor {
  return {
    name: "watermarkingConfig",
    host: perRow(c, (scores, { ids, step }) => synthIdLogitsReference(scores, ids, config, step)),
    gpu: ({ history, put, step }) => {
      const past = history(), settings = put([...synthIdWords(config)]);
      return (scores) => synthIdLogits(scores, past, settings, step);
    },
  };
}
