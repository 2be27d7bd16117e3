/**
 * The safetensors format: 8 bytes with the header's length N, N bytes of JSON, then the tensors' bytes without gaps.
 *
 * The header is read by a scanner of its own, not JSON.parse: it stops at the first broken rule, sees keys that stand
 * twice, cannot be nested, and names the place at fault.
 *
 * @module
 */
import { ModelFormatError } from "../errors.ts";
import type { ModelFile } from "./files.ts";
import { JsonScanner } from "./json_scanner.ts";

/** Bits of one element of every dtype that the format names. */
export const DTYPE_BITS = {
  F64: 64,
  F32: 32,
  F16: 16,
  BF16: 16,
  I64: 64,
  I32: 32,
  I16: 16,
  I8: 8,
  U64: 64,
  U32: 32,
  U16: 16,
  U8: 8,
  BOOL: 8,
  F8_E4M3: 8,
  F8_E5M2: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  C64: 64,
  F6_E2M3: 6,
  F6_E3M2: 6,
  F4: 4,
} as const;

/** A dtype by the format's name, as "F32" or "BF16". */
export type SafetensorsDtype = keyof typeof DTYPE_BITS;

/** Where one tensor lies. */
export interface TensorInfo {
  /** Its name in the checkpoint. */
  readonly name: string;
  /** Its dtype by the format's name. */
  readonly dtype: SafetensorsDtype;
  /** Its shape; `[]` for a scalar. */
  readonly shape: readonly number[];
  /** Its first byte, counted from the file's start. */
  readonly start: number;
  /** The byte after its last one, counted from the file's start. */
  readonly end: number;
  /** The file that holds it. */
  readonly file: string;
}

/** What a safetensors file says about itself. */
export interface SafetensorsHeader {
  /** All tensors by name, in the header's order. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The free-form strings under `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** The largest header, in bytes. */
export const MAX_HEADER_BYTES = 100_000_000;
/** The most tensors of one file, and the most strings of its `__metadata__`. */
export const MAX_ENTRIES = 200_000;
/** The longest tensor name, in characters as written. */
export const MAX_NAME_LENGTH = 1024;
/** The most dimensions of one tensor. */
export const MAX_RANK = 64;

/**
 * Bytes of a tensor.
 *
 * @returns undefined where they are no whole number of bytes, or no safe integer
 */
export function tensorByteLength(dtype: SafetensorsDtype, shape: readonly number[]): number | undefined {
  let count = 1;
  for (const size of shape) {
    count *= size;
    if (!Number.isSafeInteger(count)) return undefined;
  }
  const bits = count * DTYPE_BITS[dtype];
  return Number.isSafeInteger(bits) && bits % 8 === 0 ? bits / 8 : undefined;
}

/** Reads and checks the header of an open file; nothing is allocated before its length is found sane. */
export async function readSafetensorsHeader(file: ModelFile): Promise<SafetensorsHeader> {
  const prefix = await file.read(0, Math.min(8, file.size));
  return parseSafetensorsHeader(
    await file.read(0, 8 + headerLength(prefix, file.size, file.name)),
    file.size,
    file.name,
  );
}

/**
 * Parses the beginning of a safetensors file.
 *
 * @param bytes the file's first bytes: at least the length and the header
 * @param fileSize length of the whole file, in bytes
 * @param name the file's name, for messages and {@linkcode TensorInfo.file}
 * @throws ModelFormatError for every broken rule of the format, with the place
 *
 * @example
 * ```ts
 * const header = '{"scale":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}'; // 57 bytes
 * const bytes = new TextEncoder().encode(`\x39\0\0\0\0\0\0\0${header}`);
 * const { tensors } = parseSafetensorsHeader(bytes, bytes.length + 4, "model.safetensors");
 * tensors.get("scale")!.start; // 65
 * ```
 */
export function parseSafetensorsHeader(bytes: Uint8Array, fileSize: number, name: string): SafetensorsHeader {
  const length = headerLength(bytes, fileSize, name);
  if (bytes.length < 8 + length) {
    throw new ModelFormatError(
      `Cannot read ${name} as its header must be given whole: it has ${length} bytes and ${bytes.length - 8} came`,
    );
  }
  const header = scanHeader(decode(bytes.subarray(8, 8 + length), name), 8 + length, name);
  checkCover([...header.tensors.values()], 8 + length, fileSize, name);
  return header;
}

/** The header's length N, from the file's first 8 bytes. */
function headerLength(prefix: Uint8Array, fileSize: number, name: string): number {
  if (fileSize < 8 || prefix.length < 8) {
    throw new ModelFormatError(
      `Cannot read ${name} as a safetensors file must have at least 8 bytes: it has ${fileSize}`,
    );
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES) {
    throw new ModelFormatError(
      `Cannot read ${name} as its header must have at most ${MAX_HEADER_BYTES} bytes: bytes 0 to 8 say ${length}`,
    );
  }
  if (8n + length > fileSize) {
    throw new ModelFormatError(
      `Cannot read ${name} as its header must end inside the file of ${fileSize} bytes: bytes 0 to 8 say ${length}`,
      { hint: "The file is cut short, or no safetensors file; download it again." },
    );
  }
  return Number(length);
}

/** Throws unless the tensors cover `start` to `end` of the file exactly, each byte once. */
function checkCover(tensors: TensorInfo[], start: number, end: number, name: string): void {
  tensors.sort((a, b) => a.start - b.start || a.end - b.end);
  let at = start;
  for (const tensor of tensors) {
    if (tensor.start !== at) {
      const what = tensor.start < at ? "overlap" : "leave a gap";
      throw new ModelFormatError(
        `Cannot read ${name} as tensors must follow one another: ${JSON.stringify(tensor.name)} begins at byte ` +
          `${tensor.start} where the one before ends at ${at}, so they ${what}`,
      );
    }
    at = tensor.end;
  }
  if (at !== end) {
    throw new ModelFormatError(
      `Cannot read ${name} as its tensors must end where the file ends: they end at byte ${at}, the file at ${end}`,
      at > end ? { hint: "The file is cut short; download it again." } : {},
    );
  }
}

function decode(bytes: Uint8Array, name: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new ModelFormatError(`Cannot read ${name} as its header must be UTF-8: ${(cause as Error).message}`, {
      cause,
    });
  }
}

function scanHeader(text: string, dataStart: number, file: string): SafetensorsHeader {
  const tensors = new Map<string, TensorInfo>();
  let metadata: Map<string, string> | undefined;
  const json = new JsonScanner(text, file);
  if (!text.startsWith("{")) json.fail('begin with "{"', 0);
  json.object(MAX_NAME_LENGTH, (key, at) => {
    if (key === "__metadata__") {
      if (metadata) json.fail("have unique keys (__metadata__ stands again)", at);
      metadata = scanMetadata(json);
      return;
    }
    const known = tensors.size;
    if (known === MAX_ENTRIES) json.fail(`name at most ${MAX_ENTRIES} tensors`, at);
    tensors.set(key, scanTensor(json, key, dataStart, file));
    if (tensors.size === known) json.fail(`have unique keys (${JSON.stringify(key)} stands again)`, at);
  });
  json.end();
  return { tensors, metadata: metadata ?? new Map() };
}

function scanMetadata(json: JsonScanner): Map<string, string> {
  const metadata = new Map<string, string>();
  json.object(MAX_HEADER_BYTES, (key, at) => {
    if (metadata.has(key)) json.fail(`have unique keys (${JSON.stringify(key)} stands again in __metadata__)`, at);
    if (metadata.size === MAX_ENTRIES) json.fail(`have at most ${MAX_ENTRIES} strings in __metadata__`, at);
    metadata.set(key, json.string(MAX_HEADER_BYTES));
  });
  return metadata;
}

function scanTensor(json: JsonScanner, name: string, dataStart: number, file: string): TensorInfo {
  const begin = json.at;
  let dtype: SafetensorsDtype | undefined, shape: number[] | undefined, offsets: number[] | undefined;
  json.object(MAX_NAME_LENGTH, (key, at) => {
    if (key === "dtype" && !dtype) dtype = scanDtype(json);
    else if (key === "shape" && !shape) shape = json.integers(MAX_RANK);
    else if (key === "data_offsets" && !offsets) offsets = json.integers(2);
    else json.fail(`describe a tensor by dtype, shape and data_offsets, once each (not ${JSON.stringify(key)})`, at);
  });
  const refuse = (rule: string) => json.fail(`${rule} (tensor ${JSON.stringify(name)})`, begin);
  if (!dtype || !shape || offsets?.length !== 2) return refuse("give a tensor dtype, shape and two data_offsets");
  const [start = 0, end = 0] = offsets;
  const length = tensorByteLength(dtype, shape);
  if (length === undefined) return refuse(`give a tensor a countable number of whole bytes, not ${dtype} [${shape}]`);
  if (end - start !== length) return refuse(`give ${dtype} [${shape}] its ${length} bytes, not ${start} to ${end}`);
  if (!Number.isSafeInteger(dataStart + end)) return refuse("give a tensor countable data_offsets");
  return { name, dtype, shape, start: dataStart + start, end: dataStart + end, file };
}

function scanDtype(json: JsonScanner): SafetensorsDtype {
  const at = json.at;
  const dtype = json.string(MAX_NAME_LENGTH);
  if (!Object.hasOwn(DTYPE_BITS, dtype)) json.fail(`name a dtype of the format (not ${JSON.stringify(dtype)})`, at);
  return dtype as SafetensorsDtype;
}
