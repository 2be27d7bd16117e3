/**
 * The one door to a model's files: names stay inside the model's folder, reads are whole or an error.
 *
 * No other file of the project opens a file that a model names.
 *
 * @module
 */
import { LimitError, ModelFormatError, ModelPathError, NotSupportedError, ValueError } from "../errors.ts";
import { parseJson } from "./json.ts";

// A Hugging Face hub cache: files of a snapshot link to ../../blobs of the same repository.
const SNAPSHOT = /^(.*[\\/](?:models|datasets|spaces)--[^\\/]+)[\\/]snapshots[\\/][^\\/]+(?:[\\/].*)?$/;
const SEPARATOR = Deno.build.os === "windows" ? "\\" : "/";
const MAX_COMPONENT_BYTES = 255;
const encoder = new TextEncoder();

/**
 * A regular file of a model, open for reading at any offset. Close it, or hold it with `using`.
 *
 * Made by {@linkcode openInside} only.
 */
export class ModelFile implements Disposable {
  /** The name it was opened by, relative to the model's folder. */
  readonly name: string;
  /** Its length in bytes when it was opened. */
  readonly size: number;
  /** Which bytes these are (device, inode, length, modification time): differs once the file is replaced. */
  readonly version: string;
  readonly #file: Deno.FsFile;
  #turn: Promise<unknown> = Promise.resolve();
  #open = true;

  /** Takes over an open file; `info` is what `file.stat()` says. */
  constructor(name: string, file: Deno.FsFile, info: Deno.FileInfo) {
    this.name = name;
    this.size = info.size;
    this.version = `${info.dev}:${info.ino}:${info.size}:${info.mtime?.getTime()}`;
    this.#file = file;
  }

  /**
   * Reads exactly `length` bytes from `offset`.
   *
   * @param offset bytes from the file's start
   * @param length bytes
   * @param into where they go (its first `length` bytes); a new array without it
   * @returns the view of `length` bytes, of `into` if that is given
   * @throws ModelFormatError if the file ends before; `into` then holds zeros, never part of the file
   */
  async read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array> {
    for (const [what, value] of [["offset", offset], ["length", length]] as const) {
      if (!Number.isSafeInteger(value) || value < 0) {
        throw new ValueError(
          `Cannot read ${this.name} as ${what} must be a whole number >= 0: current value is ${value}`,
        );
      }
    }
    if (offset + length > this.size) throw this.#tooShort(offset, length, this.size);
    if (into && into.length < length) {
      throw new ValueError(
        `Cannot read ${this.name} as the buffer must hold ${length} bytes: current length is ${into.length}`,
      );
    }
    const target = into ? into.subarray(0, length) : allocate(length, this.name);
    // Position and read belong together, so readers of one file take turns.
    const turn = this.#turn.then(() => this.#fill(offset, target));
    this.#turn = turn.catch(() => {});
    await turn;
    return target;
  }

  async #fill(offset: number, target: Uint8Array): Promise<void> {
    let done = 0;
    try {
      if (!this.#open) {
        throw new ValueError(`Cannot read ${this.name} as the file must be open: current state is closed`);
      }
      await this.#file.seek(offset, Deno.SeekMode.Start);
      while (done < target.length) {
        const count = await this.#file.read(target.subarray(done));
        if (!count) throw this.#tooShort(offset, target.length, offset + done);
        done += count;
      }
    } catch (cause) {
      target.fill(0);
      if (cause instanceof ModelFormatError || cause instanceof ValueError) throw cause;
      throw new ModelFormatError(
        `Cannot read ${this.name} as bytes ${offset} to ${offset + target.length} must be readable: ${message(cause)}`,
        { cause },
      );
    }
  }

  #tooShort(offset: number, length: number, end: number): ModelFormatError {
    return new ModelFormatError(
      `Cannot read ${this.name} as its bytes must reach to ${offset + length}: its length is ${end}`,
      { hint: "The file is cut short or changes while it is read; download it again." },
    );
  }

  /** Closes the file; a second call does nothing. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#file.close();
  }

  /** The same as {@linkcode ModelFile.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Whether `name` is that of a pickle file, which can run code when it is opened. */
export function isPickle(name: string): boolean {
  return /\.(bin|pt|pth|pkl|pickle|ckpt)$/i.test(name);
}

/** The way out for whoever has pickle files only. */
export const CONVERT_HINT =
  'Convert to safetensors: model.save_pretrained("folder", safe_serialization=True) in transformers.';

/** A new zeroed array of `length` bytes; more than the engine can give is a {@linkcode LimitError}. */
export function allocate(length: number, name: string): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(length);
  } catch (cause) {
    throw new LimitError(`Cannot read ${name} as one array must hold it: it has ${length} bytes`, {
      cause,
      hint: "Read it in chunks.",
    });
  }
}

/**
 * Opens the file `name` of the model folder `root`; the only function of the project that opens a model's file.
 *
 * The file must be a regular file whose real path lies inside the folder's real path. A snapshot of a Hugging Face
 * hub cache (`models--X/snapshots/REV`) may also link to the `blobs` of its own repository. Hard links are files like
 * any other: no path tells them apart.
 *
 * @param root the model's folder
 * @param name a relative path with "/" between its parts
 * @throws ModelPathError if the name leaves the folder, or is no regular file that can be opened
 * @throws NotSupportedError for pickle files (.bin, .pt, .pth, .pkl, .pickle, .ckpt): they can run code
 *
 * @example
 * ```ts ignore
 * using file = await openInside("models/tensaur-tiny", "config.json");
 * const bytes = await file.read(0, file.size);
 * ```
 */
export async function openInside(root: string, name: string): Promise<ModelFile> {
  checkName(name);
  if (isPickle(name)) {
    throw new NotSupportedError(
      `Cannot open ${quote(name)} as weights must be safetensors: it is a pickle file, and opening one can run code`,
      { hint: CONVERT_HINT },
    );
  }
  if (!(await locate(root, name))) {
    throw new ModelPathError(`Cannot open ${quote(name)} as ${quote(root)} must hold it: there is no such file`);
  }
  const file = await attempt(name, () => Deno.open(`${root}/${name}`, { read: true }));
  try {
    // Checked again with the file open: a link swapped in between check and open is seen here.
    const found = await locate(root, name);
    const opened = await file.stat();
    if (!found || !opened.isFile || found.dev !== opened.dev || found.ino !== opened.ino) {
      throw new ModelPathError(
        `Cannot open ${quote(name)} as it must stay the same file: it changed while being opened`,
      );
    }
    return new ModelFile(name, file, opened);
  } catch (error) {
    file.close();
    throw error;
  }
}

/**
 * Whether the model folder `root` holds a regular file `name`.
 *
 * @throws ModelPathError if the name or a link leaves the folder, or names something else than a regular file
 */
export async function exists(root: string, name: string): Promise<boolean> {
  checkName(name);
  return await locate(root, name) !== undefined;
}

/** How {@linkcode readJson} bounds what it reads. */
export interface ReadJsonOptions {
  /** The largest file to read, in bytes; 4 MiB by default. */
  maxBytes?: number;
}

/**
 * Reads a JSON file of a model folder that holds an object: a config, an index, a tokenizer.
 *
 * @param root the model's folder
 * @param name a relative path inside it
 * @returns the object; the keys are whatever the file says, so read them by name
 * @throws ModelPathError as {@linkcode openInside} does
 * @throws LimitError if the file is longer than `maxBytes`
 * @throws ModelFormatError as {@linkcode parseJson} does
 *
 * @example
 * ```ts ignore
 * const config = await readJson("models/tensaur-tiny", "config.json");
 * config.model_type; // "llama"
 * ```
 */
export async function readJson(
  root: string,
  name: string,
  { maxBytes = 4 * 2 ** 20 }: ReadJsonOptions = {},
): Promise<Record<string, unknown>> {
  using file = await openInside(root, name);
  if (file.size > maxBytes) {
    throw new LimitError(`Cannot read ${name} as it must have at most ${maxBytes} bytes: it has ${file.size}`);
  }
  return parseJson(await file.read(0, file.size), name);
}

/** Throws {@linkcode ModelPathError} unless `name` is a relative path that stays inside its folder on every system. */
function checkName(name: string): void {
  const refuse = (rule: string) => {
    throw new ModelPathError(`Cannot open ${quote(name)} as a name inside a model must ${rule}`);
  };
  if (typeof name !== "string" || name === "") refuse("be a path that is not empty");
  if (name.includes("\0")) refuse("hold no NUL");
  if (!name.isWellFormed()) refuse("be well-formed Unicode");
  if (name.includes("\\")) refuse("hold no backslash");
  if (name.includes(":")) refuse("hold no colon (a drive, a stream or a URL)");
  if (name.startsWith("/")) refuse("be relative");
  for (const part of name.split("/")) {
    if (part === "" || part === "." || part === "..") refuse('have no empty, "." or ".." part');
    if (/[ .]$/.test(part)) refuse("have no part that ends in a space or a dot");
    if (encoder.encode(part).length > MAX_COMPONENT_BYTES) refuse(`have parts of at most ${MAX_COMPONENT_BYTES} bytes`);
  }
}

/** What lies at `name`, followed through links, or undefined for nothing; anything but a regular file inside throws. */
async function locate(root: string, name: string): Promise<Deno.FileInfo | undefined> {
  const folder = await attempt(root, () => Deno.realPath(root));
  try {
    const real = await attempt(name, () => Deno.realPath(`${root}/${name}`));
    // lstat of the resolved path: a link that is put there after realPath shows as a link.
    const info = await attempt(name, () => Deno.lstat(insidePath(root, folder, real, name)));
    if (info.isFile) return info;
    const kind = info.isDirectory ? "a folder" : "a device, pipe, socket or link";
    throw new ModelPathError(`Cannot open ${quote(name)} as it must be a regular file: it is ${kind}`);
  } catch (error) {
    const cause = (error as ModelPathError).cause;
    if (cause instanceof Deno.errors.NotFound || cause instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  }
}

/** The resolved path `real`, written so that a permission for `root` covers it; throws if it lies outside. */
function insidePath(root: string, folder: string, real: string, name: string): string {
  const under = (home: string) => real.startsWith(home.endsWith(SEPARATOR) ? home : home + SEPARATOR);
  if (under(folder)) return `${root}/${real.slice(folder.length)}`;
  const repository = SNAPSHOT.exec(folder)?.[1];
  if (repository !== undefined && under(`${repository}${SEPARATOR}blobs`)) return real;
  throw new ModelPathError(`Cannot open ${quote(name)} as it must stay inside ${quote(root)}: it links to elsewhere`);
}

async function attempt<T>(name: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (cause) {
    const denied = cause instanceof Deno.errors.NotCapable;
    throw new ModelPathError(`Cannot open ${quote(name)} as it must be readable: ${message(cause)}`, {
      cause,
      hint: denied
        ? "Run with --allow-read=FOLDER for the model's folder (in a hub cache: the whole cache)."
        : undefined,
    });
  }
}

function quote(name: string): string {
  return JSON.stringify(typeof name === "string" && name.length > 200 ? `${name.slice(0, 200)}…` : name);
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
