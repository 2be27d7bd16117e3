import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/top_h_logits.wgsl" with { type: "text" };
import { empty, type Tensor } from "../tensor/mod.ts";
import { extent } from "./launching.ts";
import { expectScores, expectSettings, NEG, rowThreads } from "./logits.ts";

const launch = kernel("top_h_logits", wgsl);
const MOST = 100;

/**
 * Top-h sampling: keeps the largest of the 100 largest logits while their shares of the entropy of these 100 sum up to no
 * more than `share` of it; the largest, and what equals the last one, in any case.
 * What is dropped becomes -1e30, which stands for -infinity; NaN counts as -infinity.
 *
 * Source: https://arxiv.org/abs/2509.02510
 *
 * @param logits [B, V] float32
 * @param share [1] float32
 * @returns [B, V] float32
 * @throws {ShapeError} if shapes do not fit
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { topHLogits } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = topHLogits(tensor(device, [9, 0, 0], [1, 3]), tensor(device, [0.4], [1]));
 * console.log(await y.read()); // Float32Array(3) [ 9, -1e30, -1e30 ]
 * ```
 */
export function topHLogits(logits: Tensor, share: Tensor): Tensor {
  const [rows, vocab] = expectScores("topHLogits", logits, "logits");
  expectSettings("topHLogits", { share }, "float32");
  const y = empty(logits.device, logits.shape);
  launch(logits.device, {
    consts: rowThreads(logits.device, vocab),
    bindings: { logits, width: extent(logits, vocab), share, y },
    grid: [rows],
  });
  return y;
}

/** The same for one row in plain loops, in place: what the kernel must equal. */
export function topHLogitsReference(scores: Float32Array, share: number): void {
  const order = [...scores.keys()].filter((i) => scores[i]! > NEG).sort((a, b) => scores[b]! - scores[a]! || a - b);
  if (order.length === 0) return void scores.fill(-Infinity);
  const first = order.slice(0, MOST), top = scores[first[0]!]!;
  const shift = top + Math.log(first.reduce((total, i) => total + Math.exp(scores[i]! - top), 0));
  const terms = first.map((i) => -Math.exp(scores[i]! - shift) * (scores[i]! - shift));
  const limit = share * terms.reduce((a, b) => a + b, 0);
  let sum = 0;
  const kept = first.filter((_, place) => (sum += terms[place]!) <= limit || place === 0);
  const least = scores[kept.at(-1)!]!;
  for (let i = 0; i < scores.length; i++) if (!(scores[i]! >= least)) scores[i] = -Infinity;
}
