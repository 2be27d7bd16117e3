import { type Device, kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/zeros.wgsl" with { type: "text" };
import { type Dtype, empty, type EmptyOptions, type Shape, type Tensor } from "../tensor/mod.ts";
import { wholeVectors } from "./launching.ts";

const launch = kernel("zeros", wgsl);

/**
 * A tensor of zeros, written on the GPU.
 *
 * @param shape length of each dimension
 * @param dtype default float32
 *
 * @example
 * ```ts
 * import { openDevice } from "@tensaur/tensaur";
 * import { zeros } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = zeros(device, [2, 3], "float16");
 * console.log(await y.read()); // Float16Array(6) [ 0, 0, 0, 0, 0, 0 ]
 * ```
 */
export function zeros(device: Device, shape: Shape, dtype: Dtype = "float32", options: EmptyOptions = {}): Tensor {
  const y = empty(device, shape, dtype, options);
  launch(device, { bindings: { y: wholeVectors(y) }, grid: [Math.ceil(y.byteLength / 1024)] });
  return y;
}
