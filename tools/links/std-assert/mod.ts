/**
 * Stand-in for `jsr:@std/assert` with the names our tests use, for machines that cannot reach the JSR registry.
 * Same names, same argument order; `links` in deno.json affects this checkout only.
 *
 * @module
 */
import assertStrict, { AssertionError } from "node:assert/strict";

export { AssertionError };

// deno-lint-ignore no-explicit-any
type ErrorClass<E extends Error> = new (...args: any[]) => E;

/** Fails unless `condition` is truthy. */
export function assert(condition: unknown, message = "condition is not truthy"): asserts condition {
  if (!condition) throw new AssertionError({ message });
}

/** Fails unless both are deeply equal. */
export function assertEquals<T>(actual: T, expected: T, message?: string): void {
  assertStrict.deepStrictEqual(actual, expected, message);
}

/** Fails if both are deeply equal. */
export function assertNotEquals<T>(actual: T, expected: T, message?: string): void {
  assertStrict.notDeepStrictEqual(actual, expected, message);
}

/** Fails unless both are the same value (`Object.is`). */
export function assertStrictEquals<T>(actual: T, expected: T, message?: string): void {
  assertStrict.strictEqual(actual, expected, message);
}

/** Fails unless `|actual - expected| <= tolerance`. */
export function assertAlmostEquals(actual: number, expected: number, tolerance = 1e-7, message?: string): void {
  if (Object.is(actual, expected) || Math.abs(actual - expected) <= tolerance) return;
  throw new AssertionError({ message: message ?? `${actual} is not within ${tolerance} of ${expected}` });
}

/** Fails unless `actual` holds `expected`. */
export function assertStringIncludes(actual: string, expected: string, message?: string): void {
  if (!actual.includes(expected)) {
    throw new AssertionError({ message: message ?? `"${actual}" does not hold "${expected}"` });
  }
}

/** Fails unless `actual` matches `expected`. */
export function assertMatch(actual: string, expected: RegExp, message?: string): void {
  if (!expected.test(actual)) {
    throw new AssertionError({ message: message ?? `"${actual}" does not match ${expected}` });
  }
}

/** Fails unless `actual` is an instance of `type`. */
export function assertInstanceOf<E>(
  actual: unknown,
  // deno-lint-ignore no-explicit-any
  type: abstract new (...args: any[]) => E,
  message?: string,
): asserts actual is E {
  if (actual instanceof type) return;
  throw new AssertionError({ message: message ?? `expected an instance of ${type.name}, got ${actual}` });
}

/** Fails if `actual` is null or undefined. */
export function assertExists<T>(
  actual: T,
  message = `${actual} is null or undefined`,
): asserts actual is NonNullable<T> {
  if (actual === null || actual === undefined) throw new AssertionError({ message });
}

/** Fails unless `error` is of class `type` and its message holds `text`. */
export function assertIsError<E extends Error>(
  error: unknown,
  type?: ErrorClass<E>,
  text?: string,
): asserts error is E {
  if (!(error instanceof Error)) throw new AssertionError({ message: `expected an Error, got ${error}` });
  if (type && !(error instanceof type)) {
    throw new AssertionError({ message: `expected ${type.name}, got ${error.name}: ${error.message}` });
  }
  if (text !== undefined) assertStringIncludes(error.message, text);
}

/** Fails unless `fn` throws; returns what it threw. */
export function assertThrows<E extends Error = Error>(fn: () => unknown, type?: ErrorClass<E>, text?: string): E {
  try {
    fn();
  } catch (error) {
    assertIsError(error, type, text);
    return error as E;
  }
  throw new AssertionError({ message: `expected ${type?.name ?? "an error"}, nothing was thrown` });
}

/** Fails unless the promise of `fn` rejects; returns what it rejected with. */
export async function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  type?: ErrorClass<E>,
  text?: string,
): Promise<E> {
  try {
    await fn();
  } catch (error) {
    assertIsError(error, type, text);
    return error as E;
  }
  throw new AssertionError({ message: `expected ${type?.name ?? "an error"}, nothing was rejected` });
}

/** Fails always. */
export function fail(message = "failed"): never {
  throw new AssertionError({ message });
}
