/**
 * Processors of the caller.
 *
 * @module
 */
import { perRow, type ProcessorOf } from "./processor.ts";

/** `logitsProcessor`: the caller's closures, in order; each step waits for the host. */
export const custom: ProcessorOf = ({ logitsProcessor = [] }, c) => {
  if (logitsProcessor.length === 0) return;
  return {
    name: "logitsProcessor",
    host: perRow(c, (scores, { ids }) => {
      for (const process of logitsProcessor) {
        const given = process(ids, scores);
        if (given && given !== scores) scores.set(given);
      }
    }),
  };
};
