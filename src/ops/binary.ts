import { ShapeError } from "../errors.ts";
import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/binary.wgsl" with { type: "text" };
import { empty, expectDtype, formatShape, type Tensor } from "../tensor/mod.ts";
import { elementwise, wholeVectors } from "./launching.ts";

const launch = kernel("binary", wgsl);

/**
 * Sum: `y = a + b`, with `b` repeated along the leading dimensions of `a` that it lacks.
 *
 * @param a any shape, float32
 * @param b the shape of `a`, its last dimensions, or one element; float32
 * @returns the shape of `a`, float32
 * @throws {ShapeError} if the shape of `b` is not the end of that of `a`
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { add } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = add(tensor(device, [1, 2, 3, 4], [2, 2]), tensor(device, [10, 20], [2]));
 * console.log(await y.read()); // Float32Array(4) [ 11, 22, 13, 24 ]
 * ```
 */
export function add(a: Tensor, b: Tensor): Tensor {
  return binary("add", a, b, "ADD");
}

/**
 * Product, element by element: `y = a b`, with `b` repeated along the leading dimensions of `a` that it lacks.
 *
 * @param a any shape, float32
 * @param b the shape of `a`, its last dimensions, or one element; float32
 * @returns the shape of `a`, float32
 * @throws {ShapeError} if the shape of `b` is not the end of that of `a`
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { mul } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = mul(tensor(device, [1, 2, 3, 4], [2, 2]), tensor(device, [0.5], [1]));
 * console.log(await y.read()); // Float32Array(4) [ 0.5, 1, 1.5, 2 ]
 * ```
 */
export function mul(a: Tensor, b: Tensor): Tensor {
  return binary("mul", a, b, "MUL");
}

function binary(op: string, a: Tensor, b: Tensor, flag: "ADD" | "MUL"): Tensor {
  const tail = a.shape.slice(a.shape.length - b.shape.length);
  const suffix = b.shape.length <= a.shape.length && tail.every((n, i) => n === b.shape[i]);
  if (!suffix && b.size !== 1) {
    throw new ShapeError(
      `Cannot run ${op} as the shape of b must be the end of that of a, ${formatShape(a.shape)}: current shape is ${
        formatShape(b.shape)
      }`,
    );
  }
  for (const [name, t] of Object.entries({ a, b })) expectDtype(op, name, t, "float32");
  const y = empty(a.device, a.shape);
  const whole = b.size === a.size;
  const by4 = whole || b.size % 4 === 0;
  launch(a.device, {
    ...elementwise(a.device, Math.ceil(a.size / (by4 ? 4 : 1))),
    flags: { [flag]: true, BY_4: by4 },
    bindings: by4 ? { a: wholeVectors(a), b: whole ? wholeVectors(b) : b, y: wholeVectors(y) } : { a, b, y },
  });
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function binaryReference(a: Float32Array, b: Float32Array, op: "add" | "mul"): Float32Array {
  return a.map((x, i) => op === "add" ? x + b[i % b.length]! : x * b[i % b.length]!);
}
