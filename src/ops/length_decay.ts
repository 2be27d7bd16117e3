import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/length_decay.wgsl" with { type: "text" };
import { empty, type Tensor } from "../tensor/mod.ts";
import { extent } from "./launching.ts";
import { blocksOf, expectScores, expectSettings } from "./logits.ts";

const launch = kernel("length_decay", wgsl);

/**
 * Makes tokens that end a row likelier from step to step: `|x| (factor^k - 1)` is added to their logits, `k` steps after a
 * start. -infinity stays.
 *
 * @param x [B, V] float32
 * @param settings (start, tokens that end a row …) uint32
 * @param factor [1] float32
 * @param step [1] uint32, tokens generated so far
 * @returns [B, V] float32
 * @throws {ShapeError} if shapes do not fit
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { lengthDecay } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * const u32 = (data: number[]) => tensor(device, data, [data.length], "uint32");
 * using y = lengthDecay(tensor(device, [4, 4], [1, 2]), u32([2, 1]), tensor(device, [1.5], [1]), u32([3]));
 * console.log(await y.read()); // Float32Array(2) [ 4, 6 ]
 * ```
 */
export function lengthDecay(x: Tensor, settings: Tensor, factor: Tensor, step: Tensor): Tensor {
  const [, vocab] = expectScores("lengthDecay", x);
  expectSettings("lengthDecay", { settings, step }, "uint32");
  expectSettings("lengthDecay", { factor }, "float32");
  const y = empty(x.device, x.shape);
  launch(x.device, { bindings: { x, width: extent(x, vocab), settings, factor, step, y }, grid: blocksOf(x) });
  return y;
}

/** The same for one row in plain loops, in place, `k` steps after its start: what the kernel must equal. */
export function lengthDecayReference(scores: Float32Array, ends: readonly number[], k: number, factor: number): void {
  if (k <= 0) return;
  for (const id of ends) if (scores[id] !== -Infinity) scores[id]! += Math.abs(scores[id]!) * (factor ** k - 1);
}
