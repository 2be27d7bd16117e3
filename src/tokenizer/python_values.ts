/**
 * Values of a chat template as Python compares and prints them. These functions run in a worker from their source
 * text (see template_worker.ts), so they use nothing but each other.
 *
 * @module
 */
import type * as Jinja from "@huggingface/jinja";

/** A value of the template engine. */
export type Value = ReturnType<Jinja.Interpreter["evaluate"]>;

/** Python's `repr` of a string. */
export function pythonQuote(text: string): string {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escapes: Record<string, string> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", [mark]: `\\${mark}` };
  return mark + text.replace(/[\\'"]|(?! )[\p{C}\p{Z}]/gu, (c) => {
    if (c === "'" || c === '"') return escapes[c] ?? c;
    const code = c.codePointAt(0)!.toString(16);
    const [letter, digits] = code.length <= 2 ? ["x", 2] : code.length <= 4 ? ["u", 4] : ["U", 8];
    return escapes[c] ?? `\\${letter}${code.padStart(digits, "0")}`;
  }) + mark;
}

/** Python's `repr` of a value. */
export function pythonRepr(value: Value): string {
  switch (value.type) {
    case "StringValue":
      return pythonQuote(value.value as string);
    case "BooleanValue":
      return value.value ? "True" : "False";
    case "NullValue":
      return "None";
    case "ArrayValue":
      return `[${(value.value as Value[]).map(pythonRepr).join(", ")}]`;
    case "TupleValue": {
      const items = (value.value as Value[]).map(pythonRepr);
      return `(${items.join(", ")}${items.length === 1 ? "," : ""})`;
    }
    case "ObjectValue": {
      const entries = [...value.value as Map<string, Value>];
      return `{${entries.map(([key, item]) => `${pythonQuote(key)}: ${pythonRepr(item)}`).join(", ")}}`;
    }
    default:
      return value.toString();
  }
}

/** Python's `str` of a value, as a template prints it: nothing for an undefined one. */
export function pythonStr(value: Value): string {
  if (value.type === "StringValue") return value.value as string;
  return value.type === "UndefinedValue" ? "" : pythonRepr(value);
}

/** Python's `==`; dicts count as equal only in the same order of keys. */
export function pythonEquals(left: Value, right: Value): boolean {
  const isNumber = (value: Value) => typeof value.value === "number" || typeof value.value === "boolean";
  if (isNumber(left) && isNumber(right)) return Number(left.value) === Number(right.value);
  if (left.value === undefined || right.value === undefined) return left.type === right.type; // none and undefined
  const both = typeof left.value === "object" && typeof right.value === "object";
  return both ? pythonRepr(left) === pythonRepr(right) : left.value === right.value;
}

/** Python's `strip`: without `chars` it takes what Python counts as white space. */
export function pythonStrip(text: string, chars?: string, left = true, right = true): string {
  const set = chars === undefined ? undefined : new Set(chars);
  const goes = (c: string) => set ? set.has(c) : /\s/.test(c) ? c !== "\ufeff" : "\x1c\x1d\x1e\x1f\x85".includes(c);
  const all = [...text];
  let start = 0, end = all.length;
  while (left && start < end && goes(all[start]!)) start++;
  while (right && end > start && goes(all[end - 1]!)) end--;
  return all.slice(start, end).join("");
}

/** All functions of this file, for the worker. */
export const VALUES: readonly ((...args: never[]) => unknown)[] = [
  pythonQuote,
  pythonRepr,
  pythonStr,
  pythonEquals,
  pythonStrip,
];
