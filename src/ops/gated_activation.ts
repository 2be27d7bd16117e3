import { ShapeError } from "../errors.ts";
import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/gated_activation.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, formatShape, type Tensor } from "../tensor/mod.ts";
import { elementThreads, extent, rowBlocks, wholeVectors } from "./launching.ts";
import { type GeluOptions, unaryReference } from "./unary.ts";

const launch = kernel("gated_activation", wgsl);

/** Functions that a gate can pass through, by their Hugging Face names. */
export type GateActivation = "silu" | "gelu" | "gelu_tanh" | "quick_gelu" | "relu" | "tanh" | "sigmoid" | "identity";

/**
 * Gated linear unit: `y = act(x[..., :I]) * x[..., I:]`, the gate's half first.
 *
 * Source: https://arxiv.org/abs/2002.05202
 *
 * @param x [..., 2 * I] float32
 * @param activation what the gate's half passes through
 * @returns [..., I] float32
 * @throws {ShapeError} if the last dimension of `x` is odd
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { gatedActivation } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = gatedActivation(tensor(device, [-1, 2, 10, 20], [1, 4]), "relu");
 * console.log(await y.read()); // Float32Array(2) [ 0, 40 ]
 * ```
 */
export function gatedActivation(x: Tensor, activation: GateActivation): Tensor {
  return gated("gatedActivation", x, activation);
}

/**
 * The gated unit of Llama, Mistral and Qwen: `y = silu(x[..., :I]) * x[..., I:]`.
 *
 * Source: https://arxiv.org/abs/2002.05202
 *
 * @param x [..., 2 * I] float32, the gate's projection first
 * @returns [..., I] float32
 * @throws {ShapeError} if the last dimension of `x` is odd
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { swiglu } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = swiglu(tensor(device, [1, 10], [2]));
 * console.log(await y.read()); // 7.310585…
 * ```
 */
export function swiglu(x: Tensor): Tensor {
  return gated("swiglu", x, "silu");
}

/**
 * The gated unit of Gemma and T5 v1.1: `y = gelu(x[..., :I]) * x[..., I:]`.
 *
 * Source: https://arxiv.org/abs/2002.05202
 *
 * @param x [..., 2 * I] float32, the gate's projection first
 * @returns [..., I] float32
 * @throws {ShapeError} if the last dimension of `x` is odd
 */
export function geglu(x: Tensor, { approximate = "none" }: GeluOptions = {}): Tensor {
  return gated("geglu", x, approximate === "tanh" ? "gelu_tanh" : "gelu");
}

function gated(op: string, x: Tensor, activation: GateActivation): Tensor {
  const shape = expectShape(op, "x", x, ["…", "2 * I"]);
  const width = shape.at(-1)! / 2;
  if (!Number.isInteger(width)) {
    throw new ShapeError(
      `Cannot run ${op} as the last dimension of x must be even: current shape is ${formatShape(shape)}`,
    );
  }
  expectDtype(op, "x", x, "float32");
  const y = empty(x.device, [...shape.slice(0, -1), width]);
  if (y.size === 0) return y;
  const by4 = width % 4 === 0;
  launch(x.device, {
    consts: { WG: elementThreads(x.device) },
    flags: { [activation.toUpperCase()]: true, BY_4: by4 },
    bindings: { x: by4 ? wholeVectors(x) : x, width: extent(x, width), y },
    grid: rowBlocks(y.size / width, by4 ? width / 4 : width),
  });
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function gatedActivationReference(x: Float32Array, width: number, activation: GateActivation): Float32Array {
  const act = unaryReference[activation.toUpperCase()]!;
  const y = new Float32Array(x.length / 2);
  for (let i = 0; i < y.length; i++) {
    const gate = Math.floor(i / width) * 2 * width + i % width;
    y[i] = act(x[gate]!) * x[gate + width]!;
  }
  return y;
}
