import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/cast.wgsl" with { type: "text" };
import { decode, type Dtype, empty, encode, type Tensor, type TypedArray } from "../tensor/mod.ts";
import { elementwise, wholeVectors } from "./launching.ts";

const launch = kernel("cast", wgsl);
const FLAGS = { float32: "F32", float16: "F16", bfloat16: "BF16", int32: "I32", uint32: "U32" } as const;

/**
 * A copy in another dtype. Floats are rounded to nearest even and become infinite past the range of float16, as IEEE
 * 754 has it; floats become integers by dropping what is behind the point, and stay within the integers' range; integers
 * become integers by their low bits.
 *
 * @param x any shape and dtype
 * @param dtype the dtype of the copy
 * @returns the shape of `x` in `dtype`
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { cast } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = cast(tensor(device, [0.1, 1e6], [2]), "float16");
 * console.log(await y.read()); // Float16Array(2) [ 0.0999755859375, Infinity ]
 * ```
 */
export function cast(x: Tensor, dtype: Dtype): Tensor {
  const y = empty(x.device, x.shape, dtype);
  if (dtype === x.dtype) {
    x.device.stream.copy(x.buffer.gpu, x.byteOffset, y.buffer.gpu, 0, Math.ceil(y.byteLength / 4) * 4);
    return y;
  }
  launch(x.device, {
    ...elementwise(x.device, Math.ceil(x.size / 4)),
    flags: { [`X_${FLAGS[x.dtype]}`]: true, [FLAGS[dtype]]: true },
    bindings: { x: wholeVectors(x), y: wholeVectors(y) },
  });
  return y;
}

/** The same in plain loops: what the kernel must equal. */
export function castReference(x: TypedArray, dtype: Dtype): TypedArray {
  const whole = x instanceof Int32Array || x instanceof Uint32Array;
  const [low, high] = dtype === "int32" ? [-(2 ** 31), 2 ** 31 - 1] : [0, 2 ** 32 - 1];
  const toInteger = (v: number) => whole ? v : Math.min(high, Math.max(low, Math.trunc(v)));
  const values = Array.from(x, dtype === "int32" || dtype === "uint32" ? toInteger : Math.fround);
  return decode(encode(values, dtype).slice().buffer, dtype);
}
