import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/typical_logits.wgsl" with { type: "text" };
import { empty, type Tensor } from "../tensor/mod.ts";
import { extent } from "./launching.ts";
import { expectScores, expectSettings, NEG, rowThreads } from "./logits.ts";

const launch = kernel("typical_logits", wgsl);

/**
 * Locally typical sampling: keeps the tokens whose -log(probability) is nearest to the entropy, until they have the
 * probability `mass` together, and those as near as the last one.
 * What is dropped becomes -1e30, which stands for -infinity; NaN counts as -infinity.
 *
 * Source: https://arxiv.org/abs/2202.00666
 *
 * @param logits [B, V] float32
 * @param mass [1] float32
 * @returns [B, V] float32
 * @throws {ShapeError} if shapes do not fit
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { typicalLogits } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = typicalLogits(tensor(device, [0, 0, -9], [1, 3]), tensor(device, [0.9], [1]));
 * console.log(await y.read()); // Float32Array(3) [ 0, 0, -1e30 ]
 * ```
 */
export function typicalLogits(logits: Tensor, mass: Tensor): Tensor {
  const [rows, vocab] = expectScores("typicalLogits", logits, "logits");
  expectSettings("typicalLogits", { mass }, "float32");
  const y = empty(logits.device, logits.shape);
  launch(logits.device, {
    consts: rowThreads(logits.device, vocab),
    bindings: { logits, width: extent(logits, vocab), mass, y },
    grid: [rows],
  });
  return y;
}

/** The same for one row in plain loops, in place: what the kernel must equal. */
export function typicalLogitsReference(scores: Float32Array, mass: number, keep = 1): void {
  const finite = scores.filter((x) => x > NEG), top = finite.reduce((a, b) => Math.max(a, b), -Infinity);
  const shift = top + Math.log(finite.reduce((total, x) => total + Math.exp(x - top), 0));
  const entropy = finite.reduce((total, x) => total - Math.exp(x - shift) * (x - shift), 0);
  const distance = (x: number) => Math.abs(shift - x - entropy);
  const ranked = [...finite].sort((a, b) => distance(a) - distance(b));
  let sum = 0;
  const crossing = ranked.findIndex((x) => (sum += Math.exp(x - shift)) >= mass);
  const last = Math.max(crossing === -1 ? ranked.length - 1 : crossing, Math.min(keep, ranked.length) - 1);
  const most = ranked.length ? distance(ranked[last]!) : -1;
  for (let i = 0; i < scores.length; i++) {
    if (!(scores[i]! > NEG && distance(scores[i]!) <= most)) scores[i] = -Infinity;
  }
}
