/**
 * Writes GGUF files, all or nothing.
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import { writeWhole } from "./write_whole.ts";
import { GGUF_TYPES, ggufByteLength, type GgufType } from "./gguf.ts";

/** A value of the metadata with the type that it is written as. */
export type TypedValue =
  | { type: "uint32" | "float32"; value: number }
  | { type: "bool"; value: boolean }
  | { type: "string"; value: string }
  | { type: "strings"; value: readonly string[] }
  | { type: "int32s" | "float32s"; value: readonly number[] };

/** A tensor to write. */
export interface GgufTensorToSave {
  /** Its name. */
  name: string;
  /** Its type. */
  type: GgufType;
  /** Its shape in Hugging Face's order. */
  shape: readonly number[];
  /** Its bytes, made when their turn comes. */
  data: () => AsyncIterable<Uint8Array>;
}

const ALIGNMENT = 32;
const encoder = new TextEncoder();

/**
 * Writes a GGUF file: to a temporary file beside it, which takes its name when it is whole.
 *
 * @throws ValueError if a tensor cannot be described in the format, or its bytes are not as many as its shape says
 */
export async function writeGguf(
  path: string,
  metadata: Iterable<readonly [key: string, value: TypedValue]>,
  tensors: readonly GgufTensorToSave[],
  signal?: AbortSignal,
): Promise<void> {
  const sizes = tensors.map(lengthOf), header = encodeHeader([...metadata], tensors, sizes);
  await writeWhole(path, parts(header, tensors, sizes), signal);
}

async function* parts(header: Uint8Array, tensors: readonly GgufTensorToSave[], sizes: readonly number[]) {
  yield header;
  for (const [i, { name, data }] of tensors.entries()) {
    let written = 0;
    for await (const chunk of data()) {
      written += chunk.length;
      yield chunk;
    }
    if (written !== sizes[i]) refuse(`${name} must have ${sizes[i]} bytes: ${written} came`);
    yield new Uint8Array(padding(written));
  }
}

function lengthOf({ name, type, shape }: GgufTensorToSave): number {
  const elements = shape.reduce((product, n) => product * n, 1);
  const length = Number.isSafeInteger(elements) ? ggufByteLength(type, elements, shape.at(-1) ?? 1) : undefined;
  if (length !== undefined && shape.length <= 4) return length;
  return refuse(`${name} must be whole rows of ${type} in at most 4 dimensions: its shape is [${shape}]`);
}

function encodeHeader(
  metadata: readonly (readonly [string, TypedValue])[],
  tensors: readonly GgufTensorToSave[],
  sizes: readonly number[],
): Uint8Array {
  const out = new Bytes();
  out.raw(encoder.encode("GGUF"));
  out.u32(3);
  out.u64(tensors.length);
  out.u64(metadata.length);
  for (const [key, value] of metadata) {
    out.string(key);
    out.typed(value);
  }
  let offset = 0;
  for (const [i, { name, type, shape }] of tensors.entries()) {
    out.string(name);
    out.u32(shape.length);
    for (const n of shape.toReversed()) out.u64(n);
    out.u32(GGUF_TYPES[type]);
    out.u64(offset);
    offset += sizes[i]! + padding(sizes[i]!);
  }
  out.raw(new Uint8Array(padding(out.length)));
  return out.take();
}

function padding(length: number): number {
  return (ALIGNMENT - length % ALIGNMENT) % ALIGNMENT;
}

/** Grows as it is written to. */
class Bytes {
  length = 0;
  #bytes = new Uint8Array(2 ** 16);

  raw(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.length - bytes.length);
  }

  u32(value: number): void {
    this.#room(4).setUint32(0, value, true);
  }

  u64(value: number): void {
    this.#room(8).setBigUint64(0, BigInt(value), true);
  }

  string(text: string): void {
    const bytes = encoder.encode(text);
    this.u64(bytes.length);
    this.raw(bytes);
  }

  typed({ type, value }: TypedValue): void {
    this.u32(TYPE_NUMBERS[type][0]!);
    if (!Array.isArray(value)) return this.#one(type, value as number | boolean | string);
    this.u32(TYPE_NUMBERS[type][1]!);
    this.u64(value.length);
    for (const each of value) this.#one(type, each);
  }

  #one(type: TypedValue["type"], value: number | boolean | string): void {
    if (typeof value === "string") return this.string(value);
    if (type === "bool") this.#room(1).setUint8(0, Number(value));
    else if (type.startsWith("float")) this.#room(4).setFloat32(0, value as number, true);
    else if (type === "int32s") this.#room(4).setInt32(0, value as number, true);
    else this.u32(value as number);
  }

  take(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }

  /** Room for `count` bytes more, which are the view's first. */
  #room(count: number): DataView {
    const at = this.length;
    this.length += count;
    if (this.length > this.#bytes.length) {
      const larger = new Uint8Array(2 * this.length);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    return new DataView(this.#bytes.buffer, at, count);
  }
}

/** The number of a type, and of its elements where it is a list. */
const TYPE_NUMBERS: Readonly<Record<TypedValue["type"], readonly number[]>> = {
  uint32: [4],
  float32: [6],
  bool: [7],
  string: [8],
  strings: [9, 8],
  int32s: [9, 5],
  float32s: [9, 6],
};

function refuse(rule: string): never {
  throw new ValueError(`Cannot write GGUF as ${rule}`);
}
