/**
 * Warnings: one hook that every warning of the library goes through.
 *
 * @module
 */

/** Told of each warning: its category ("UserWarning", "FutureWarning", "log" for mere notes, …) and its text. */
export type WarningHook = (category: string, message: string) => void;

const toStderr: WarningHook = (category, message) => {
  if (category !== "log") console.warn(`${category}: ${message}`);
};

let hook = toStderr;
const given = new Set<string>();

/**
 * Sends warnings to `to` from now on; warnings that come once may come once more.
 *
 * @param to who is told; without it warnings go to standard error, as at the start, and notes nowhere
 * @returns who was told before
 *
 * @example
 * ```ts
 * import { setWarningHook } from "@tensaur/tensaur";
 * const heard: string[] = [];
 * const before = setWarningHook((_category, message) => heard.push(message));
 * setWarningHook(before);
 * console.log(heard.length); // 0
 * ```
 */
export function setWarningHook(to: WarningHook = toStderr): WarningHook {
  const before = hook;
  hook = to;
  given.clear();
  return before;
}

/** Warns. */
export function warn(category: string, message: string): void {
  hook(category, message);
}

/** Warns, but not twice of the same. */
export function warnOnce(category: string, message: string): void {
  const key = `${category}: ${message}`;
  if (given.has(key)) return;
  given.add(key);
  hook(category, message);
}
