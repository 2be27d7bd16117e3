/**
 * The kernels of a model, found by a pass that runs none of them.
 *
 * @module
 */
import { type Cache, NoCache, packBatch } from "../cache/mod.ts";
import type { KernelCompileOptions, KernelVariant } from "../gpu/mod.ts";
import { argmax } from "../ops/argmax.ts";
import { emitTokens } from "../ops/decode_state.ts";
import { zeros } from "../ops/zeros.ts";
import { empty, type Shape, type Tensor, tidy } from "../tensor/mod.ts";
import type { Model } from "./model.ts";

/**
 * The kernels that are not compiled yet of passes over batches whose sequences have these lengths, in order of first
 * use; of a generative model with a cache and logits of the last tokens, and of an encoder-decoder both of its stacks.
 */
export function passKernels(model: Model, batches: readonly (readonly number[])[]): KernelVariant[] {
  model.prepareReplay(1, Math.max(...batches.flat())); // the rotary table outlives the pass
  return model.device.kernels.collect(() => {
    for (const lengths of batches) emptyPass(model, lengths);
  });
}

/** Compiles the kernels of prompts of these lengths and, of a generative model, of greedy decode steps. */
export async function warmUp(model: Model, lengths: readonly number[], options: KernelCompileOptions): Promise<void> {
  const fits = lengths.filter((n) => n >= 1 && n <= model.sizes.maxPositionEmbeddings);
  if (fits.length === 0) return;
  const batches = generates(model) ? [...fits, 1] : fits;
  await model.device.kernels.compile(passKernels(model, batches.map((n) => [n])), options);
}

/** Whether it has a head that says what comes next. */
export function generates({ task }: Model): boolean {
  return task === "causal-lm" || task === "seq2seq-lm";
}

/** Fills the encoder's part of `cache`, where there is one, with states of no meaning: of rows of these lengths. */
export function encodeNothing(model: Model, cache: Cache, lengths: readonly number[]): void {
  if (!model.isEncoderDecoder) return;
  const { device, sizes: { features, maxEncoderPositions: most = Infinity } } = model;
  using inputFeatures = features && zeros(device, [lengths.length, features.channels, features.frames]);
  const width = Math.min(most, Math.max(...lengths)), ones = (n: number) => Array<number>(n).fill(1);
  const row = (n: number) => [...ones(n), ...Array<number>(width - n).fill(0)];
  const attentionMask = lengths.map((n) => row(Math.min(most, n)));
  const inputs = inputFeatures ? { inputFeatures } : { inputIds: lengths.map(() => ones(width)), attentionMask };
  model.encode(inputs, cache).dispose();
}

/** A pass over tokens of no meaning, whose results nobody reads. */
function emptyPass(model: Model, lengths: readonly number[]): void {
  const withHead = generates(model), total = lengths.reduce((sum, n) => sum + n, 0);
  const positions = lengths.flatMap((n) => [...Array(n).keys()]);
  using cache = withHead ? model.newCache() : new NoCache();
  using batch = packBatch(model.device, Array(total).fill(0), positions, lengths);
  encodeNothing(model, cache, lengths);
  cache.reserve(batch.size, lengths);
  tidy(model.device, () => void (withHead ? chooseNext(model.nextLogits(batch, cache)) : model.hidden(batch, cache)));
}

/** The end of a greedy step that gave `logits` [B, V]. */
function chooseNext(logits: Tensor): void {
  const state = (shape: Shape) => empty(logits.device, shape, "uint32"), B = logits.shape[0]!;
  emitTokens(argmax(logits), logits, {
    tokens: state([B]),
    positions: state([B]),
    done: state([B]),
    ring: state([1, B]),
    step: state([1]),
    settings: state([2]),
  });
}
