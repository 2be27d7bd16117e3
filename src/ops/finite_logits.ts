import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/finite_logits.wgsl" with { type: "text" };
import { empty, type Tensor } from "../tensor/mod.ts";
import { blocksOf, expectScores } from "./logits.ts";

const launch = kernel("finite_logits", wgsl);
const MOST = 3.4028234663852886e38;

/**
 * Logits without NaN, which becomes 0, and without infinities, which become the largest and the least number.
 *
 * @param x [B, V] float32
 * @returns [B, V] float32
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { finiteLogits } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = finiteLogits(tensor(device, [NaN, 1], [1, 2]));
 * console.log(await y.read()); // Float32Array(2) [ 0, 1 ]
 * ```
 */
export function finiteLogits(x: Tensor): Tensor {
  expectScores("finiteLogits", x);
  const y = empty(x.device, x.shape);
  launch(x.device, { bindings: { x, y }, grid: blocksOf(x) });
  return y;
}

/** The same for one row in plain loops, in place: what the kernel must equal. */
export function finiteLogitsReference(scores: Float32Array): void {
  for (let i = 0; i < scores.length; i++) {
    const x = scores[i]!;
    if (!Number.isFinite(x)) scores[i] = Number.isNaN(x) ? 0 : x > 0 ? MOST : -MOST;
  }
}
