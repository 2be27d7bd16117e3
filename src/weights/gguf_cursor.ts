/**
 * Reads the values of a GGUF header, each of them checked against the bytes that are left.
 *
 * @module
 */
import { ModelFormatError } from "../errors.ts";

/** Bytes of each type of value by its number; 0: as long as it says itself. */
export const VALUE_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8] as const;
/** Numbers of the types of values that are no numbers. */
export const STRING = 8, ARRAY = 9, BOOL = 7;

/** More of the file is needed. */
export class Ended extends Error {}

/** Reads the header from front to back. */
export class Cursor {
  /** The next byte. */
  at = 0;
  readonly #view: DataView;
  readonly #text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  /** A cursor at the beginning of `bytes`, the first of a file of `size` bytes. */
  constructor(readonly bytes: Uint8Array, readonly size: number, readonly name: string) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Steps over `count` bytes of `what` and returns where they begin. */
  take(count: number, what: string): number {
    const at = this.at;
    if (count > this.size - at) {
      this.fail(`${what} must end inside the file of ${this.size} bytes: it needs ${count}`, {
        hint: "The file is cut short, or no GGUF file; download it again.",
      });
    }
    if (count > this.bytes.length - at) throw new Ended();
    this.at += count;
    return at;
  }

  /** A number of 32 bits. */
  u32(what: string): number {
    return this.#view.getUint32(this.take(4, what), true);
  }

  /** A count, a length or an offset. */
  u64(what: string, most: number): number {
    const value = this.#view.getBigUint64(this.take(8, what), true);
    if (value > BigInt(most)) this.fail(`${what} must be at most ${most}: it is ${value}`, {}, 8);
    return Number(value);
  }

  /** A text of at most `most` bytes. */
  string(what: string, most: number): string {
    const length = this.u64(`the length of ${what}`, Math.min(most, this.size));
    const at = this.take(length, what);
    try {
      return this.#text.decode(this.bytes.subarray(at, at + length));
    } catch {
      return this.fail(`${what} must be UTF-8`, {}, length);
    }
  }

  /** A number or truth of the type with the number `type`. */
  scalar(type: number, what: string): number | bigint | boolean {
    const view = this.#view, at = this.take(VALUE_BYTES[type]!, what);
    switch (type) {
      case 0:
        return view.getUint8(at);
      case 1:
        return view.getInt8(at);
      case 2:
        return view.getUint16(at, true);
      case 3:
        return view.getInt16(at, true);
      case 4:
        return view.getUint32(at, true);
      case 5:
        return view.getInt32(at, true);
      case 6:
        return view.getFloat32(at, true);
      case BOOL: {
        const byte = view.getUint8(at);
        return byte < 2 ? byte === 1 : this.fail(`${what} must be 0 or 1: it is ${byte}`, {}, 1);
      }
      case 10:
        return numberOr(view.getBigUint64(at, true));
      case 11:
        return numberOr(view.getBigInt64(at, true));
      default:
        return view.getFloat64(at, true);
    }
  }

  /** Throws: `rule` is broken `back` bytes before here. */
  fail(rule: string, details: { hint?: string } = {}, back = 0): never {
    throw new ModelFormatError(`Cannot read ${this.name} as ${rule} (at byte ${this.at - back})`, details);
  }
}

function numberOr(value: bigint): number | bigint {
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}
