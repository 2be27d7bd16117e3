/**
 * When a row ends: end-of-sequence tokens, stop strings, the caller's own criteria.
 *
 * @module
 */
import type { ResolvedOptions, StoppingCriterion, TextCodec } from "./options.ts";

/**
 * The criterion of stop strings: a row ends when one of them occurs in its text and its last character came with the last
 * token (semantics: G-44).
 */
export function stopStringCriterion(
  stops: readonly string[],
  tokenizer: TextCodec,
  promptLength: number,
): StoppingCriterion {
  const longest = Math.max(...stops.map((stop) => stop.length));
  return (ids) => {
    // A token is at least one byte and a character at most four: so many tokens hold the longest stop string.
    const from = Math.max(promptLength, ids.length - 1 - 4 * longest);
    const before = tokenizer.decode(ids.slice(from, -1)), text = tokenizer.decode(ids.slice(from));
    return stops.some((stop) => text.indexOf(stop, Math.max(0, before.length - stop.length + 1)) !== -1);
  };
}

/** All criteria of one row but its end-of-sequence tokens and its length. */
export function criteriaOf(o: ResolvedOptions, promptLength: number): StoppingCriterion[] {
  const own = [...o.stoppingCriteria ?? []];
  return o.tokenizer && o.stops.length ? [stopStringCriterion(o.stops, o.tokenizer, promptLength), ...own] : own;
}
