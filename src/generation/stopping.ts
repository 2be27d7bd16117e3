/**
 * When a row ends: its length, the time, stop strings, end-of-sequence tokens, the caller's own criteria (semantics: §4.6).
 *
 * @module
 */
import type { Model } from "../models/mod.ts";
import { warnOnce } from "../warn.ts";
import type { ResolvedOptions, StoppingCriterion, TextCodec } from "./options.ts";

/**
 * The criterion of stop strings: a row ends when one of them occurs in its text, prompt included, and its last character
 * came with the last token (semantics: G-44).
 */
export function stopStringCriterion(stops: readonly string[], tokenizer: TextCodec): StoppingCriterion {
  const longest = Math.max(...stops.map((stop) => stop.length));
  return (ids) => {
    // A token is at least one byte and a character at most four: so many tokens hold the longest stop string.
    const first = Math.max(0, ids.length - 1 - 4 * longest);
    const before = tokenizer.decode(ids.slice(first, -1)), text = tokenizer.decode(ids.slice(first));
    return stops.some((stop) => text.indexOf(stop, Math.max(0, before.length - stop.length + 1)) !== -1);
  };
}

/** The criterion of `maxTime`: rows end with the first token that comes so many seconds after this call, or later. */
export function maxTimeCriterion(seconds: number, now: () => number = () => performance.now()): StoppingCriterion {
  const start = now();
  return () => now() - start > 1000 * seconds;
}

/**
 * All criteria of one row but its end-of-sequence tokens and its length, in their order; one that holds is enough.
 *
 * They begin to run with this call, which is what `maxTime` counts from.
 */
export function criteriaOf(o: ResolvedOptions): StoppingCriterion[] {
  return [
    ...o.maxTime === null ? [] : [maxTimeCriterion(o.maxTime)],
    ...o.tokenizer && o.stops.length ? [stopStringCriterion(o.stops, o.tokenizer)] : [],
    ...o.stoppingCriteria ?? [],
  ];
}

/** Reminds, once, of runs that may go past the positions that the model was made for (semantics: G-43). */
export function remindOfPositions(o: ResolvedOptions, model: Model): void {
  const most = model.sizes.maxPositionEmbeddings;
  if (o.maxLength <= most) return;
  warnOnce(
    "log",
    "This is a friendly reminder - the current text generation call will exceed the model's predefined maximum length " +
      `(${most}). Depending on the model, you may observe exceptions, performance degradation, or nothing at all.`,
  );
}
