/**
 * What classifier-free guidance goes away from.
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import type { ResolvedOptions } from "./options.ts";
import { realTokens } from "./rows.ts";

/**
 * A negative prompt of each row: `negativePromptIds` without padding, as often as there are rows for each; by default the
 * last token of each prompt.
 *
 * @throws {ValueError} if there are not as many as prompts, or one holds no token or an id that is none
 * @throws {ShapeError} if the mask has another shape
 */
export function negativePrompts(
  { negativePromptIds, negativePromptAttentionMask }: ResolvedOptions,
  rows: readonly (readonly number[])[],
  vocabSize: number,
): number[][] {
  if (!negativePromptIds) return rows.map((row) => row.slice(-1));
  const inputs = { inputIds: negativePromptIds, attentionMask: negativePromptAttentionMask };
  const given = realTokens(inputs, vocabSize);
  if (rows.length % given.length === 0) return rows.map((_, b) => given[Math.floor(b * given.length / rows.length)]!);
  throw new ValueError(
    `Cannot guide as negativePromptIds must have a row for each prompt: it has ${given.length} for ${rows.length}`,
  );
}
