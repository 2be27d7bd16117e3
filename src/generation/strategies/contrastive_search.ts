/**
 * Contrastive search.
 *
 * @module
 */
import { throwIfAborted } from "../../errors.ts";
import { argmax, logSoftmax, topK } from "./math.ts";
import { pickRows, record, requestOf, type SearchContext, type SearchOptions, type SearchStep } from "./search.ts";
import type { StepOutput, StepRequest, TopTokens } from "./step_model.ts";

/** Settings of {@linkcode contrastiveSearch}. */
export interface ContrastiveOptions extends SearchOptions {
  /** α: how much likeness to what came before counts against a token. */
  penaltyAlpha: number;
  /** k: likeliest tokens among which to choose. */
  topK: number;
  /** Run one candidate of each row at a time. */
  lowMemory?: boolean | null;
}

/**
 * Of the k likeliest tokens takes the one with the greatest `(1 - α) p - α max cos(h, h')` over the hidden states h' of
 * the tokens before.
 *
 * Source: Su et al. 2022, https://arxiv.org/abs/2202.06417 (semantics: G-57)
 */
export async function* contrastiveSearch(ctx: SearchContext<ContrastiveOptions>): AsyncGenerator<SearchStep> {
  const { model, o, process, prompts } = ctx;
  const k = Math.min(o.topK, model.vocabSize);
  const ids = prompts.map((row) => [...row]);
  const request = requestOf(o, { hidden: true, top: ctx.plain ? k : undefined });
  let output = await model.forward(ids, request);
  const context = output.hidden!.map((hidden, b) => unitRows(hidden, prompts[b]!.length));
  let from = prompts.map((_, b) => b);
  for (let step = 0; step < o.newTokens; step++) {
    throwIfAborted(o.signal, "generating");
    const scores = output.top ? [] : await process(ids, output.logits.map((row) => row.slice()));
    const likeliest = output.top ?? scores.map((row) => topOf(row, k));
    const candidates = likeliest.map(({ tokens }) => Array.from(tokens));
    const trial = await tryAll(ctx, ids, candidates, from, request);
    const hidden = (b: number) => trial.hidden!.slice(b * k, (b + 1) * k);
    const best = ids.map((_, b) => bestOf(likeliest[b]!, hidden(b), context[b]!, o.penaltyAlpha));
    const tokens = best.map((i, b) => candidates[b]![i]!);
    yield { tokens, ...record(o, output, scores) };
    tokens.forEach((token, b) => {
      ids[b]!.push(token);
      context[b]!.push(...unitRows(hidden(b)[best[b]!]!, 1));
    });
    if (step + 1 === o.newTokens) break;
    from = best.map((i, b) => o.lowMemory ? b : b * k + i);
    output = o.lowMemory ? await model.forward(ids, request) : pickRows(trial, from);
  }
}

/** Runs all candidates in one pass; with `lowMemory` one of each row at a time, and the cache keeps its rows. */
async function tryAll(
  { model, o }: SearchContext<ContrastiveOptions>,
  ids: readonly (readonly number[])[],
  candidates: readonly (readonly number[])[],
  from: readonly number[],
  request: StepRequest,
): Promise<StepOutput> {
  const k = candidates[0]!.length;
  if (!o.lowMemory) {
    await model.select(from.flatMap((row) => Array<number>(k).fill(row)));
    return await model.forward(ids.flatMap((row, b) => candidates[b]!.map((token) => [...row, token])), request);
  }
  const each: Float32Array[][] = [];
  for (let i = 0; i < k; i++) {
    throwIfAborted(o.signal, "generating");
    const { hidden } = await model.forward(ids.map((row, b) => [...row, candidates[b]![i]!]), { hidden: true, top: 1 });
    each.push(hidden!);
    model.crop(ids.map((row) => row.length));
  }
  return { logits: [], hidden: ids.flatMap((_, b) => each.map((rows) => rows[b]!)) };
}

/** Which of the candidates is likely and unlike the context; of equals the likelier. */
function bestOf(
  { logProbs }: TopTokens,
  hidden: readonly Float32Array[],
  context: readonly Float32Array[],
  alpha: number,
): number {
  const values = hidden.map((state, i) => {
    const [unit] = unitRows(state, 1);
    const likeness = context.reduce((most, other) => Math.max(most, dot(unit!, other)), -Infinity);
    return (1 - alpha) * Math.exp(logProbs[i]!) - alpha * likeness;
  });
  return argmax(values);
}

/** The `k` likeliest tokens of scores [V]. */
function topOf(scores: Float32Array, k: number): TopTokens {
  const all = logSoftmax(scores), tokens = topK(all, k);
  return { tokens, logProbs: Float32Array.from(tokens, (token) => all[token]!) };
}

/** `n` rows of unit length. */
function unitRows(x: Float32Array, n: number): Float32Array[] {
  const D = x.length / n;
  return Array.from({ length: n }, (_, i) => {
    const row = x.slice(i * D, (i + 1) * D), length = Math.sqrt(dot(row, row));
    return row.map((v) => v / length);
  });
}

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, v, i) => sum + v * b[i]!, 0);
}
