import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/cross_entropy.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";
import { rowVariant } from "./launching.ts";

const launch = kernel("cross_entropy", wgsl);

/**
 * How unlikely the logits of each row make its target: `y = log Σ exp(x) - x[target]`, in nats. PyTorch's
 * `cross_entropy` with `reduction="none"`; of a vocabulary's logits, only one number a row is left to be read.
 *
 * @param x [N, V] float32
 * @param targets [N] uint32; one that is not below V gives NaN: a kernel cannot raise an error
 * @returns [N] float32; NaN where a row has a NaN or +infinity, or nothing but -infinity
 * @throws {ShapeError} if there is not one target a row
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { crossEntropy } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = crossEntropy(tensor(device, [0, 0, 0, 0], [1, 4]), tensor(device, [2], [1], "uint32"));
 * console.log(await y.read()); // Float32Array(1) [ 1.386… ]
 * ```
 */
export function crossEntropy(x: Tensor, targets: Tensor): Tensor {
  const [N = 0, V = 0] = expectShape("crossEntropy", "x", x, ["N", "V"]);
  expectShape("crossEntropy", "targets", targets, [N]);
  expectDtype("crossEntropy", "x", x, "float32");
  expectDtype("crossEntropy", "targets", targets, "uint32");
  const y = empty(x.device, [N]);
  if (y.size === 0) return y;
  const { consts, flags } = rowVariant(x.device, V);
  launch(x.device, { consts, flags, bindings: { x, targets, y }, grid: [N] });
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function crossEntropyReference(x: Float32Array, targets: ArrayLike<number>): Float32Array {
  const V = x.length / targets.length;
  return Float32Array.from(targets, (target, r) => {
    const row = x.subarray(r * V, (r + 1) * V);
    const most = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const sum = row.reduce((total, v) => total + Math.exp(v - most), 0);
    return Math.log(sum) - (row[target]! - most);
  });
}
