import { ShapeError } from "../errors.ts";
import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/top_k.wgsl" with { type: "text" };
import { empty, type Tensor } from "../tensor/mod.ts";
import { expectScores, rowThreads } from "./logits.ts";

const launch = kernel("top_k", wgsl);

/** What {@linkcode topK} writes as the index of a row that is not finite. */
export const NO_INDEX = 0xffffffff;

/** What {@linkcode topK} gives. */
export interface TopK {
  /** [B, k] uint32: places of the greatest logits, greatest first; of equals the lower one first. */
  indices: Tensor;
  /** [B, k] float32: their log probabilities. */
  logProbs: Tensor;
}

/**
 * The `k` likeliest tokens of each row, with their log probabilities. Meant for small k.
 *
 * @param logits [B, V] float32
 * @param k from 1 to V
 * @returns [B, k] each; of a row with an infinite element or NaN every index is {@linkcode NO_INDEX}
 * @throws {ShapeError} if a row has fewer than `k` elements
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { topK } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * const { indices } = topK(tensor(device, [1, 9, 9, 2], [1, 4]), 3);
 * console.log(await indices.read()); // Uint32Array(3) [ 1, 2, 3 ]
 * ```
 */
export function topK(logits: Tensor, k: number): TopK {
  const [rows, vocab] = expectScores("topK", logits, "logits"), { device } = logits;
  if (!Number.isInteger(k) || k < 1 || k > vocab) {
    throw new ShapeError(`Cannot run topK as k must be a whole number from 1 to ${vocab}: current value is ${k}`);
  }
  const indices = empty(device, [rows, k], "uint32"), logProbs = empty(device, [rows, k]);
  const norms = empty(device, [rows]);
  launch(device, {
    consts: rowThreads(device, vocab),
    bindings: { x: logits, indices, logProbs, norms },
    grid: [rows],
  });
  norms.dispose();
  return { indices, logProbs };
}

/** The same for one row in plain loops: what the kernel must equal. */
export function topKReference(x: Float32Array, k: number): { indices: Uint32Array; logProbs: Float32Array } {
  if (!x.every(Number.isFinite)) {
    return { indices: new Uint32Array(k).fill(NO_INDEX), logProbs: new Float32Array(k) };
  }
  const most = Math.max(...x), norm = most + Math.log(x.reduce((sum, v) => sum + Math.exp(v - most), 0));
  const indices = Uint32Array.from(x.keys()).sort((a, b) => x[b]! - x[a]! || a - b).slice(0, k);
  return { indices, logProbs: Float32Array.from(indices, (i) => x[i]! - norm) };
}
