/**
 * A model folder's weights: one safetensors file, or the shards that an index names.
 *
 * @module
 */
import { ModelFormatError, ModelPathError, NotSupportedError, type TensaurError, ValueError } from "../errors.ts";
import { FilePool } from "./file_pool.ts";
import { allocate, CONVERT_HINT, exists, isPickle, readJson } from "./files.ts";
import { readSafetensorsHeader, type SafetensorsDtype, type TensorInfo } from "./safetensors.ts";

const MAX_SHARDS = 10_000;
const MAX_INDEX_BYTES = 64 * 2 ** 20;
const READABLE: ReadonlySet<SafetensorsDtype> = new Set<SafetensorsDtype>(
  ["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL", "F8_E4M3", "F8_E5M2"],
);

/** Which bytes of a tensor {@linkcode Checkpoint.chunks} gives, and how. */
export interface ChunkOptions {
  /** First byte, counted from the tensor's start; 0 by default. */
  start?: number;
  /** The byte after the last one, counted from the tensor's start; the tensor's length by default. */
  end?: number;
  /** The longest chunk, in bytes. From 8 on, all chunks but the last are a multiple of 8 bytes. */
  maxBytes: number;
  /** Holds every chunk in turn; a new one of the longest chunk's length by default. A shorter one makes shorter chunks. */
  buffer?: Uint8Array;
}

/** The weights of a model, read by name and byte range. Dispose of it when they are loaded. */
export interface Checkpoint extends Disposable {
  /** Every tensor by name. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Bytes of all tensors together. */
  readonly byteLength: number;
  /**
   * The bytes of a tensor in order, in bounded chunks.
   *
   * All chunks share one buffer: a chunk is valid until the next one is asked for.
   *
   * @throws ModelFormatError if there is no such tensor, or its file is cut short or replaced
   * @throws NotSupportedError if its dtype cannot be read (C64, F4, the F6 kinds, F8_E8M0, the FNUZ kinds)
   * @throws ValueError if the range leaves the tensor or `maxBytes` is below 1
   */
  chunks(name: string, options: ChunkOptions): AsyncGenerator<Uint8Array>;
  /** All bytes of a tensor in an array of its own, little-endian; throws as {@linkcode Checkpoint.chunks} does. */
  read(name: string): Promise<Uint8Array>;
  /**
   * Where scales stand within the tensors and not in tensors of their own: checks that all are finite.
   *
   * @throws ModelFormatError naming the first that is not
   */
  checkScales?(): Promise<void>;
}

/** How {@linkcode openCheckpoint} opens. */
export interface OpenCheckpointOptions {
  /** What the files are called before ".safetensors": "model" by default, "adapter_model" for a PEFT adapter. */
  stem?: string;
  /** How many shards stay open at once; 16 by default. */
  maxOpenFiles?: number;
}

/**
 * Opens the weights of the model folder `dir`: `model.safetensors`, or the shards of `model.safetensors.index.json`.
 *
 * Every header is read and checked here; tensors are read later, when asked for.
 *
 * @param dir the model's folder
 * @throws ModelFormatError if a file breaks the format, a shard is missing, or index and shards disagree
 * @throws ModelPathError if the folder is missing, or a shard's name leaves it
 * @throws NotSupportedError if the folder holds pickle weights only
 *
 * @example
 * ```ts ignore
 * using checkpoint = await openCheckpoint("models/tensaur-tiny");
 * checkpoint.tensors.get("model.norm.weight"); // { dtype: "F32", shape: [256], … }
 * for await (const chunk of checkpoint.chunks("model.norm.weight", { maxBytes: 1 << 20 })) consume(chunk);
 * ```
 */
export async function openCheckpoint(
  dir: string,
  { stem = "model", maxOpenFiles = 16 }: OpenCheckpointOptions = {},
): Promise<Checkpoint> {
  const single = `${stem}.safetensors`, index = `${single}.index.json`;
  const pool = new FilePool(dir, maxOpenFiles);
  try {
    if (await exists(dir, single)) return new SafetensorsCheckpoint(pool, await readHeader(pool, single));
    if (await exists(dir, index)) return new SafetensorsCheckpoint(pool, await readShards(dir, index, pool));
    throw await nothingToOpen(dir, single);
  } catch (error) {
    pool[Symbol.dispose]();
    throw error;
  }
}

class SafetensorsCheckpoint implements Checkpoint {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly byteLength: number;
  readonly #pool: FilePool;

  constructor(pool: FilePool, tensors: ReadonlyMap<string, TensorInfo>) {
    this.#pool = pool;
    this.tensors = tensors;
    this.byteLength = tensors.values().reduce((sum, tensor) => sum + tensor.end - tensor.start, 0);
  }

  async *chunks(name: string, options: ChunkOptions): AsyncGenerator<Uint8Array> {
    const tensor = this.#readable(name);
    const length = tensor.end - tensor.start;
    const { start = 0, end = length, maxBytes, buffer } = options;
    const ordered = [start, end, length].every((at, i, all) => Number.isSafeInteger(at) && at >= (all[i - 1] ?? 0));
    if (!ordered) {
      throw new ValueError(
        `Cannot read ${name} as start and end must lie in 0 to ${length}: they are ${start}, ${end}`,
      );
    }
    const longest = Math.min(maxBytes, buffer?.length ?? maxBytes);
    if (!Number.isSafeInteger(maxBytes) || longest < 1) {
      throw new ValueError(`Cannot read ${name} as maxBytes and buffer must hold 1 byte or more: they hold ${longest}`);
    }
    const step = longest < 8 || longest >= end - start ? longest : longest - longest % 8;
    const into = buffer ?? allocate(Math.min(step, end - start), name);
    for (let at = start; at < end; at += step) {
      const count = Math.min(step, end - at);
      yield await this.#pool.use(tensor.file, (file) => file.read(tensor.start + at, count, into));
    }
  }

  async read(name: string): Promise<Uint8Array> {
    const { file, start, end } = this.#readable(name);
    return await this.#pool.use(file, (open) => open.read(start, end - start));
  }

  #readable(name: string): TensorInfo {
    const tensor = this.tensors.get(name);
    if (!tensor) {
      throw new ModelFormatError(`Cannot read tensor ${name} as the checkpoint must hold it: it is not in any file`);
    }
    if (READABLE.has(tensor.dtype)) return tensor;
    throw new NotSupportedError(
      `Cannot read tensor ${name} as its dtype must be one of ${[...READABLE].join(", ")}: it is ${tensor.dtype}`,
      { hint: "Convert the tensor to one of these dtypes and save the model again." },
    );
  }

  [Symbol.dispose](): void {
    this.#pool[Symbol.dispose]();
  }
}

async function readHeader(pool: FilePool, file: string): Promise<ReadonlyMap<string, TensorInfo>> {
  return (await pool.use(file, readSafetensorsHeader)).tensors;
}

/** Reads the index and the headers of all its shards; both must name the same tensors in the same files. */
async function readShards(dir: string, index: string, pool: FilePool): Promise<ReadonlyMap<string, TensorInfo>> {
  const weightMap = readWeightMap(await readJson(dir, index, { maxBytes: MAX_INDEX_BYTES }), index);
  const tensors = new Map<string, TensorInfo>();
  for (const file of new Set(weightMap.values())) {
    if (!(await exists(dir, file))) {
      throw new ModelFormatError(
        `Cannot read ${index} as every shard must be there: ${JSON.stringify(file)} is missing`,
        {
          hint: "The download is not complete; download the model again.",
        },
      );
    }
    for (const [name, tensor] of await readHeader(pool, file)) {
      const place = weightMap.get(name);
      if (place !== file) {
        const instead = place === undefined ? "names no such tensor" : `puts it into ${JSON.stringify(place)}`;
        throw new ModelFormatError(
          `Cannot read ${file} as its tensors must be those of ${index}: it holds ${JSON.stringify(name)}, ` +
            `the index ${instead}`,
        );
      }
      tensors.set(name, tensor);
    }
  }
  for (const [name, file] of weightMap) {
    if (!tensors.has(name)) {
      throw new ModelFormatError(
        `Cannot read ${index} as ${file} must hold tensor ${JSON.stringify(name)}: the shard has no such tensor`,
      );
    }
  }
  return tensors;
}

/** The index's weight_map: which file holds a tensor, by the tensor's name. */
function readWeightMap(json: Record<string, unknown>, index: string): Map<string, string> {
  const map = json["weight_map"];
  if (typeof map !== "object" || map === null || Array.isArray(map)) {
    throw new ModelFormatError(`Cannot read ${index} as weight_map must be an object: it is ${kindOf(map)}`);
  }
  const weightMap = new Map<string, string>();
  for (const [name, file] of Object.entries(map)) {
    if (typeof file !== "string") {
      throw new ModelFormatError(
        `Cannot read ${index} as weight_map must hold file names: ${JSON.stringify(name)} has ${kindOf(file)}`,
      );
    }
    weightMap.set(name, file);
  }
  const shards = new Set(weightMap.values()).size;
  if (shards === 0 || shards > MAX_SHARDS) {
    throw new ModelFormatError(`Cannot read ${index} as it must name 1 to ${MAX_SHARDS} shards: it names ${shards}`);
  }
  return weightMap;
}

/** Why the folder `dir` has nothing to open. */
async function nothingToOpen(dir: string, single: string): Promise<TensaurError> {
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(dir)) names.push(entry.name);
  } catch (cause) {
    return new ModelPathError(`Cannot open ${dir} as it must be a model's folder: ${(cause as Error).message}`, {
      cause,
    });
  }
  names.sort();
  const pickles = names.filter(isPickle);
  if (pickles.length > 0) {
    return new NotSupportedError(
      `Cannot open ${dir} as opening pickle can run code and weights must be safetensors: it holds ${list(pickles)}`,
      { hint: CONVERT_HINT },
    );
  }
  return new ModelFormatError(
    `Cannot open ${dir} as it must hold ${single} or ${single}.index.json: it holds ${list(names) || "nothing"}`,
  );
}

function kindOf(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "an array" : typeof value;
}

function list(names: string[]): string {
  return names.slice(0, 10).join(", ") + (names.length > 10 ? ` and ${names.length - 10} more` : "");
}
