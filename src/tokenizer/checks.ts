/**
 * Reading a tokenizer's JSON with rules: every value is checked before it is used, and every refusal names its place.
 *
 * @module
 */
import { TokenizerError } from "../errors.ts";

/** A JSON object of which nothing is known yet. */
export type Json = Record<string, unknown>;

/** The highest token id, and the most vocabulary entries and merges. */
export const MAX_ID = 2 ** 22 - 1;

/** Throws the {@linkcode TokenizerError} for the value at `path`. */
export function refuse(path: string, rule: string, value: unknown): never {
  throw new TokenizerError(`Cannot load the tokenizer as ${path} must ${rule}: current value is ${show(value)}`);
}

/** A value in a message: JSON, cut at 80 characters. */
export function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** Whether `value` is an object, and no array. */
export function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** `value` as an object. */
export function asObject(value: unknown, path: string): Json {
  return isObject(value) ? value : refuse(path, "be an object", value);
}

/** `value` as an array; missing is empty. */
export function asArray(value: unknown, path: string): unknown[] {
  return Array.isArray(value ?? []) ? (value ?? []) as unknown[] : refuse(path, "be an array", value);
}

/** `value` as a string; `fallback`, where there is one, for null or missing. */
export function asString(value: unknown, path: string, fallback?: string): string {
  const text = value ?? fallback;
  return typeof text === "string" ? text : refuse(path, "be a string", value);
}

/** `value` as a boolean; `fallback` for null or missing. */
export function asBoolean(value: unknown, path: string, fallback: boolean): boolean {
  const flag = value ?? fallback;
  return typeof flag === "boolean" ? flag : refuse(path, "be true or false", value);
}

/** `value` as a whole number from `min` to `max`; `fallback`, where there is one, for null or missing. */
export function asInteger(value: unknown, path: string, min: number, max: number, fallback?: number): number {
  const n = value ?? fallback;
  const ok = typeof n === "number" && Number.isInteger(n) && n >= min && n <= max;
  return ok ? n : refuse(path, `be a whole number from ${min} to ${max}`, value);
}

/** `value` as one of `names`. */
export function asOneOf<T extends string>(value: unknown, path: string, names: readonly T[]): T {
  return names.includes(value as T) ? value as T : refuse(path, `be one of ${names.join(", ")}`, value);
}

/** The entry of `known` that `config.type` names; any other type is refused with the list of those known. */
export function byType<T>(path: string, config: Json, known: Record<string, T>): T {
  const { type } = config;
  if (typeof type === "string" && Object.hasOwn(known, type)) return known[type]!;
  throw new TokenizerError(
    `Cannot load the tokenizer as the type of its ${path} must be one of ${Object.keys(known).join(", ")}: ` +
      `current value is ${show(type)}`,
  );
}
