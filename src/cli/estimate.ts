/**
 * What a model will need on the GPU, before it is loaded.
 *
 * @module
 */
import type { Device } from "../gpu/mod.ts";
import type { ModelPlan } from "../models/mod.ts";
import { openCheckpoint } from "../weights/checkpoint.ts";
import type { PlannedWeight } from "../weights/source.ts";

/** Bytes on the GPU for one sequence. */
export interface MemoryEstimate {
  /** Tokens of the sequence. */
  context: number;
  weights: number;
  /** Keys and values of all layers. */
  cache: number;
  /** Activations while the prompt runs, a chunk at a time. */
  working: number;
  total: number;
}

/** Weights of the same kind in all layers. */
export interface WeightGroup {
  /** The name, with `*` for the layer. */
  name: string;
  count: number;
  shape: readonly number[];
  /** Dtype in the checkpoint, and on the GPU. */
  stored: string;
  kept: string;
  /** Of all of them. */
  byteLength: number;
}

const CHUNK = 512; // tokens of a prompt that run at a time
const CACHE_STEP = 64; // a cache has room for a multiple of so many tokens

/** Memory for one sequence of `context` tokens. */
export function estimateMemory(plan: ModelPlan, context: number): MemoryEstimate {
  const outputs = plan.weights.filter(({ name, shape }) => shape.length === 2 && layerOf(name) === "0")
    .reduce((sum, { shape }) => sum + shape[0]!, 0);
  const weights = plan.byteLength;
  const cache = plan.task === "causal-lm" ? plan.cacheBytesPerToken * Math.ceil(context / CACHE_STEP) * CACHE_STEP : 0;
  // The outputs of a layer's matrices, and what norms, gates and attention make of them, about as much again.
  const working = 4 * 2 * outputs * Math.min(context, CHUNK) + 4 * plan.sizes.vocabSize;
  return { context, weights, cache, working, total: weights + cache + working };
}

/** Puts the weights of all layers together. */
export function groupWeights(plan: ModelPlan): WeightGroup[] {
  const groups = Map.groupBy(plan.weights, ({ name, shape, stored }) => `${pattern(name)} ${shape} ${stored}`);
  return [...groups.values()].map((list) => {
    const { name, shape, stored } = list[0]!;
    return {
      name: pattern(name),
      count: list.length,
      shape,
      stored,
      kept: shape.length === 1 ? "float32" : plan.dtype,
      byteLength: sum(list.map((w) => w.byteLength)),
    };
  });
}

/** Numbers in the checkpoint of the folder `path`. */
export async function countParameters(path: string): Promise<number> {
  using checkpoint = await openCheckpoint(path);
  return sum([...checkpoint.tensors.values()].map(({ shape }) => shape.reduce((product, n) => product * n, 1)));
}

/** What stands against running `plan` with so much memory on `device`; nothing if it fits. */
export function objections(plan: ModelPlan, { total }: MemoryEstimate, { limits, pool }: Device): string[] {
  const most = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  const largest = plan.weights.reduce((a: PlannedWeight, b) => a.byteLength > b.byteLength ? a : b);
  const out: string[] = [];
  if (largest.byteLength > most) {
    out.push(`${largest.name} takes ${largest.byteLength} bytes, a binding of the device at most ${most}`);
  }
  if (total > pool.budget) out.push(`${total} bytes are needed, the memory budget is ${pool.budget}`);
  return out;
}

function layerOf(name: string): string | undefined {
  return /\.(\d+)\./.exec(name)?.[1];
}

/** "model.layers.3.self_attn.q_proj + …" with `*` for each 3. */
function pattern(name: string): string {
  const layer = layerOf(name);
  return layer === undefined ? name : name.replaceAll(`.${layer}.`, ".*.");
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}
