import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/unary.wgsl" with { type: "text" };
import { empty, expectDtype, type Tensor } from "../tensor/mod.ts";
import { elementwise, wholeVectors } from "./launching.ts";

const launch = kernel("unary", wgsl);

/** Options of {@linkcode gelu}. */
export interface GeluOptions {
  /** `"none"`: with the error function; `"tanh"`: the approximation of GPT-2 ("gelu_new", "gelu_pytorch_tanh"). */
  approximate?: "none" | "tanh";
}

/**
 * Gaussian error linear unit: `y = x Φ(x) = x (1 + erf(x / √2)) / 2`, or with `approximate: "tanh"`
 * `y = x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2`.
 *
 * Source: https://arxiv.org/abs/1606.08415
 *
 * @param x any shape, float32
 * @returns the shape of `x`, float32
 * @throws {DtypeError} if `x` is not float32
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { gelu } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = gelu(tensor(device, [-1, 0, 1], [3]), { approximate: "tanh" });
 * console.log(await y.read()); // -0.1588…, 0, 0.8411…
 * ```
 */
export function gelu(x: Tensor, { approximate = "none" }: GeluOptions = {}): Tensor {
  return unary("gelu", x, approximate === "tanh" ? "GELU_TANH" : "GELU");
}

/**
 * GELU by a sigmoid: `y = x σ(1.702 x)`, as CLIP has it ("quick_gelu").
 *
 * @param x any shape, float32
 * @returns the shape of `x`, float32
 * @throws {DtypeError} if `x` is not float32
 */
export function quickGelu(x: Tensor): Tensor {
  return unary("quickGelu", x, "QUICK_GELU");
}

/**
 * Sigmoid linear unit, also called swish: `y = x σ(x)`.
 *
 * Source: https://arxiv.org/abs/1702.03118
 *
 * @param x any shape, float32
 * @returns the shape of `x`, float32
 * @throws {DtypeError} if `x` is not float32
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { silu } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = silu(tensor(device, [-1, 0, 1], [3]));
 * console.log(await y.read()); // -0.2689…, 0, 0.7310…
 * ```
 */
export function silu(x: Tensor): Tensor {
  return unary("silu", x, "SILU");
}

/**
 * Rectified linear unit: `y = max(x, 0)`.
 *
 * @param x any shape, float32
 * @returns the shape of `x`, float32
 * @throws {DtypeError} if `x` is not float32
 */
export function relu(x: Tensor): Tensor {
  return unary("relu", x, "RELU");
}

/**
 * Hyperbolic tangent.
 *
 * @param x any shape, float32
 * @returns the shape of `x`, float32
 * @throws {DtypeError} if `x` is not float32
 */
export function tanh(x: Tensor): Tensor {
  return unary("tanh", x, "TANH");
}

/**
 * Logistic sigmoid: `y = σ(x) = 1 / (1 + exp(-x))`.
 *
 * @param x any shape, float32
 * @returns the shape of `x`, float32
 * @throws {DtypeError} if `x` is not float32
 */
export function sigmoid(x: Tensor): Tensor {
  return unary("sigmoid", x, "SIGMOID");
}

/**
 * Soft cap: `y = cap tanh(x / cap)`, which never leaves (-cap, cap).
 *
 * Source: https://arxiv.org/abs/2408.00118
 *
 * @param x any shape, float32
 * @param cap above 0
 * @returns the shape of `x`, float32
 * @throws {DtypeError} if `x` is not float32
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { softcap } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = softcap(tensor(device, [-1000, 0, 1], [3]), 30);
 * console.log(await y.read()); // -30, 0, 0.9996…
 * ```
 */
export function softcap(x: Tensor, cap: number): Tensor {
  return unary("softcap", x, "CAP", { CAP_AT: cap });
}

function unary(op: string, x: Tensor, flag: string, overrides?: Record<string, number>): Tensor {
  expectDtype(op, "x", x, "float32");
  const y = empty(x.device, x.shape);
  launch(x.device, {
    ...elementwise(x.device, Math.ceil(x.size / 4)),
    flags: { [flag]: true },
    overrides,
    bindings: { x: wholeVectors(x), y: wholeVectors(y) },
  });
  return y;
}

/** The functions of one number, by the name of the `@if` flag: what the kernel must equal. */
export const unaryReference: Readonly<Record<string, (x: number) => number>> = {
  SILU: (x) => x / (1 + Math.exp(-x)),
  GELU: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  GELU_TANH: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  QUICK_GELU: (x) => x / (1 + Math.exp(-1.702 * x)),
  RELU: (x) => Math.max(x, 0),
  TANH: Math.tanh,
  SIGMOID: (x) => 1 / (1 + Math.exp(-x)),
  CAP: (x) => 2 * Math.tanh(x / 2), // at 2
  IDENTITY: (x) => x,
};

/** The error function, by the series `2/√π exp(-x²) Σ 2ⁿ x²ⁿ⁺¹ / (2n+1)!!`, whose terms have one sign. */
function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x, sum = x;
  for (let n = 1; n < 200; n++) sum += term *= 2 * x * x / (2 * n + 1);
  return 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * sum;
}
