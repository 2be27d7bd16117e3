import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/occurrence_penalty.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";
import { blocksOf, expectScores, expectSettings } from "./logits.ts";

const launch = kernel("occurrence_penalty", wgsl);

/**
 * Makes tokens that were generated less likely: the frequency penalty is subtracted for each time, the presence penalty
 * once.
 *
 * @param x [B, V] float32
 * @param counts [B, V] uint32, how often each token was generated (`countTokens`)
 * @param penalties (frequency, presence) float32
 * @returns [B, V] float32
 * @throws {ShapeError} if shapes differ
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { occurrencePenalty } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * const counts = tensor(device, [2, 0], [1, 2], "uint32"), penalties = tensor(device, [0.5, 1], [2]);
 * using y = occurrencePenalty(tensor(device, [3, 3], [1, 2]), counts, penalties);
 * console.log(await y.read()); // Float32Array(2) [ 1, 3 ]
 * ```
 */
export function occurrencePenalty(x: Tensor, counts: Tensor, penalties: Tensor): Tensor {
  expectScores("occurrencePenalty", x);
  expectShape("occurrencePenalty", "counts", counts, x.shape);
  expectDtype("occurrencePenalty", "counts", counts, "uint32");
  expectSettings("occurrencePenalty", { penalties }, "float32");
  const y = empty(x.device, x.shape);
  launch(x.device, { bindings: { x, counts, penalties, y }, grid: blocksOf(x) });
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function occurrencePenaltyReference(
  x: Float32Array,
  counts: Uint32Array,
  [frequency = 0, presence = 0]: readonly number[],
): Float32Array {
  return x.map((value, i) => value - frequency * counts[i]! - (counts[i]! > 0 ? presence : 0));
}
