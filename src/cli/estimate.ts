/**
 * What a model will need on the GPU, before it is loaded.
 *
 * @module
 */
import type { Device } from "../gpu/mod.ts";
import { estimateMemory as estimateModel, type ModelPlan, type QuantizationError } from "../models/mod.ts";
import { openCheckpoint } from "../weights/checkpoint.ts";

/** Bytes on the GPU for one sequence. */
export interface MemoryEstimate {
  /** Tokens of the sequence. */
  context: number;
  weights: number;
  /** What is taken at most while they are loaded. */
  loading: number;
  /** Keys and values of all layers. */
  cache: number;
  /** Activations while the prompt runs, a chunk at a time, and the rotary table. */
  working: number;
  /** Weights, cache and working memory, or `loading` where that is more. */
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
  /** Root mean square of what quantizing changes, over that of the numbers: the least and the largest of them. */
  relativeError?: readonly [least: number, most: number];
}

/** Memory for one sequence of `context` tokens. */
export async function estimateMemory(plan: ModelPlan, context: number): Promise<MemoryEstimate> {
  const found = await estimateModel(plan.json, { dtype: plan.dtype, contextLength: context });
  const weights = plan.byteLength, cache = plan.task === "causal-lm" ? found.cache : 0;
  const loading = plan.peakBytes, total = Math.max(loading, weights + cache + found.working);
  return { context, weights, loading, cache, working: found.working, total };
}

/** Puts the weights of all layers together. */
export function groupWeights(plan: ModelPlan, errors: readonly QuantizationError[] = []): WeightGroup[] {
  const errorOf = new Map(errors.map(({ name, relativeRms }) => [name, relativeRms]));
  const groups = Map.groupBy(plan.weights, ({ name, shape, stored }) => `${patternOf(name)} ${shape} ${stored}`);
  return [...groups.values()].map((list) => {
    const { name, shape, stored, scheme } = list[0]!;
    const known = list.flatMap((w) => errorOf.get(w.name) ?? []);
    return {
      name: patternOf(name),
      count: list.length,
      shape,
      stored,
      kept: scheme,
      byteLength: sum(list.map((w) => w.byteLength)),
      ...known.length > 0 && { relativeError: [Math.min(...known), Math.max(...known)] as const },
    };
  });
}

/** Numbers in the checkpoint `path`; of a GGUF file those that its model has. */
export async function countParameters(path: string, plan: ModelPlan): Promise<number> {
  if (/\.gguf$/i.test(path)) return (await estimateModel(plan.json)).parameters;
  using checkpoint = await openCheckpoint(path);
  return sum([...checkpoint.tensors.values()].map(({ shape }) => shape.reduce((product, n) => product * n, 1)));
}

/** What stands against running a model with so much memory on a device; nothing if it fits. Wide weights are split. */
export function objections({ total }: MemoryEstimate, { pool }: Device): string[] {
  const out: string[] = [];
  if (total > pool.budget) out.push(`${total} bytes are needed, the memory budget is ${pool.budget}`);
  return out;
}

function layerOf(name: string): string | undefined {
  return /\.(\d+)\./.exec(name)?.[1];
}

/** "model.layers.3.self_attn.q_proj + …" with `*` for each 3. */
export function patternOf(name: string): string {
  const layer = layerOf(name);
  return layer === undefined ? name : name.replaceAll(`.${layer}.`, ".*.");
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}
