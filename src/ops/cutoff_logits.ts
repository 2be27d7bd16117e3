import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/cutoff_logits.wgsl" with { type: "text" };
import { empty, type Tensor } from "../tensor/mod.ts";
import { extent } from "./launching.ts";
import { expectScores, expectSettings, NEG, rowThreads } from "./logits.ts";

const launch = kernel("cutoff_logits", wgsl);

/**
 * Epsilon and eta sampling: drops tokens whose probability is below a bound, but the most probable one; eta takes the lesser
 * of the bound and `sqrt(bound) exp(-entropy)`.
 * What is dropped becomes -1e30, which stands for -infinity; NaN counts as -infinity.
 *
 * Source: https://arxiv.org/abs/2210.15191
 *
 * @param logits [B, V] float32
 * @param settings (bound, 1 for eta or 0) float32
 * @returns [B, V] float32
 * @throws {ShapeError} if shapes do not fit
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { cutoffLogits } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = cutoffLogits(tensor(device, [0, 0, -9], [1, 3]), tensor(device, [0.1, 0], [2]));
 * console.log(await y.read()); // Float32Array(3) [ 0, 0, -1e30 ]
 * ```
 */
export function cutoffLogits(logits: Tensor, settings: Tensor): Tensor {
  const [rows, vocab] = expectScores("cutoffLogits", logits, "logits");
  expectSettings("cutoffLogits", { settings }, "float32");
  const y = empty(logits.device, logits.shape);
  launch(logits.device, {
    consts: rowThreads(logits.device, vocab),
    bindings: { logits, width: extent(logits, vocab), settings, y },
    grid: [rows],
  });
  return y;
}

/** The same for one row in plain loops, in place: what the kernel must equal. */
export function cutoffLogitsReference(scores: Float32Array, bound: number, byEntropy: boolean, keep = 1): void {
  const ranked = scores.filter((x) => x > NEG).sort().reverse(), top = ranked[0] ?? 0;
  const sum = ranked.reduce((total, x) => total + Math.exp(x - top), 0), shift = top + Math.log(sum);
  const entropy = ranked.reduce((total, x) => total - Math.exp(x - shift) * (x - shift), 0);
  const least = byEntropy ? Math.min(bound, Math.sqrt(bound) * Math.exp(-entropy)) : bound;
  const kept = ranked[Math.min(keep, ranked.length) - 1] ?? Infinity;
  for (let i = 0; i < scores.length; i++) {
    const x = scores[i]!;
    if (!(x > NEG && (x >= kept || Math.exp(x - shift) >= least))) scores[i] = -Infinity;
  }
}
