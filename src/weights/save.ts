/**
 * Writes safetensors files, all or nothing.
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import {
  DTYPE_BITS,
  MAX_ENTRIES,
  MAX_HEADER_BYTES,
  MAX_NAME_LENGTH,
  MAX_RANK,
  type SafetensorsDtype,
  tensorByteLength,
  type TensorInfo,
} from "./safetensors.ts";
import { writeWhole } from "./write_whole.ts";

/** What the header has to say about a tensor. */
export interface TensorDescription {
  /** Its name, unique in the file. */
  name: string;
  /** Its dtype by the format's name. */
  dtype: SafetensorsDtype;
  /** Its shape; `[]` for a scalar. */
  shape: readonly number[];
}

/** A tensor to save. */
export interface TensorToSave extends TensorDescription {
  /** Its bytes, little-endian and row by row: at once, or in chunks that are asked for when their turn comes. */
  data: Uint8Array | AsyncIterable<Uint8Array>;
}

/** A header and where it puts the tensors. */
export interface EncodedHeader {
  /** The file's beginning: the length and the header, padded to a multiple of 8 bytes. */
  bytes: Uint8Array;
  /** The tensors in the order of their bytes; `file` is "". */
  tensors: TensorInfo[];
}

/**
 * The beginning of a safetensors file that holds `tensors`.
 *
 * Wider dtypes come first, so that every tensor is aligned to its elements; then by name.
 *
 * @param tensors names, dtypes and shapes
 * @param metadata strings kept in the file; transformers wants `{ format: "pt" }`
 * @throws ValueError if a tensor cannot be described in the format
 *
 * @example
 * ```ts
 * const { bytes, tensors } = encodeSafetensorsHeader([{ name: "x", dtype: "F32", shape: [2, 3] }]);
 * bytes.length % 8; // 0
 * tensors[0]!.end - tensors[0]!.start; // 24
 * ```
 */
export function encodeSafetensorsHeader(
  tensors: Iterable<TensorDescription>,
  metadata: Readonly<Record<string, string>> = {},
): EncodedHeader {
  const sorted = [...tensors].sort((a, b) =>
    DTYPE_BITS[b.dtype] - DTYPE_BITS[a.dtype] || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0)
  );
  if (sorted.length > MAX_ENTRIES) {
    refuse(`a file must hold at most ${MAX_ENTRIES} tensors: it would hold ${sorted.length}`);
  }
  const members: string[] = [];
  if (Object.keys(metadata).length > 0) members.push(`"__metadata__":${encodeMetadata(metadata)}`);
  let at = 0;
  const places: TensorInfo[] = [];
  for (const { name, dtype, shape } of sorted) {
    const end = at + describedByteLength(name, dtype, shape);
    if (!Number.isSafeInteger(end)) refuse(`offsets must be countable: ${JSON.stringify(name)} ends at ${end}`);
    members.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [at, end] })}`);
    places.push({ name, dtype, shape, start: at, end, file: "" });
    at = end;
  }
  if (new Set(places.map((place) => place.name)).size < places.length) refuse("names must be unique: one comes twice");
  const json = new TextEncoder().encode(`{${members.join()}}`);
  const length = Math.ceil(json.length / 8) * 8;
  if (length > MAX_HEADER_BYTES) refuse(`the header must have at most ${MAX_HEADER_BYTES} bytes: it has ${length}`);
  const bytes = new Uint8Array(8 + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, 8);
  return {
    bytes,
    tensors: places.map((place) => ({ ...place, start: place.start + bytes.length, end: place.end + bytes.length })),
  };
}

/**
 * Writes a safetensors file. It appears under `path` complete, or not at all: the bytes go to a temporary file beside
 * it, which takes its name when everything is on disk.
 *
 * @param path the file to write or replace
 * @param tensors names, dtypes, shapes and bytes, in any order
 * @param metadata strings kept in the file; transformers wants `{ format: "pt" }`
 * @throws ValueError if a tensor cannot be described in the format, or its data has another length than its shape
 *
 * @example
 * ```ts ignore
 * const data = new Uint8Array(new Float32Array([1, 2]).buffer);
 * await writeSafetensors("model.safetensors", [{ name: "x", dtype: "F32", shape: [2], data }], { format: "pt" });
 * ```
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToSave>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const all = [...tensors];
  const header = encodeSafetensorsHeader(all, metadata);
  await writeWhole(path, parts(header, new Map(all.map((tensor) => [tensor.name, tensor.data]))));
}

async function* parts(header: EncodedHeader, data: Map<string, TensorToSave["data"]>): AsyncGenerator<Uint8Array> {
  yield header.bytes;
  for (const tensor of header.tensors) yield* bytesOf(tensor, data.get(tensor.name)!);
}

async function* bytesOf(tensor: TensorInfo, data: TensorToSave["data"]): AsyncGenerator<Uint8Array> {
  const length = tensor.end - tensor.start;
  let written = 0;
  for await (const chunk of data instanceof Uint8Array ? [data] : data) {
    written += chunk.length;
    if (written > length) break;
    yield chunk;
  }
  if (written !== length) {
    const shape = `${tensor.dtype} [${tensor.shape}]`;
    refuse(`${tensor.name} must have the ${length} bytes of ${shape}: ${written > length ? "more" : written} came`);
  }
}

function encodeMetadata(metadata: Readonly<Record<string, string>>): string {
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== "string" || !key.isWellFormed() || !value.isWellFormed()) {
      refuse(`metadata must be strings of whole characters: ${JSON.stringify(key)} is ${JSON.stringify(value)}`);
    }
  }
  return JSON.stringify(metadata);
}

/** Bytes of a tensor that the format can describe; any other throws {@linkcode ValueError}. */
function describedByteLength(name: string, dtype: SafetensorsDtype, shape: readonly number[]): number {
  const quoted = JSON.stringify(name);
  if (name === "__metadata__" || !name.isWellFormed() || quoted.length - 2 > MAX_NAME_LENGTH) {
    refuse(`a name must be whole characters, at most ${MAX_NAME_LENGTH}, and not "__metadata__": it is ${quoted}`);
  }
  if (!Object.hasOwn(DTYPE_BITS, dtype)) refuse(`the dtype of ${quoted} must be one of the format: it is ${dtype}`);
  const length = tensorByteLength(dtype, shape);
  if (
    length === undefined || shape.length > MAX_RANK || !shape.every((size) => Number.isSafeInteger(size) && size >= 0)
  ) {
    refuse(`the shape of ${quoted} must have at most ${MAX_RANK} whole sizes that make whole bytes: it is [${shape}]`);
  }
  return length;
}

function refuse(rule: string): never {
  throw new ValueError(`Cannot write safetensors as ${rule}`);
}
