import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/guide_logits.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";
import { blocksOf, expectScores, expectSettings, NEG } from "./logits.ts";

const launch = kernel("guide_logits", wgsl);

/**
 * Classifier-free guidance: `u + scale (x - u)`.
 *
 * Source: https://arxiv.org/abs/2306.17806
 *
 * @param x [B, V] float32, log-probabilities after the prompt
 * @param u [B, V] float32, those after the negative prompt
 * @param scale [1] float32
 * @returns [B, V] float32; -1e30, which stands for -infinity, where either is
 * @throws {ShapeError} if shapes differ
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { guideLogits } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * const x = tensor(device, [-1, -2], [1, 2]), u = tensor(device, [-2, -1], [1, 2]);
 * using y = guideLogits(x, u, tensor(device, [2], [1]));
 * console.log(await y.read()); // Float32Array(2) [ 0, -3 ]
 * ```
 */
export function guideLogits(x: Tensor, u: Tensor, scale: Tensor): Tensor {
  expectScores("guideLogits", x);
  expectShape("guideLogits", "u", u, x.shape);
  expectDtype("guideLogits", "u", u, "float32");
  expectSettings("guideLogits", { scale }, "float32");
  const y = empty(x.device, x.shape);
  launch(x.device, { bindings: { x, u, scale, y }, grid: blocksOf(x) });
  return y;
}

/** The same in plain loops, in place: what the kernel must equal. */
export function guideLogitsReference(scores: Float32Array, from: Float32Array, scale: number): void {
  for (let i = 0; i < scores.length; i++) {
    const x = scores[i]!, u = from[i]!;
    scores[i] = x <= NEG || u <= NEG ? -Infinity : u + scale * (x - u);
  }
}
