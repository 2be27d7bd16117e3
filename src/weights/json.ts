/**
 * JSON of a model's files: JSON.parse, after what it does not check (nesting, keys that stand twice).
 *
 * @module
 */
import { ModelFormatError } from "../errors.ts";
import { parseJsonText } from "./json_text.ts";

const MAX_DEPTH = 64;
// Config keys and a weight_map lie this shallow; a vocabulary of 200,000 keys does not and is not worth a set.
const UNIQUE_KEYS_DEPTH = 2;

const QUOTE = 0x22, BACKSLASH = 0x5c, COLON = 0x3a, COMMA = 0x2c;
const OPEN_OBJECT = 0x7b, CLOSE_OBJECT = 0x7d, OPEN_ARRAY = 0x5b, CLOSE_ARRAY = 0x5d;

/**
 * Parses the bytes of a JSON file that holds an object.
 *
 * @param bytes UTF-8 without a byte order mark
 * @param name the file's name, for messages
 * @throws ModelFormatError if they are not UTF-8 or not JSON, are nested deeper than 64, hold a key twice in one of
 * the two outer levels, or hold something else than an object
 */
export function parseJson(bytes: Uint8Array, name: string): Record<string, unknown> {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new ModelFormatError(`Cannot read ${name} as it must be UTF-8: ${(cause as Error).message}`, { cause });
  }
  checkStructure(text, name);
  let value: unknown;
  try {
    value = parseJsonText(text);
  } catch (cause) {
    throw new ModelFormatError(`Cannot read ${name} as it must be JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    const kind = value === null ? "null" : Array.isArray(value) ? "an array" : `a ${typeof value}`;
    throw new ModelFormatError(`Cannot read ${name} as it must hold a JSON object: it holds ${kind}`);
  }
  return value as Record<string, unknown>;
}

/**
 * Checks nesting and repeated keys in one pass, before anything is built from `text`.
 *
 * It takes any text: what is no JSON is left for JSON.parse to refuse.
 *
 * @param text a JSON text
 * @param name the file's name, for messages
 * @throws ModelFormatError if it is nested deeper than 64, or one of the two outer levels holds a key twice
 */
function checkStructure(text: string, name: string): void {
  const keys: (Set<string> | undefined)[] = []; // one a level; undefined for arrays and for levels not watched
  let start = -1, end = -1; // the last string literal, while nothing but space followed it
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case QUOTE:
        start = i;
        end = i = stringEnd(text, i);
        break;
      case COLON: {
        const seen = keys.at(-1);
        if (seen && start >= 0) addKey(seen, text.slice(start, end + 1), name, () => place(text, start));
        start = -1;
        break;
      }
      case OPEN_OBJECT:
      case OPEN_ARRAY:
        if (keys.length === MAX_DEPTH) {
          throw new ModelFormatError(
            `Cannot read ${name} as it must be nested at most ${MAX_DEPTH} deep: ${place(text, i)} is deeper`,
          );
        }
        keys.push(text.charCodeAt(i) === OPEN_OBJECT && keys.length < UNIQUE_KEYS_DEPTH ? new Set() : undefined);
        start = -1;
        break;
      case CLOSE_OBJECT:
      case CLOSE_ARRAY:
        keys.pop();
        start = -1;
        break;
      case COMMA:
        start = -1;
    }
  }
}

/** Index of the quote that ends the string starting at `start`, or of the text's end. */
function stringEnd(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === QUOTE) return i;
    if (c === BACKSLASH) i++;
  }
  return text.length;
}

function addKey(seen: Set<string>, literal: string, name: string, where: () => string): void {
  let key = literal;
  try {
    if (literal.includes("\\")) key = JSON.stringify(JSON.parse(literal)); // "\u0061" is "a"
  } catch {
    return;
  }
  if (seen.has(key)) {
    const shown = key.length > 100 ? `${key.slice(0, 100)}…` : key;
    throw new ModelFormatError(`Cannot read ${name} as keys must be unique: ${shown} stands again at ${where()}`);
  }
  seen.add(key);
}

function place(text: string, index: number): string {
  const line = text.slice(0, index).split("\n");
  return `line ${line.length}, column ${line.at(-1)!.length + 1}`;
}
