/**
 * Reads JSON of a known grammar in one pass: the caller says what must come next.
 *
 * @module
 */
import { ModelFormatError } from "../errors.ts";

const SPACE = 0x20, QUOTE = 0x22, BACKSLASH = 0x5c, ZERO = 0x30, NINE = 0x39;

/** A place in a JSON text, and the readers of what stands there; each leaves the place behind what it read. */
export class JsonScanner {
  #at = 0;
  readonly #text: string;
  readonly #name: string;

  /** A scanner at the beginning of `text`, the header of the file `name`. */
  constructor(text: string, name: string) {
    this.#text = text;
    this.#name = name;
  }

  /** Index of the character looked at. */
  get at(): number {
    return this.#at;
  }

  /** An object: `member` gets each key with its place, and must read the value. */
  object(maxKeyLength: number, member: (key: string, at: number) => void): void {
    this.#expect("{");
    if (this.#take("}")) return;
    do {
      this.#space();
      const at = this.#at;
      const key = this.string(maxKeyLength);
      this.#expect(":");
      this.#space();
      member(key, at);
    } while (this.#take(","));
    this.#expect("}");
  }

  /** An array of at most `limit` whole numbers that a double holds exactly. */
  integers(limit: number): number[] {
    const values: number[] = [];
    this.#expect("[");
    if (this.#take("]")) return values;
    do {
      this.#space();
      if (values.length === limit) this.fail(`have at most ${limit} numbers here`);
      values.push(this.#integer());
    } while (this.#take(","));
    this.#expect("]");
    return values;
  }

  #integer(): number {
    const begin = this.#at;
    let at = begin, value = 0, c = this.#text.charCodeAt(at);
    for (; c >= ZERO && c <= NINE; c = this.#text.charCodeAt(++at)) value = value * 10 + (c - ZERO);
    const digits = at - begin;
    this.#at = at;
    if (digits === 0 || (digits > 1 && this.#text.charCodeAt(begin) === ZERO)) {
      this.fail("have whole numbers >= 0 here", begin);
    }
    if (!Number.isSafeInteger(value)) this.fail("have numbers below 2^53 here", begin);
    return value;
  }

  /** A string of at most `maxLength` characters between its quotes. */
  string(maxLength: number): string {
    const text = this.#text, open = this.#at;
    if (text.charCodeAt(open) !== QUOTE) this.fail("have a string here");
    let at = open + 1, escaped = false;
    for (let c = text.charCodeAt(at); c !== QUOTE; c = text.charCodeAt(++at)) {
      if (at >= text.length) this.fail("close its strings", open);
      if (c < SPACE) this.fail("have no control characters in strings", at);
      if (c === BACKSLASH) {
        escaped = true;
        at++;
      }
    }
    if (at - open - 1 > maxLength) this.fail(`have strings of at most ${maxLength} characters here`, open);
    this.#at = at + 1;
    return escaped ? this.#unescape(open, at + 1) : text.slice(open + 1, at);
  }

  #unescape(open: number, end: number): string {
    try {
      const value: string = JSON.parse(this.#text.slice(open, end));
      if (value.isWellFormed()) return value;
    } catch {
      // One message for both: unknown escapes, halves of surrogate pairs.
    }
    this.fail("have only JSON escapes of whole characters in strings", open);
  }

  /** Nothing but white space may follow. */
  end(): void {
    this.#space();
    if (this.#at !== this.#text.length) this.fail("end after its closing brace");
  }

  /** Throws {@linkcode ModelFormatError}: the header breaks `rule` at index `at`. */
  fail(rule: string, at: number = this.#at): never {
    const came = this.#text.slice(at, at + 24);
    throw new ModelFormatError(
      `Cannot read ${this.#name} as its header must ${rule}: ` +
        (came ? `character ${at} begins ${JSON.stringify(came)}` : `it ends after ${this.#text.length} characters`),
    );
  }

  #space(): void {
    const text = this.#text;
    let at = this.#at, c = text.charCodeAt(at);
    while (c === SPACE || c === 0x0a || c === 0x0d || c === 0x09) c = text.charCodeAt(++at);
    this.#at = at;
  }

  #take(character: string): boolean {
    this.#space();
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #expect(character: string): void {
    if (!this.#take(character)) this.fail(`have "${character}" here`);
  }
}
