/**
 * Open files of one model folder, opened when first read and closed again when too many are open.
 *
 * @module
 */
import { ModelFormatError, ValueError } from "../errors.ts";
import { type ModelFile, openInside } from "./files.ts";

interface Entry {
  file: Promise<ModelFile>;
  users: number;
}

/** Shards of a model: at most `maxOpen` stay open, the longest unused is closed first. */
export class FilePool implements Disposable {
  readonly #root: string;
  readonly #maxOpen: number;
  readonly #entries = new Map<string, Entry>(); // in order of use, the latest last
  readonly #versions = new Map<string, string>();
  #closed = false;

  /** A pool over the model folder `root`. */
  constructor(root: string, maxOpen = 16) {
    this.#root = root;
    this.#maxOpen = maxOpen;
  }

  /** Files open now; more than `maxOpen` only while more than that are being read at once. */
  get open(): number {
    return this.#entries.size;
  }

  /**
   * Runs `operation` with the file `name`, which stays open at least that long.
   *
   * @throws ModelFormatError if the file was replaced since it was first opened here
   */
  async use<T>(name: string, operation: (file: ModelFile) => Promise<T>): Promise<T> {
    if (this.#closed) throw new ValueError(`Cannot read ${name} as its checkpoint must be open: it was disposed of`);
    const entry = this.#entries.get(name) ?? { file: this.#openFile(name), users: 0 };
    this.#entries.delete(name);
    this.#entries.set(name, entry);
    entry.users++;
    try {
      return await operation(await entry.file);
    } catch (error) {
      // A file that failed once is opened anew, if at all.
      if (this.#entries.get(name) === entry && entry.users === 1) this.#drop(name, entry);
      throw error;
    } finally {
      entry.users--;
      this.#shrink();
    }
  }

  async #openFile(name: string): Promise<ModelFile> {
    const file = await openInside(this.#root, name);
    const version = this.#versions.get(name) ?? file.version;
    this.#versions.set(name, version);
    if (version === file.version) return file;
    file.close();
    throw new ModelFormatError(`Cannot read ${name} as it must not change while the model loads: it was replaced`, {
      hint: "Load the model again.",
    });
  }

  #shrink(): void {
    for (const [name, entry] of this.#entries) {
      if (this.#entries.size <= this.#maxOpen) return;
      if (entry.users === 0) this.#drop(name, entry);
    }
  }

  #drop(name: string, entry: Entry): void {
    this.#entries.delete(name);
    entry.file.then((file) => file.close(), () => {});
  }

  /** Closes all files; reads that are still running fail. */
  [Symbol.dispose](): void {
    this.#closed = true;
    for (const [name, entry] of this.#entries) this.#drop(name, entry);
  }
}
