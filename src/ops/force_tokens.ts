import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/force_tokens.wgsl" with { type: "text" };
import { empty, type Tensor } from "../tensor/mod.ts";
import { extent } from "./launching.ts";
import { blocksOf, expectScores, expectSettings } from "./logits.ts";

const launch = kernel("force_tokens", wgsl);

/**
 * At one step, 0 for some tokens and -1e30, which stands for -infinity, for all others.
 *
 * @param x [B, V] float32
 * @param settings (the step, tokens …) uint32
 * @param step [1] uint32, tokens generated so far
 * @returns [B, V] float32
 * @throws {ShapeError} if shapes do not fit
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { forceTokens } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * const u32 = (data: number[]) => tensor(device, data, [data.length], "uint32");
 * using y = forceTokens(tensor(device, [4, 5], [1, 2]), u32([0, 1]), u32([0]));
 * console.log(await y.read()); // Float32Array(2) [ -1e30, 0 ]
 * ```
 */
export function forceTokens(x: Tensor, settings: Tensor, step: Tensor): Tensor {
  const [, vocab] = expectScores("forceTokens", x);
  expectSettings("forceTokens", { settings, step }, "uint32");
  const y = empty(x.device, x.shape);
  launch(x.device, { bindings: { x, width: extent(x, vocab), settings, step, y }, grid: blocksOf(x) });
  return y;
}

/** The same for one row in plain loops, in place, at the step that it holds at. */
export function forceTokensReference(scores: Float32Array, ids: readonly number[]): void {
  scores.fill(-Infinity);
  for (const id of ids) scores[id] = 0;
}
