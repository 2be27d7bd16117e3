/**
 * Output that follows a grammar.
 *
 * @module
 */
import type { ProcessorOf } from "./processor.ts";

/** `jsonSchema`, `regex`, `grammar`: what cannot go on to a match is forbidden; each step waits for the host. */
export const followGrammar: ProcessorOf = ({ tokenMask, eosTokenIds }, { prompts, vocabSize: V }) => {
  if (!tokenMask) return;
  return {
    name: "grammar",
    host(ids, scores) {
      const each = ids.length / prompts.length;
      for (const [r, row] of ids.entries()) {
        const fresh = row.slice(prompts[Math.floor(r / each)]!.length);
        if (fresh.some((id) => eosTokenIds.includes(id))) continue; // the row has ended
        tokenMask.apply(r, fresh, scores.subarray(r * V, (r + 1) * V));
      }
    },
  };
};
