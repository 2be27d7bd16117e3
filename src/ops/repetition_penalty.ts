import { ShapeError, ValueError } from "../errors.ts";
import { type Kernel, kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/repetition_penalty.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, formatShape, Tensor, tensor } from "../tensor/mod.ts";

const launch: Kernel = kernel("repetition_penalty", wgsl);

/**
 * Makes tokens that occurred less likely, once each: `logit * penalty` where the logit is below 0, `logit / penalty`
 * else. A penalty below 1 makes them more likely.
 *
 * Source: https://arxiv.org/abs/1909.05858
 *
 * @param logits [B, V] float32
 * @param counts [B, V] uint32, how often each token occurred (`countTokens`)
 * @param penalty above 0; a recording takes it as float32 [1] or [B], since a number is written to the device
 * @returns [B, V] float32
 * @throws {ShapeError} if shapes differ
 * @throws {ValueError} if the penalty is a number that is not above 0
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { repetitionPenalty } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * const counts = tensor(device, [1, 2, 0], [1, 3], "uint32");
 * using y = repetitionPenalty(tensor(device, [3, -3, 3], [1, 3]), counts, 1.5);
 * console.log(await y.read()); // Float32Array(3) [ 2, -4.5, 3 ]
 * ```
 */
export function repetitionPenalty(logits: Tensor, counts: Tensor, penalty: number | Tensor): Tensor {
  const [rows = 0] = expectShape("repetitionPenalty", "logits", logits, ["B", "V"]);
  expectShape("repetitionPenalty", "counts", counts, logits.shape);
  expectDtype("repetitionPenalty", "logits", logits, "float32");
  expectDtype("repetitionPenalty", "counts", counts, "uint32");
  if (penalty instanceof Tensor) {
    expectDtype("repetitionPenalty", "penalty", penalty, "float32");
    if (penalty.shape.length !== 1 || (penalty.size !== 1 && penalty.size !== rows)) {
      throw new ShapeError(
        `Cannot run repetitionPenalty as penalty must be [1] or [${rows}]: current shape is ${
          formatShape(penalty.shape)
        }`,
      );
    }
  } else if (!(penalty > 0 && penalty < Infinity)) {
    throw new ValueError(
      `Cannot run repetitionPenalty as penalty must be a finite number above 0: current value is ${penalty}`,
    );
  }
  const y = empty(logits.device, logits.shape);
  const given = penalty instanceof Tensor ? penalty : tensor(logits.device, [penalty], [1]);
  launch(logits.device, { bindings: { logits, counts, penalty: given, y }, grid: [Math.ceil(y.size / 64)] });
  if (given !== penalty) given.dispose();
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function repetitionPenaltyReference(logits: Float32Array, counts: Uint32Array, penalty: number): Float32Array {
  return logits.map((x, i) => counts[i] === 0 || x <= Math.fround(-1e30) ? x : x < 0 ? x * penalty : x / penalty);
}
