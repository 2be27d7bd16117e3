import { formatShape, type Shape } from "../tensor/mod.ts";
import type { TensorInfo } from "./safetensors.ts";

const FLOATS = new Set(["F64", "F32", "F16", "BF16"]);

/** A tensor's name, its shape or how many bytes it has, and its dtype: one of these, any of none, a float if not given. */
export type Part = [name: string, want: Shape | number, dtypes?: readonly string[]];

/** What is wrong with the tensor that is there, if it is not what is wanted. */
export function faultOf(
  name: string,
  want: Shape | number,
  info: TensorInfo | undefined,
  dtypes?: readonly string[],
): string | undefined {
  const wanted = typeof want === "number" ? `${want} bytes` : formatShape(want);
  if (!info) return `${name} ${wanted} is missing`;
  const fits = typeof want === "number"
    ? info.end - info.start === want
    : info.shape.length === want.length && info.shape.every((n, i) => n === want[i]);
  if (!fits) return `${name} must be ${wanted}: it is ${formatShape(info.shape)}`;
  if (dtypes) {
    if (dtypes.length === 0 || dtypes.includes(info.dtype)) return;
    return `${name} must be ${dtypes.join(" or ")}: it is ${info.dtype}`;
  }
  if (!FLOATS.has(info.dtype)) return `${name} must be a float of 16, 32 or 64 bits: it is ${info.dtype}`;
}
