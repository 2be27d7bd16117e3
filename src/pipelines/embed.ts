import { ValueError } from "../errors.ts";
import type { Model } from "../models/mod.ts";
import { normalize as normalizeRows, poolRows } from "../ops/mod.ts";
import { tidy } from "../tensor/mod.ts";
import { NoCache, unpad } from "../cache/mod.ts";

/** What {@linkcode embed} needs of a tokenizer; the library's `Tokenizer` is one. */
export type TextEncoderLike = (
  texts: string[],
  options: { truncation: boolean; maxLength: number },
) => { inputIds: number[][]; attentionMask?: number[][]; tokenTypeIds?: number[][] };

/** How {@linkcode embed} makes one vector of a text. */
export interface EmbedOptions {
  /** Mean of the tokens, or the first or last one's. Default "mean". */
  pooling?: "mean" | "cls" | "last";
  /** Scale to length 1. Default true. */
  normalize?: boolean;
  /** Most tokens of a text; the rest is cut off. Default: what the model allows. */
  maxLength?: number;
  /** Most tokens in one pass. Default 8192. */
  batchTokens?: number;
}

/**
 * Sentence embeddings: one vector a text. Texts of different lengths run packed, without padding.
 *
 * Source: https://arxiv.org/abs/1908.10084
 *
 * @returns [texts][hiddenSize]
 * @throws {ValueError} if a text has no tokens, or an option is out of range
 *
 * @example
 * ```ts ignore
 * const model = await loadModel("sentence-transformers/all-MiniLM-L6-v2");
 * const tokenizer = await loadTokenizer("sentence-transformers/all-MiniLM-L6-v2");
 * const [a, b] = await embed(model, tokenizer, ["A dog barks.", "Ein Hund bellt."]);
 * ```
 */
export async function embed(
  model: Model,
  tokenizer: TextEncoderLike,
  texts: readonly string[],
  { pooling = "mean", normalize = true, maxLength, batchTokens = 8192 }: EmbedOptions = {},
): Promise<number[][]> {
  if (!(batchTokens > 0)) {
    throw new ValueError(`Cannot embed as batchTokens must be a positive number: current value is ${batchTokens}`);
  }
  if (texts.length === 0) return [];
  const limit = Math.min(maxLength ?? Infinity, model.sizes.maxPositionEmbeddings);
  const { inputIds, attentionMask, tokenTypeIds } = tokenizer([...texts], { truncation: true, maxLength: limit });
  const vectors: number[][] = [];
  for (const rows of byTokens(inputIds, batchTokens)) {
    const only = (all: number[][] | undefined) => all && rows.map((b) => all[b]!);
    const inputs = {
      inputIds: rows.map((b) => inputIds[b]!),
      attentionMask: only(attentionMask),
      tokenTypeIds: only(tokenTypeIds),
    };
    using batch = unpad(model.device, inputs, [], model.sizes).batch;
    const empty = batch.lengths.indexOf(0);
    if (empty !== -1) throw new ValueError(`Cannot embed text ${rows[empty]} as it must have a token: it has none`);
    using pooled = tidy(model.device, () => {
      const mean = poolRows(model.hidden(batch, new NoCache({ dtype: model.cacheDtype })), batch.cuSeqlens, pooling); // [B, D]
      return normalize ? normalizeRows(mean) : mean;
    });
    const flat = await pooled.read(), D = pooled.shape[1]!;
    for (const [i] of rows.entries()) vectors.push([...flat.subarray(i * D, (i + 1) * D)]);
  }
  return vectors;
}

/** Groups rows so that each group has at most `most` tokens, or one row. */
function byTokens(rows: readonly (readonly number[])[], most: number): number[][] {
  const groups: number[][] = [];
  let tokens = 0;
  for (const [i, row] of rows.entries()) {
    if (groups.length === 0 || tokens + row.length > most) {
      groups.push([]);
      tokens = 0;
    }
    groups.at(-1)!.push(i);
    tokens += row.length;
  }
  return groups;
}
