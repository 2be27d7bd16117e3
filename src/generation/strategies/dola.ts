/**
 * DoLa: decoding by contrasting layers.
 *
 * @module
 */
import { throwIfAborted, ValueError } from "../../errors.ts";
import { argmax, logSoftmax } from "./math.ts";
import { record, requestOf, type SearchContext, type SearchOptions, type SearchStep, tokenOf } from "./search.ts";

/** Layers that the last one is contrasted with: the lower or the upper half, or a list. */
export type DolaLayers = "low" | "high" | readonly number[];

/** Settings of {@linkcode dola}. */
export interface DolaOptions extends SearchOptions {
  /** See {@linkcode DolaLayers}. */
  dolaLayers: DolaLayers;
}

const RELATIVE_TOP = 0.1; // tokens less likely than this share of the likeliest are out

/**
 * The layers to look at, of a model of `layers` layers; 0 stands for the embeddings.
 *
 * @throws {ValueError} if `which` is no such choice
 */
export function dolaLayersOf(which: DolaLayers, layers: number, tied: boolean): number[] {
  const range = (from: number, to: number) => {
    return Array.from({ length: Math.max(0, Math.ceil((to - from) / 2)) }, (_, i) => from + 2 * i);
  };
  const start = tied ? [0, 0, 1][layers] ?? 2 : 0, half = Math.floor(layers / 2);
  if (Array.isArray(which)) return which.filter((layer) => layer < layers);
  if (which === "low") return start === half ? [start] : range(start, layers <= 40 ? half : 20);
  if (which === "high") return range(layers <= 40 ? half : layers - 20, layers);
  throw new ValueError("dolaLayers must be either 'low', 'high' or a list of integers.");
}

/**
 * Greedy search or sampling from `log p - log p'`, p' being the distribution of that earlier layer which differs most.
 *
 * Source: Chuang et al. 2023, https://arxiv.org/abs/2309.03883 (semantics: G-58)
 */
export async function* dola(ctx: SearchContext<DolaOptions>): AsyncGenerator<SearchStep> {
  const { model, o, process } = ctx;
  const layers = dolaLayersOf(o.dolaLayers, model.layers, model.tied);
  const ids = ctx.prompts.map((row) => [...row]);
  for (let step = 0; step < o.newTokens; step++) {
    throwIfAborted(o.signal, "generating");
    const output = await model.forward(ids, requestOf(o, { layers }));
    const scores = await process(ids, contrast(output.logits, output.layers!));
    const tokens = scores.map((row, b) => tokenOf(row, o, step, b));
    yield { tokens, ...record(o, output, scores) };
    tokens.forEach((token, b) => ids[b]!.push(token));
  }
}

/** Scores [V] of each row: the final layer against the one of `earlier` that differs most over all rows. */
export function contrast(
  final: readonly Float32Array[],
  earlier: readonly (readonly Float32Array[])[],
): Float32Array[] {
  const distances = earlier.map((rows) => rows.reduce((sum, row, b) => sum + divergence(final[b]!, row), 0));
  const other = earlier[argmax(distances)]!;
  return final.map((row, b) => {
    const mature = logSoftmax(row), early = logSoftmax(other[b]!);
    const least = mature[argmax(mature)]! + Math.log(RELATIVE_TOP);
    return mature.map((v, i) => v < least ? -Infinity : v - early[i]!);
  });
}

/** Jensen-Shannon divergence over V, times 2. */
function divergence(a: Float32Array, b: Float32Array): number {
  const p = logSoftmax(a), q = logSoftmax(b);
  return p.reduce((sum, x, i) => {
    const y = q[i]!, m = (Math.exp(x) + Math.exp(y)) / 2, log = Math.log(m);
    return m === 0 ? sum : sum + m * (log - x) + m * (log - y);
  }, 0) / p.length;
}
