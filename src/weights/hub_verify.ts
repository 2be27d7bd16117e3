/**
 * What the hub publishes about a file, and whether bytes are that file.
 *
 * @module
 */

import { createHash, type Hash } from "node:crypto";
import { IntegrityError, ModelPathError } from "../errors.ts";

/** A file of a repository at one commit, as its tree listing gives it. */
export interface HubFile {
  /** Relative to the repository's root, `/` between folders. */
  path: string;
  /** In bytes. */
  size: number;
  /** Git's id of the file (of the pointer, where it is kept by LFS): 40 hex digits. */
  blobId: string;
  /** SHA-256 of the bytes where LFS keeps the file: 64 hex digits. */
  sha256?: string;
  /** The hub's id in its chunk store; kept for Python, unused here. */
  xetHash?: string;
}

/** A full commit hash. */
export const COMMIT: RegExp = /^[0-9a-f]{40}$/;

const BLOB_NAME = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;

/** The name of a file's blob in the cache, which is also its published hash: SHA-256 for LFS files, else Git's SHA-1. */
export function blobName(file: HubFile): string {
  const name = file.sha256 ?? file.blobId;
  if (BLOB_NAME.test(name)) return name;
  throw new IntegrityError(
    `Cannot download ${JSON.stringify(file.path)} as its hash must be 40 or 64 hex digits: current value is ${
      JSON.stringify(name)
    }`,
  );
}

/** Throws {@linkcode ModelPathError} unless `name` stays inside a folder on every system it may be written to. */
export function expectSafeName(what: string, name: string): void {
  const parts = name.split("/");
  // deno-lint-ignore no-control-regex -- control characters are what is refused
  const bad = parts.some((part) => part === "" || part === "." || part === ".." || /[\\:\x00-\x1f\x7f]/.test(part)) ||
    parts.some((part) => new TextEncoder().encode(part).length > 255);
  if (!bad) return;
  throw new ModelPathError(
    `Cannot use ${what} as its name must stay inside the model's folder: current name is ${JSON.stringify(name)}`,
  );
}

/** The running hash that ends in `name`: Git's own (SHA-1 over a header and the bytes) or SHA-256. */
export function startHash(name: string, size: number): Hash {
  if (name.length === 64) return createHash("sha256");
  return createHash("sha1").update(`blob ${size}\0`);
}

/** Throws {@linkcode IntegrityError}: the bytes that came are not those that were published. */
export function wrongHash(path: string, expected: string, actual: string): IntegrityError {
  const kind = expected.length === 64 ? "SHA-256" : "Git SHA-1";
  return new IntegrityError(
    `Cannot use ${JSON.stringify(path)} as its ${kind} must be ${expected}: current value is ${actual}`,
    { hint: "Download it again; if it stays so, the server or a proxy on the way alters the file." },
  );
}

/** Throws {@linkcode IntegrityError}: more or fewer bytes than published. */
export function wrongSize(path: string, expected: number, actual: number | string): IntegrityError {
  return new IntegrityError(
    `Cannot use ${JSON.stringify(path)} as its size must be ${expected} bytes: current size is ${actual}`,
    { hint: "Download it again; if it stays so, the server or a proxy on the way alters the file." },
  );
}

/** Reads the file at `at` and throws {@linkcode IntegrityError} unless size and hash are those of `file`. */
export async function verifyFile(at: string, file: HubFile): Promise<void> {
  using handle = await Deno.open(at);
  const { size } = await handle.stat();
  if (size !== file.size) throw wrongSize(file.path, file.size, size);
  const name = blobName(file);
  const hash = startHash(name, size);
  const chunk = new Uint8Array(1 << 20);
  for (let n = await handle.read(chunk); n !== null; n = await handle.read(chunk)) hash.update(chunk.subarray(0, n));
  const actual = hash.digest("hex");
  if (actual !== name) throw wrongHash(file.path, name, actual);
}
