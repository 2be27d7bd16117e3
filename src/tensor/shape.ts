/**
 * Shapes and the checks that ops make before they allocate anything.
 *
 * @module
 */
import { DtypeError, ShapeError } from "../errors.ts";
import type { Dtype } from "./dtype.ts";

/** Lengths of the dimensions, outermost first. */
export type Shape = readonly number[];

/** Number of elements of `shape`. */
export function elements(shape: Shape): number {
  return shape.reduce((product, n) => product * n, 1);
}

/** "[2, 3]" */
export function formatShape(shape: readonly (number | string)[]): string {
  return `[${shape.join(", ")}]`;
}

/**
 * Checks the shape of one argument of an op and returns it. In `want` a number must be equal, a string names any length
 * (the same name, the same length), and a leading "…" stands for any number of dimensions.
 *
 * @throws {ShapeError} "Cannot run rmsNorm as weight must be [4]: current shape is [3]"
 */
export function expectShape(
  op: string,
  argument: string,
  t: { shape: Shape },
  want: readonly (number | string)[],
): Shape {
  const open = want[0] === "…";
  const tail = open ? want.slice(1) : want;
  const got = open ? t.shape.slice(Math.max(0, t.shape.length - tail.length)) : t.shape;
  const names = new Map<string, number>();
  const fits = got.length === tail.length && tail.every((dim, i) => {
    if (typeof dim === "number") return dim === got[i];
    const seen = names.get(dim) ?? got[i]!;
    names.set(dim, seen);
    return seen === got[i];
  });
  if (!fits) {
    throw new ShapeError(
      `Cannot run ${op} as ${argument} must be ${formatShape(want)}: current shape is ${formatShape(t.shape)}`,
    );
  }
  return t.shape;
}

/**
 * Checks the dtype of one argument of an op.
 *
 * @throws {DtypeError} "Cannot run embedding as tokens must be uint32: current dtype is float32"
 */
export function expectDtype(op: string, argument: string, t: { dtype: Dtype }, ...want: Dtype[]): void {
  if (want.includes(t.dtype)) return;
  throw new DtypeError(`Cannot run ${op} as ${argument} must be ${want.join(" or ")}: current dtype is ${t.dtype}`);
}
