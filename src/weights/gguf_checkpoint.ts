/**
 * A GGUF file as a checkpoint: tensors by the names of Hugging Face's, rows in their order, blocks as they are or as
 * numbers.
 *
 * @module
 */
import { ModelFormatError, ValueError } from "../errors.ts";
import { type BlockFormat, blockFormat, dequantizeBlocks } from "../quantization/gguf_blocks.ts";
import type { Checkpoint, ChunkOptions } from "./checkpoint.ts";
import { allocate, type ModelFile } from "./files.ts";
import { type GgufHeader, type GgufTensor, readGgufHeader } from "./gguf.ts";
import type { SafetensorsDtype, TensorInfo } from "./safetensors.ts";

const PIECE = 2 * 2 ** 20; // bytes that are read at a time

/** What a tensor of the file is called, and how it is read. */
export interface GgufName {
  /** Its name in the file. */
  readonly source: string;
  /** Its rows are the pairs of so many rotary heads, which lie side by side there and apart in Hugging Face's layout. */
  readonly heads?: number;
  /** Whether it stays in blocks; otherwise it is read as numbers. */
  readonly blocks?: boolean;
}

/** An open file and what its header says. */
export interface OpenGguf extends Disposable {
  /** The file. */
  readonly file: ModelFile;
  /** Its header. */
  readonly header: GgufHeader;
}

/** Reads the header of `file`, which is closed with the result, or if that fails. */
export async function openGguf(file: ModelFile): Promise<OpenGguf> {
  try {
    const header = await readGgufHeader(file);
    return { file, header, [Symbol.dispose]: () => file.close() };
  } catch (error) {
    file.close();
    throw error;
  }
}

interface Entry {
  info: TensorInfo;
  source: GgufTensor;
  rows: number;
  /** Bytes of a row in the file, and as it is read. */
  stored: number;
  line: number;
  /** How rows become numbers; undefined where they are read as they are. */
  format: BlockFormat | undefined;
  heads: number | undefined;
}

/** The tensors of a GGUF file that `names` lists, by Hugging Face's names. */
export class GgufCheckpoint implements Checkpoint {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly byteLength: number;
  readonly #gguf: OpenGguf;
  readonly #entries: ReadonlyMap<string, Entry>;

  /** A checkpoint over `gguf`, which is closed with it. */
  constructor(gguf: OpenGguf, names: ReadonlyMap<string, GgufName>) {
    this.#gguf = gguf;
    this.#entries = new Map(
      names.entries().flatMap(([name, given]) => {
        const source = gguf.header.tensors.get(given.source);
        return source ? [[name, entryOf(name, source, given, gguf.file.name)] as const] : [];
      }),
    );
    this.tensors = new Map(this.#entries.entries().map(([name, { info }]) => [name, info]));
    this.byteLength = this.#entries.values().reduce((sum, { source }) => sum + source.end - source.start, 0);
  }

  async *chunks(name: string, options: ChunkOptions): AsyncGenerator<Uint8Array> {
    const entry = this.#entry(name), { line, rows } = entry;
    const { start = 0, end = line * rows, maxBytes, buffer } = options;
    const whole = [start, end].every((at) => Number.isSafeInteger(at / line)) && start <= end && end <= line * rows;
    if (!whole && !(line === 0 && start === 0 && end === 0)) {
      throw new ValueError(`Cannot read ${name} as start and end must be whole rows of it: they are ${start}, ${end}`);
    }
    const longest = Math.min(maxBytes, buffer?.length ?? maxBytes);
    const step = Math.max(1, Math.floor(longest / line));
    for (let row = start / line; row < end / line; row += step) {
      const count = Math.min(step, end / line - row), bytes = count * line;
      const into = buffer && buffer.length >= bytes ? buffer.subarray(0, bytes) : allocate(bytes, name);
      yield await this.#read(entry, row, count, into);
    }
  }

  async read(name: string): Promise<Uint8Array> {
    const entry = this.#entry(name);
    return await this.#read(entry, 0, entry.rows, allocate(entry.rows * entry.line, name));
  }

  /** Checks that the scales of every block are finite numbers: one that is not spoils a whole row. */
  async checkScales(): Promise<void> {
    const buffer = allocate(PIECE, this.#gguf.file.name);
    for (const { source: { name, type, start, end } } of this.#entries.values()) {
      const format = blockFormat(type);
      if (!format) continue;
      const step = Math.floor(PIECE / format.bytes) * format.bytes;
      for (let at = start; at < end; at += step) {
        const bytes = await this.#gguf.file.read(at, Math.min(step, end - at), buffer);
        const wrong = badBlock(bytes, format);
        if (wrong === undefined) continue;
        throw new ModelFormatError(
          `Cannot load ${name} as scales must be finite numbers: block ${(at - start) / format.bytes + wrong} has ` +
            "one that is NaN or infinite",
          { hint: "The file is damaged, or was made of damaged weights: download it again." },
        );
      }
    }
  }

  /** Some rows, in Hugging Face's order and form. */
  async #read({ source, stored, line, format, heads, rows }: Entry, row: number, count: number, into: Uint8Array) {
    const { file } = this.#gguf, raw = format ? allocate(count * stored, source.name) : into;
    if (heads === undefined) await file.read(source.start + row * stored, count * stored, raw);
    else {
      const size = rows / heads, first = Math.floor(row / size) * size;
      const last = Math.min(rows, Math.ceil((row + count) / size) * size);
      const all = await file.read(source.start + first * stored, (last - first) * stored);
      for (let i = 0; i < count; i++) {
        const at = rotaryRow(row + i, size) - first;
        raw.set(all.subarray(at * stored, (at + 1) * stored), i * stored);
      }
    }
    if (!format) return into;
    const numbers = new Float32Array(count * line / 4);
    dequantizeBlocks(format, raw, numbers);
    into.set(new Uint8Array(numbers.buffer));
    return into;
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry) return entry;
    throw new ModelFormatError(`Cannot read tensor ${name} as ${this.#gguf.file.name} must hold it: it does not`);
  }

  [Symbol.dispose](): void {
    this.#gguf[Symbol.dispose]();
  }
}

/** Where row `r` of Hugging Face's layout, whose heads have `size` rows, lies in a file that keeps pairs together. */
export function rotaryRow(r: number, size: number): number {
  const at = r % size, half = size / 2;
  return r - at + 2 * (at % half) + Math.floor(at / half);
}

/** The first block with a scale that is NaN or infinite. */
function badBlock(bytes: Uint8Array, format: BlockFormat): number | undefined {
  for (let at = 0; at < bytes.length; at += format.bytes) {
    for (const scale of format.scales) if ((bytes[at + scale + 1]! & 0x7c) === 0x7c) return at / format.bytes;
  }
}

function entryOf(name: string, source: GgufTensor, { heads, blocks }: GgufName, file: string): Entry {
  const { type, shape, start, end } = source, rows = shape.length > 1 || heads ? shape[0]! : 1;
  if (heads !== undefined && rows % (2 * heads) !== 0) {
    throw new ModelFormatError(
      `Cannot read ${file} as the rows of ${source.name} must be those of ${heads} rotary heads: it has ${rows}`,
    );
  }
  const inBlocks = blockFormat(type), stored = rows === 0 ? 0 : (end - start) / rows;
  const format = blocks ? undefined : inBlocks;
  const line = format ? 4 * stored / format.bytes * format.size : stored;
  // A dtype outside safetensors' own: only the schemes for blocks ask for it.
  const dtype = (format ? "F32" : type) as SafetensorsDtype;
  const info: TensorInfo = { name, dtype, shape, start, end: start + rows * line, file };
  return { info, source, rows, stored, line, format, heads };
}
