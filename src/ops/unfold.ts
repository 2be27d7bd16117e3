import { ShapeError } from "../errors.ts";
import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/unfold.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";

const launch = kernel("unfold", wgsl);

/** Options of {@linkcode unfold}. */
export interface UnfoldOptions {
  /** K: places that a window has. */
  kernelSize: number;
  /** Places from one window to the next. Default 1. */
  stride?: number;
  /** Zeros on either side. Default 0. */
  padding?: number;
  /** `x` is [B, L, C] instead of [B, C, L]. Default false. */
  channelsLast?: boolean;
}

/**
 * The windows of a one-dimensional convolution, which is their product with its weight [out, C·K].
 *
 * @param x [B, C, L] float32, with `channelsLast` [B, L, C]
 * @returns [B, O, C·K] float32, O = floor((L + 2 padding - K) / stride) + 1
 * @throws {ShapeError} if the window is longer than what it slides over
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { unfold } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using y = unfold(tensor(device, [1, 2, 3, 4], [1, 1, 4]), { kernelSize: 3, stride: 2, padding: 1 });
 * console.log(await y.read()); // [0, 1, 2, 2, 3, 4]
 * ```
 */
export function unfold(
  x: Tensor,
  { kernelSize, stride = 1, padding = 0, channelsLast = false }: UnfoldOptions,
): Tensor {
  const [B = 0, first = 0, second = 0] = expectShape("unfold", "x", x, ["B", "C", "L"]);
  expectDtype("unfold", "x", x, "float32");
  const [C, L] = channelsLast ? [second, first] : [first, second];
  const O = Math.floor((L + 2 * padding - kernelSize) / stride) + 1;
  const whole = [kernelSize, stride, padding + 1].every((n) => Number.isInteger(n) && n > 0);
  if (!whole || O < 1) {
    throw new ShapeError(
      `Cannot run unfold as windows of whole sizes must fit ${L} places: kernelSize, stride and padding are ` +
        `${kernelSize}, ${stride} and ${padding}`,
    );
  }
  const y = empty(x.device, [B, O, C * kernelSize]);
  launch(x.device, {
    flags: { CHANNELS_LAST: channelsLast },
    overrides: { CHANNELS: C, LENGTH: L, OUTPUTS: O, KERNEL: kernelSize, STRIDE: stride, PADDING: padding },
    bindings: { x, y },
    grid: [Math.ceil(y.size / 64)],
  });
  return y;
}

/** The same in plain loops, x [B, C, L]: what the kernel must equal. */
export function unfoldReference(
  x: Float32Array,
  [B, C, L]: readonly [number, number, number],
  { kernelSize: K, stride = 1, padding = 0 }: UnfoldOptions,
): Float32Array {
  const O = Math.floor((L + 2 * padding - K) / stride) + 1;
  return Float32Array.from({ length: B * O * C * K }, (_, j) => {
    const k = j % K, c = Math.floor(j / K) % C, row = Math.floor(j / (K * C)), at = row % O * stride + k - padding;
    return at >= 0 && at < L ? x[(Math.floor(row / O) * C + c) * L + at]! : 0;
  });
}
