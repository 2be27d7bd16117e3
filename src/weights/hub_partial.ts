/**
 * A blob on its way: bytes in an `.incomplete` file, hashed as they are written, renamed when they are complete.
 *
 * @module
 */

import type { Hash } from "node:crypto";
import { DownloadError, IntegrityError, throwIfAborted } from "../errors.ts";
import { isSameFile } from "./hub_cache.ts";
import { blobName, type HubFile, startHash, wrongSize } from "./hub_verify.ts";

/** The bytes of a blob that are there so far, hashed as they come. */
export class PartialBlob {
  /** Bytes on disk. */
  loaded = 0;
  /** Whether some of them came by an earlier request. */
  resumed = false;
  readonly #path: string;
  readonly #expected: HubFile;
  readonly #file: Deno.FsFile;
  #hash: Hash;
  #open = true;

  private constructor(path: string, expected: HubFile, file: Deno.FsFile) {
    this.#path = path;
    this.#expected = expected;
    this.#file = file;
    this.#hash = startHash(blobName(expected), expected.size);
  }

  /** Opens `path`, hashing what an earlier download left there. */
  static async open(path: string, expected: HubFile, signal: AbortSignal | undefined): Promise<PartialBlob> {
    const file = await Deno.open(path, { read: true, write: true, create: true });
    const partial = new PartialBlob(path, expected, file);
    try {
      await partial.#rehash(signal);
    } catch (error) {
      partial.close();
      throw error;
    }
    return partial;
  }

  async #rehash(signal: AbortSignal | undefined): Promise<void> {
    const { size } = await this.#file.stat();
    const chunk = new Uint8Array(1 << 20);
    while (this.loaded < size) {
      throwIfAborted(signal, `the download of ${this.#expected.path}`);
      const n = await this.#file.read(chunk);
      if (n === null) break;
      this.#hash.update(chunk.subarray(0, n));
      this.loaded += n;
    }
    this.resumed = this.loaded > 0;
  }

  /** Forgets every byte. */
  async restart(): Promise<void> {
    await this.#file.truncate(0);
    await this.#file.seek(0, Deno.SeekMode.Start);
    this.#hash = startHash(blobName(this.#expected), this.#expected.size);
    this.loaded = 0;
    this.resumed = false;
  }

  /** Appends a chunk. */
  async write(chunk: Uint8Array): Promise<void> {
    try {
      for (let at = 0; at < chunk.length;) {
        const n = await this.#file.write(chunk.subarray(at));
        this.#hash.update(chunk.subarray(at, at + n));
        this.loaded += n;
        at += n;
      }
    } catch (cause) {
      throw writeFailure(this.#expected.path, this.#path, cause);
    }
  }

  /** The hash of all bytes so far. */
  digest(): string {
    return this.#hash.copy().digest("hex");
  }

  /** Gives the complete bytes their name, once they are on the disk. */
  async become(blob: string): Promise<void> {
    try {
      await this.#file.sync();
      const { size } = await this.#file.stat();
      // Not so where a file system's locks are a fiction and another process works on the same file.
      if (size !== this.loaded || !await isSameFile(this.#file, this.#path)) {
        throw wrongSize(this.#expected.path, this.#expected.size, `${size}, changed by another process`);
      }
      this.close();
      await Deno.rename(this.#path, blob);
    } catch (cause) {
      if (cause instanceof IntegrityError) throw cause;
      throw writeFailure(this.#expected.path, blob, cause);
    }
  }

  /** Closes the file, once. */
  close(): void {
    if (this.#open) this.#file.close();
    this.#open = false;
  }
}

function writeFailure(file: string, path: string, cause: unknown): DownloadError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new DownloadError(
    `Cannot download ${JSON.stringify(file)} as ${path} must take its bytes: current answer is ${reason}`,
    { cause, hint: "Free disk space or set HF_HUB_CACHE to another folder; the download goes on where it stopped." },
  );
}
