import { NotSupportedError } from "../errors.ts";
import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/softmax.wgsl" with { type: "text" };
import eightsWgsl from "../shaders/softmax_eights.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";
import { extent, rowVariant } from "./launching.ts";

const launch = kernel("softmax", wgsl), launchEights = kernel("softmax_eights", eightsWgsl);

/**
 * Softmax over the last dimension: `y = exp(x - max(x)) / Σ exp(x - max(x))`.
 *
 * As in PyTorch, a row masked wholly with one finite number comes out uniform, and a row wholly of -infinity, or with a
 * NaN or +infinity in it, is all NaN.
 *
 * @param x [..., n] float32
 * @param dim the last dimension, as -1 or by its number
 * @returns [..., n] float32
 * @throws {NotSupportedError} if `dim` is not the last dimension
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { softmax } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = softmax(tensor(device, [1, 1, -Infinity], [3]));
 * console.log(await y.read()); // Float32Array(3) [ 0.5, 0.5, 0 ]
 * ```
 */
export function softmax(x: Tensor, dim = -1): Tensor {
  return rows("softmax", x, dim, false);
}

/**
 * Logarithm of the softmax over the last dimension: `y = x - max(x) - log Σ exp(x - max(x))`.
 *
 * @param x [..., n] float32
 * @param dim the last dimension, as -1 or by its number
 * @returns [..., n] float32
 * @throws {NotSupportedError} if `dim` is not the last dimension
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { logSoftmax } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = logSoftmax(tensor(device, [0, 0], [2]));
 * console.log(await y.read()); // -0.6931…, -0.6931…
 * ```
 */
export function logSoftmax(x: Tensor, dim = -1): Tensor {
  return rows("logSoftmax", x, dim, true);
}

function rows(op: string, x: Tensor, dim: number, log: boolean): Tensor {
  const n = expectShape(op, "x", x, ["…", "n"]).at(-1)!;
  expectDtype(op, "x", x, "float32");
  if (dim !== -1 && dim !== x.shape.length - 1) {
    throw new NotSupportedError(
      `Cannot run ${op} as dim must be the last, ${x.shape.length - 1} or -1: current value is ${dim}`,
      { hint: "Use transpose() before and after." },
    );
  }
  const y = empty(x.device, x.shape);
  if (y.size === 0) return y;
  const { consts, flags } = rowVariant(x.device, n);
  const what = { flags: { LOG: log, ...flags }, bindings: { x, width: extent(x, n), y }, grid: [x.size / n] } as const;
  if (flags.SUBGROUPS && n % 8 === 0) launchEights(x.device, what);
  else launch(x.device, { ...what, consts });
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function softmaxReference(x: Float32Array, n: number, log = false): Float32Array {
  const y = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += n) {
    let most = -Infinity, sum = 0;
    for (let i = 0; i < n; i++) most = Math.max(most, x[row + i]!);
    for (let i = 0; i < n; i++) sum += Math.exp(x[row + i]! - most);
    for (let i = 0; i < n; i++) {
      const d = x[row + i]! - most;
      y[row + i] = log ? d - Math.log(sum) : Math.exp(d) / sum;
    }
  }
  return y;
}
