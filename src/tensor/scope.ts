/**
 * Scopes: the temporaries of a step return to the pool at its end, whatever happens in it.
 *
 * @module
 */
import type { Device } from "../gpu/mod.ts";

const scopes = new WeakMap<Device, Set<Disposable>[]>();

/** Puts `value` into the innermost scope of `device`, if one is open. */
export function own(device: Device, value: Disposable): void {
  scopes.get(device)?.at(-1)?.add(value);
}

/** Takes `value` out of every scope of `device`: the caller disposes of it. */
export function keep<T extends Disposable>(device: Device, value: T): T {
  for (const scope of scopes.get(device) ?? []) scope.delete(value);
  return value;
}

/**
 * Runs `fn`; every tensor made inside is disposed of at the end but the one it returns (or those in the array or record
 * it returns), which pass to the scope around it.
 *
 * @example
 * ```ts
 * import { openDevice, tensor, tidy } from "@tensaur/tensaur";
 * import { add, mul } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using x = tensor(device, [1, 2], [2]);
 * using y = tidy(device, () => add(mul(x, x), x)); // the product returns to the pool
 * console.log(await y.read()); // Float32Array(2) [ 2, 6 ]
 * ```
 */
export function tidy<T>(device: Device, fn: () => T): T {
  const stack = scopes.get(device) ?? [];
  scopes.set(device, stack);
  const scope = new Set<Disposable>();
  stack.push(scope);
  try {
    const result = fn();
    for (const value of disposables(result)) {
      if (scope.delete(value)) stack.at(-2)?.add(value);
    }
    return result;
  } finally {
    stack.pop();
    for (const value of scope) value[Symbol.dispose]();
  }
}

function disposables(result: unknown): Disposable[] {
  if (typeof result !== "object" || result === null) return [];
  if (Symbol.dispose in result) return [result as Disposable];
  const plain = Array.isArray(result) || Object.getPrototypeOf(result) === Object.prototype;
  return plain ? Object.values(result).flatMap(disposables) : [];
}
