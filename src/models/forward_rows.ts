/**
 * Padded rows in, padded tensors out, packed in between.
 *
 * @module
 */
import type { Batch, Cache, ModelInputs } from "../cache/mod.ts";
import { ValueError } from "../errors.ts";
import { scatterRows } from "../ops/mod.ts";
import { keep, type Tensor, tensor, tidy } from "../tensor/mod.ts";
import type { AttnImplementation } from "./attention_implementation.ts";
import { checkCachePosition } from "./cache_position.ts";
import type { Collected, Pass } from "./family.ts";
import { headMaskRows, headMaskTensors } from "./head_mask.ts";
import type { ForwardOptions, ModelOutput } from "./model_output.ts";
import type { ModelParts } from "./model_parts.ts";
import { type PackedRows, packRows } from "./packed_rows.ts";
import { type Columns, columnsOf, inOrder, padAttentions } from "./pad_attentions.ts";

/** What runs the layers: a model. */
interface Runner {
  readonly attnImplementation: AttnImplementation;
  hidden(batch: Batch, cache: Cache, collect: Collected & Pick<Pass, "headMask">): Tensor;
}

/** One forward pass over padded rows; `hidden` runs the layers, `encoder` tells where the tokens stood that it read. */
export async function forwardRows(
  model: Runner,
  parts: ModelParts,
  inputs: ModelInputs,
  cache: Cache,
  options: ForwardOptions,
  encoder?: Columns,
): Promise<ModelOutput> {
  const { device, config: sizes } = parts;
  const { cache: given, outputAttentions } = options, flash = model.attnImplementation === "flash_attention_2";
  const split = flash && parts.perToken && !given && !outputAttentions;
  using packed = packRows(device, inputs, cache.lengths, sizes, split);
  const { batch } = packed;
  if (batch.lengths.some((n) => n === 0)) {
    throw new ValueError(
      `Cannot run the model as each row must have a token: rows have ${batch.lengths} real tokens`,
    );
  }
  const past = [...cache.lengths];
  checkCachePosition(options.cachePosition, past, packed.width);
  cache.reserve(batch.size, batch.lengths);
  const { attention, heads, headDim } = sizes;
  const factors = options.headMask && headMaskRows(options.headMask, attention.length, heads);
  const output = orRewind(cache, () =>
    tidy(device, () => {
      const headMask = factors && headMaskTensors(device, factors, headDim);
      return outputs(model, parts, packed, cache, options, headMask);
    }));
  cache.advanced(batch.lengths);
  const tensors = () => Object.values(output).flat();
  for (const t of tensors()) keep(device, t);
  const dispose = () => tensors().forEach((t) => t.dispose());
  try {
    const queries = columnsOf(packed), seen = batch.lengths.map((n, b) => n + (past[b] ?? 0));
    const keys = (K: number) => past.some((n) => n > 0) ? inOrder(seen, K) : queries;
    output.attentions &&= await padAttentions(output.attentions, queries, keys, factors);
    output.crossAttentions &&= await padAttentions(output.crossAttentions, queries, () => encoder!);
  } catch (error) {
    dispose();
    throw error;
  }
  return { ...output, cache: options.cache, [Symbol.dispose]: dispose };
}

function outputs(
  model: Runner,
  { device, family, head, perToken, task }: ModelParts,
  { batch, places, width, rows }: PackedRows,
  cache: Cache,
  { outputHiddenStates, outputAttentions }: ForwardOptions,
  headMask?: Tensor[],
): Omit<ModelOutput, "cache" | typeof Symbol.dispose> {
  const hiddenStates: Tensor[] | undefined = outputHiddenStates ? [] : undefined;
  const attentions: Tensor[] | undefined = outputAttentions ? [] : undefined;
  const crossAttentions: Tensor[] | undefined = outputAttentions && family.encoder ? [] : undefined;
  const hidden = model.hidden(batch, cache, { hiddenStates, attentions, crossAttentions, headMask });
  const index = tensor(device, places, [places.length], "uint32");
  const pad = (x: Tensor) => scatterRows(x, index, rows * width).reshape([rows, width, x.shape[1]!]);
  const logits = head?.(hidden, batch);
  const result = perToken && logits ? pad(logits) : logits;
  return {
    ...result && { [task === "base" ? "poolerOutput" : "logits"]: result },
    lastHiddenState: pad(hidden),
    ...hiddenStates && { hiddenStates: hiddenStates.map(pad) },
    ...attentions && { attentions },
    ...crossAttentions && { crossAttentions },
  };
}

/** Runs a pass; if it fails after the cache has counted its tokens on the GPU, as the logits may, they are taken back. */
export function orRewind<T>(cache: Cache, pass: () => T): T {
  try {
    return pass();
  } catch (error) {
    try {
      cache.crop(cache.lengths);
    } catch { /* nothing was counted in a capture, and on a device that is lost nothing counts */ }
    throw error;
  }
}
