/**
 * Rules for Whisper's timestamps, which are the tokens from one on.
 *
 * @module
 */
import type { LogitsProcessor } from "../options.ts";

/** What a Whisper model's tokens mean. */
export interface WhisperTimestampSettings {
  /** Tokens before the text: language, task and the like. */
  beginIndex: number;
  /** Ends a text; text tokens are below it. */
  eosTokenId: number;
  /** Says that no timestamps come; the one after it is the time 0. */
  noTimestampsTokenId: number;
  /** The last timestamp that may come first, counted from 0; null for any. */
  maxInitialTimestampIndex?: number | null;
}

/**
 * A processor under which timestamps come first, in pairs and in order, and whenever they are together likelier than any
 * text token.
 *
 * Source: https://arxiv.org/abs/2212.04356
 *
 * @example
 * ```ts
 * import { whisperTimestamps } from "@tensaur/tensaur";
 * const rules = whisperTimestamps({ beginIndex: 1, eosTokenId: 3, noTimestampsTokenId: 4 });
 * const scores = new Float32Array(8);
 * rules([2], scores); // a timestamp comes first
 * console.log(scores.indexOf(0)); // 5
 * ```
 */
export function whisperTimestamps(s: WhisperTimestampSettings): LogitsProcessor {
  const first = s.noTimestampsTokenId + 1;
  return (ids, scores) => {
    const past = ids.slice(s.beginIndex), isTime = (id: number | undefined) => id !== undefined && id >= first;
    const last = past.findLast(isTime), afterTime = isTime(past.at(-1));
    const paired = past.length < 2 || isTime(past.at(-2));
    scores[s.noTimestampsTokenId] = -Infinity;
    if (afterTime && paired) scores.fill(-Infinity, first); // text follows a pair
    if (afterTime && !paired) scores.fill(-Infinity, 0, s.eosTokenId); // a pair is completed
    // time never goes back, and stands still only within a pair
    if (last !== undefined) scores.fill(-Infinity, first, afterTime && !paired ? last : last + 1);
    if (past.length === 0) {
      scores.fill(-Infinity, 0, first);
      scores.fill(-Infinity, first + (s.maxInitialTimestampIndex ?? scores.length) + 1);
    }
    preferTimestamps(scores, first);
  };
}

/** Forbids text where all timestamps together are likelier than the likeliest text token. */
function preferTimestamps(scores: Float32Array, first: number): void {
  const times = scores.subarray(first), most = times.reduce((a, b) => Math.max(a, b), -Infinity);
  if (most === -Infinity) return;
  const together = most + Math.log(times.reduce((sum, x) => sum + Math.exp(x - most), 0));
  if (together > scores.subarray(0, first).reduce((a, b) => Math.max(a, b), -Infinity)) {
    scores.fill(-Infinity, 0, first);
  }
}
