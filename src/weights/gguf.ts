/**
 * The GGUF format: a header of typed key-value pairs, descriptions of tensors, then their bytes, aligned.
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * Every count, length and offset is compared with the bytes that are there before anything is made of it.
 *
 * @module
 */
import { LimitError, NotSupportedError } from "../errors.ts";
import { blockFormat } from "../quantization/gguf_blocks.ts";
import type { ModelFile } from "./files.ts";
import { ARRAY, Cursor, Ended, STRING, VALUE_BYTES } from "./gguf_cursor.ts";

/** A value of the metadata; 64-bit integers that a number cannot hold are bigint. */
export type GgufValue = number | bigint | boolean | string | readonly (number | bigint | boolean | string)[];

/** Where one tensor lies. */
export interface GgufTensor {
  /** Its name in the file. */
  readonly name: string;
  /** "F32", "Q4_K", … */
  readonly type: GgufType;
  /** Its shape in the order of Hugging Face's: the longest stride first. */
  readonly shape: readonly number[];
  /** Its first byte, counted from the file's start. */
  readonly start: number;
  /** The byte after its last one. */
  readonly end: number;
}

/** What a GGUF file says about itself. */
export interface GgufHeader {
  /** Version of the format: 2 or 3. */
  readonly version: number;
  /** Bytes to which the tensors are aligned. */
  readonly alignment: number;
  /** The metadata by key. */
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** All tensors by name, in the file's order. */
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/** Types of tensors by their numbers in the file; those that are not named cannot be loaded. */
export const GGUF_TYPES = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q5_0: 6,
  Q5_1: 7,
  Q8_0: 8,
  Q2_K: 10,
  Q3_K: 11,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  BF16: 30,
} as const;

/** A type of tensors. */
export type GgufType = keyof typeof GGUF_TYPES;

const TYPE_OF = new Map<number, GgufType>(Object.entries(GGUF_TYPES).map(([name, id]) => [id, name as GgufType]));
const LAST_TYPE = 39; // of ggml's, known or not
const MAX_HEADER_BYTES = 512 * 2 ** 20;
const MAX_PAIRS = 65_536, MAX_TENSORS = 200_000, MAX_ELEMENTS = 16_000_000, MAX_KEY = 65_535, MAX_NAME = 1024;
const MAX_STRING = 64 * 2 ** 20, MAX_DIMS = 4, MAX_ALIGNMENT = 2 ** 20;
const FIRST_READ = 4 * 2 ** 20;

/** Bytes of `elements` numbers of a type whose rows have `row`; undefined where a row is no whole number of blocks. */
export function ggufByteLength(type: GgufType, elements: number, row: number): number | undefined {
  const format = blockFormat(type);
  if (!format) return elements * (type === "F32" ? 4 : 2);
  return row % format.size === 0 ? elements / format.size * format.bytes : undefined;
}

/** Reads and checks the header of an open file. */
export async function readGgufHeader(file: ModelFile): Promise<GgufHeader> {
  for (let length = Math.min(FIRST_READ, file.size);; length = Math.min(4 * length, file.size)) {
    const header = parseGgufHeader(await file.read(0, length), file.size, file.name);
    if (header) return header;
    if (length < MAX_HEADER_BYTES) continue;
    throw new LimitError(
      `Cannot read ${file.name} as its header must have at most ${MAX_HEADER_BYTES} bytes: it has more`,
    );
  }
}

/**
 * Parses the beginning of a GGUF file.
 *
 * @param bytes the file's first bytes
 * @param fileSize length of the whole file
 * @param name the file's name, for messages
 * @returns undefined where `bytes` end before the header does and the file does not
 * @throws ModelFormatError for every broken rule of the format, with the place
 * @throws NotSupportedError for a version, byte order or type of tensor that cannot be loaded
 */
export function parseGgufHeader(bytes: Uint8Array, fileSize: number, name: string): GgufHeader | undefined {
  const cursor = new Cursor(bytes, fileSize, name);
  try {
    return parse(cursor);
  } catch (error) {
    if (error instanceof Ended) return undefined;
    throw error;
  }
}

function parse(cursor: Cursor): GgufHeader {
  cursor.take(4, "the magic");
  const magic = String.fromCharCode(...cursor.bytes.subarray(0, 4));
  if (magic !== "GGUF") cursor.fail(`a GGUF file must begin with "GGUF": it begins with ${JSON.stringify(magic)}`);
  const version = cursor.u32("the version");
  if (version !== 2 && version !== 3) {
    throw new NotSupportedError(
      `Cannot read ${cursor.name} as its version must be 2 or 3, little-endian: current value is ${version}`,
    );
  }
  const tensorCount = cursor.u64("the number of tensors", Math.min(MAX_TENSORS, cursor.size));
  const pairCount = cursor.u64("the number of keys", Math.min(MAX_PAIRS, cursor.size));
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < pairCount; i++) {
    const key = cursor.string(`key ${i}`, MAX_KEY);
    if (metadata.has(key)) cursor.fail(`keys must be unique: ${JSON.stringify(key)} stands again`);
    metadata.set(key, valueOf(cursor, key));
  }
  const alignment = alignmentOf(metadata, cursor);
  const described: Omit<GgufTensor, "end">[] = [], names = new Set<string>();
  for (let i = 0; i < tensorCount; i++) {
    const tensor = tensorOf(cursor, i, alignment);
    if (names.has(tensor.name)) cursor.fail(`tensors must be unique: ${JSON.stringify(tensor.name)} stands again`);
    names.add(tensor.name);
    described.push(tensor);
  }
  return { version, alignment, metadata, tensors: placed(described, cursor, alignment) };
}

function valueOf(cursor: Cursor, key: string): GgufValue {
  const what = `the value of ${JSON.stringify(key.slice(0, 200))}`, type = cursor.u32(what);
  if (type === STRING) return cursor.string(what, MAX_STRING);
  if (type !== ARRAY) return type < VALUE_BYTES.length ? cursor.scalar(type, what) : badType(cursor, what, type);
  const inner = cursor.u32(what);
  if (inner === ARRAY || inner >= VALUE_BYTES.length) badType(cursor, `an element of ${what.slice(4)}`, inner);
  const least = inner === STRING ? 8 : VALUE_BYTES[inner]!;
  const count = cursor.u64(`the length of ${what}`, Math.min(MAX_ELEMENTS, Math.floor(cursor.size / least)));
  if (count * least > cursor.size - cursor.at) cursor.take(count * least, what);
  const list: (number | bigint | boolean | string)[] = [];
  for (let i = 0; i < count; i++) {
    list.push(inner === STRING ? cursor.string(what, MAX_STRING) : cursor.scalar(inner, what));
  }
  return list;
}

function badType(cursor: Cursor, what: string, type: number): never {
  return cursor.fail(`${what} must have a type from 0 to 12, lists no lists: it is ${type}`, {}, 4);
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>, cursor: Cursor): number {
  const value = metadata.get("general.alignment") ?? 32;
  const holds = typeof value === "number" && value >= 1 && value <= MAX_ALIGNMENT && Number.isInteger(Math.log2(value));
  return holds ? value : cursor.fail(`general.alignment must be a power of 2 up to ${MAX_ALIGNMENT}: it is ${value}`);
}

/** A tensor's description; `start` still counts from where the tensors begin. */
function tensorOf(cursor: Cursor, i: number, alignment: number): Omit<GgufTensor, "end"> {
  const name = cursor.string(`the name of tensor ${i}`, MAX_NAME), quoted = JSON.stringify(name);
  const dims = cursor.u32(`the number of dimensions of ${quoted}`);
  if (dims > MAX_DIMS) cursor.fail(`${quoted} must have at most ${MAX_DIMS} dimensions: it has ${dims}`, {}, 4);
  const sizes = Array.from({ length: dims }, () => cursor.u64(`a size of ${quoted}`, Number.MAX_SAFE_INTEGER));
  const id = cursor.u32(`the type of ${quoted}`), type = TYPE_OF.get(id);
  if (type === undefined) {
    if (id > LAST_TYPE) cursor.fail(`the type of ${quoted} must be one of ggml's: it is ${id}`, {}, 4);
    throw new NotSupportedError(
      `Cannot read ${cursor.name} as the types of its tensors must be among ${Object.keys(GGUF_TYPES).join(", ")}: ` +
        `that of ${quoted} has the number ${id}`,
      { hint: "Quantize the model to one of these types." },
    );
  }
  const start = cursor.u64(`the offset of ${quoted}`, cursor.size);
  if (start % alignment !== 0) {
    cursor.fail(`the offset of ${quoted} must be a multiple of ${alignment}: it is ${start}`, {}, 8);
  }
  return { name, type, shape: sizes.reverse(), start };
}

/** Each tensor's bytes in the file: inside it, and no two in the same place. */
function placed(
  tensors: readonly Omit<GgufTensor, "end">[],
  cursor: Cursor,
  alignment: number,
): ReadonlyMap<string, GgufTensor> {
  const begin = Math.ceil(cursor.at / alignment) * alignment;
  const all = tensors.map((tensor): GgufTensor => {
    const { name, type, shape } = tensor, start = begin + tensor.start, quoted = JSON.stringify(name);
    const elements = shape.reduce((product, n) => product * n, 1);
    const length = Number.isSafeInteger(elements) ? ggufByteLength(type, elements, shape.at(-1) ?? 1) : NaN;
    if (length === undefined) cursor.fail(`rows of ${quoted} must be whole blocks of ${type}: its shape is [${shape}]`);
    if (!(start + length <= cursor.size)) {
      cursor.fail(`${quoted} must end inside the file of ${cursor.size} bytes: it ends at ${start + length}`, {
        hint: "The file is cut short; download it again.",
      });
    }
    return { name, type, shape, start, end: start + length };
  });
  const inOrder = all.toSorted((a, b) => a.start - b.start || a.end - b.end);
  const wrong = inOrder.findIndex((tensor, i) => i > 0 && tensor.start < inOrder[i - 1]!.end);
  if (wrong >= 0) {
    const names = [wrong - 1, wrong].map((i) => JSON.stringify(inOrder[i]!.name)).join(" and ");
    cursor.fail(`tensors must lie one after the other: ${names} overlap`);
  }
  return new Map(all.map((tensor) => [tensor.name, tensor]));
}
