/**
 * Tokens that a function of the caller allows (semantics: G-38).
 *
 * @module
 */
import { ValueError } from "../../errors.ts";
import { perRow, type ProcessorOf } from "./processor.ts";

/**
 * `prefixAllowedTokensFn`: all other tokens are forbidden. It is the caller's code, so each step waits for the host.
 *
 * @throws {ValueError} when it allows none
 */
export const prefixAllowed: ProcessorOf = ({ prefixAllowedTokensFn: allowedAfter }, c) => {
  if (!allowedAfter) return;
  return {
    name: "prefixAllowedTokensFn",
    host: perRow(c, (scores, { ids, prompt }) => {
      const allowed = allowedAfter(prompt, ids);
      if (allowed.length === 0) {
        throw new ValueError(
          `\`prefixAllowedTokensFn\` returned an empty list for batch ID ${prompt}. This means that the constraint is ` +
            "unsatisfiable. Please check your implementation of `prefixAllowedTokensFn`.",
        );
      }
      const kept = allowed.map((id) => [id, scores[id]!] as const);
      scores.fill(-Infinity);
      for (const [id, x] of kept) scores[id] = x;
    }),
  };
};
