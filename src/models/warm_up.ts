/**
 * The kernels of a model, found by a pass that runs none of them.
 *
 * @module
 */
import { NoCache, packBatch } from "../cache/mod.ts";
import type { KernelVariant } from "../gpu/mod.ts";
import { tidy } from "../tensor/mod.ts";
import type { Model } from "./model.ts";

/**
 * The kernels that are not compiled yet of passes over batches whose sequences have these lengths, in order of first
 * use; of a causal language model with a cache and logits of the last tokens.
 */
export function passKernels(model: Model, batches: readonly (readonly number[])[]): KernelVariant[] {
  model.prepareReplay(1, Math.max(...batches.flat())); // the rotary table outlives the pass
  return model.device.kernels.collect(() => {
    for (const lengths of batches) emptyPass(model, lengths);
  });
}

/** Compiles the kernels of prompts of these lengths and, of a causal language model, of a decode step. */
export async function warmUp(model: Model, lengths: readonly number[], signal?: AbortSignal): Promise<void> {
  const fits = lengths.filter((n) => n >= 1 && n <= model.sizes.maxPositionEmbeddings);
  if (fits.length === 0) return;
  const batches = model.task === "causal-lm" ? [...fits, 1] : fits;
  await model.device.kernels.compile(passKernels(model, batches.map((n) => [n])), signal);
}

/** A pass over tokens of no meaning, whose results nobody reads. */
function emptyPass(model: Model, lengths: readonly number[]): void {
  const causal = model.task === "causal-lm", total = lengths.reduce((sum, n) => sum + n, 0);
  const positions = lengths.flatMap((n) => [...Array(n).keys()]);
  using cache = causal ? model.newCache() : new NoCache();
  using batch = packBatch(model.device, Array(total).fill(0), positions, lengths);
  cache.reserve(batch.size, lengths);
  tidy(model.device, () => void (causal ? model.nextLogits(batch, cache) : model.hidden(batch, cache)));
}
