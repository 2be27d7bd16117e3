/**
 * The cache on disk, laid out as Python's `huggingface_hub` lays it out, so that both read what either has fetched:
 *
 * ```text
 * models--owner--name/refs/main               the commit that a branch or tag stood at
 * models--owner--name/blobs/HASH              the bytes, named by their hash; HASH.incomplete while they come
 * models--owner--name/snapshots/COMMIT/FILE   link to ../../blobs/HASH
 * models--owner--name/trees/COMMIT.json       every file of the commit: size and hashes
 * .locks/models--owner--name/HASH.lock        held by who downloads HASH
 * ```
 *
 * @module
 */

import { dirname, join } from "node:path";
import { sleep } from "./hub_fetch.ts";
import { blobName, COMMIT, type HubFile } from "./hub_verify.ts";

/** The folders of one repository in the cache. */
export interface RepoCache {
  root: string;
  blobs: string;
  locks: string;
}

/** Where `repo` lies under `cacheDir`; touches nothing. */
export function repoCache(cacheDir: string, repo: string): RepoCache {
  const folder = `models--${repo.replaceAll("/", "--")}`;
  const root = join(cacheDir, folder);
  return { root, blobs: join(root, "blobs"), locks: join(cacheDir, ".locks", folder) };
}

/** The folder that a commit's files appear in. */
export function snapshotDir(cache: RepoCache, commit: string): string {
  return join(cache.root, "snapshots", commit);
}

/** The commit that `revision` stood at when it was last downloaded; undefined if never. */
export async function readRef(cache: RepoCache, revision: string): Promise<string | undefined> {
  if (COMMIT.test(revision)) return revision;
  const text = await readText(join(cache.root, "refs", revision));
  const commit = text?.trim() ?? "";
  return COMMIT.test(commit) ? commit : undefined;
}

/** Notes that `revision` stands at `commit`. */
export async function writeRef(cache: RepoCache, revision: string, commit: string): Promise<void> {
  if (revision === commit || await readRef(cache, revision) === commit) return;
  await writeAtomic(join(cache.root, "refs", revision), commit);
}

/** The files of a commit as noted by an earlier listing; undefined if none was, or it is damaged. */
export async function readTree(cache: RepoCache, commit: string): Promise<HubFile[] | undefined> {
  const text = await readText(join(cache.root, "trees", `${commit}.json`));
  if (text === undefined) return undefined;
  try {
    const { format_version, files } = JSON.parse(text) as { format_version: number; files: Record<string, TreeEntry> };
    if (format_version !== 1) return undefined;
    const list = Object.entries(files).map(([path, entry]) => fromTree(path, entry));
    list.forEach(blobName);
    return list.every(({ size }) => Number.isSafeInteger(size) && size >= 0) ? list : undefined;
  } catch {
    return undefined; // it can be fetched again
  }
}

/** Notes the files of a commit, which never change. */
export async function writeTree(cache: RepoCache, commit: string, files: readonly HubFile[]): Promise<void> {
  const entries = files.map((file) => [file.path, toTree(file)] as const).sort(([a], [b]) => a < b ? -1 : 1);
  const tree = { format_version: 1, files: Object.fromEntries(entries) };
  await writeAtomic(join(cache.root, "trees", `${commit}.json`), JSON.stringify(tree, null, 2));
}

interface TreeEntry {
  size: number;
  blob_id: string;
  lfs_sha256?: string;
  lfs_size?: number;
  xet_hash?: string;
}

function fromTree(path: string, entry: TreeEntry): HubFile {
  const file: HubFile = { path, size: entry.lfs_size ?? entry.size, blobId: entry.blob_id };
  if (entry.lfs_sha256 !== undefined) file.sha256 = entry.lfs_sha256;
  if (entry.xet_hash !== undefined) file.xetHash = entry.xet_hash;
  return file;
}

function toTree({ size, blobId, sha256, xetHash }: HubFile): TreeEntry {
  const entry: TreeEntry = { size, blob_id: blobId };
  if (sha256 !== undefined) Object.assign(entry, { lfs_sha256: sha256, lfs_size: size });
  if (xetHash !== undefined) entry.xet_hash = xetHash;
  return entry;
}

/** Where a commit's file appears. */
export function placedPath(cache: RepoCache, commit: string, file: HubFile): string {
  return join(snapshotDir(cache, commit), ...file.path.split("/"));
}

/** Whether a commit's file is in place with the size it must have. */
export async function isPlaced(cache: RepoCache, commit: string, file: HubFile): Promise<boolean> {
  return await fileSize(placedPath(cache, commit, file)) === file.size;
}

/** Makes a verified blob appear as a commit's file, at once and whole: a link, or a copy where none may be made. */
export async function placeFile(cache: RepoCache, commit: string, file: HubFile): Promise<void> {
  if (await isPlaced(cache, commit, file)) return;
  const name = blobName(file);
  const target = placedPath(cache, commit, file);
  const up = "../".repeat(file.path.split("/").length + 1);
  await Deno.mkdir(dirname(target), { recursive: true });
  const temporary = join(cache.blobs, `${name}.${randomHex()}.incomplete`);
  try {
    await linkBlob(join(cache.blobs, name), `${up}blobs/${name}`, temporary);
    await Deno.rename(temporary, target);
  } finally {
    await removeIfThere(temporary);
  }
}

/** Symbolic link if the permissions are unscoped (Deno asks for that), else hard link, else copy. */
async function linkBlob(blob: string, relative: string, at: string): Promise<void> {
  const ways = [
    () => Deno.symlink(relative, at, { type: "file" }),
    () => Deno.link(blob, at),
    () => Deno.copyFile(blob, at),
  ];
  for (const [i, way] of ways.entries()) {
    try {
      return await way();
    } catch (error) {
      if (i === ways.length - 1) throw error;
    }
  }
}

/**
 * Runs `body` while holding the lock file at `path`, which Python's downloads honour too.
 *
 * The system frees it when its holder dies. `held` is false where the file system has no locks.
 */
export async function withLock<T>(
  path: string,
  signal: AbortSignal | undefined,
  body: (held: boolean) => Promise<T>,
): Promise<T> {
  await Deno.mkdir(dirname(path), { recursive: true });
  const file = await takeLock(path, signal);
  try {
    return await body(file !== undefined);
  } finally {
    file?.close();
  }
}

async function takeLock(path: string, signal: AbortSignal | undefined): Promise<Deno.FsFile | undefined> {
  while (true) {
    const file = await Deno.open(path, { read: true, write: true, create: true });
    let held: boolean;
    try {
      held = await file.tryLock(true);
    } catch {
      file.close();
      return undefined;
    }
    // A former holder may have removed the file: then another process can lock its successor.
    if (held && await isSameFile(file, path)) return file;
    file.close();
    if (!held) await sleep(100, signal);
  }
}

/** Whether the open file is still what lies at `path`. */
export async function isSameFile(file: Deno.FsFile, path: string): Promise<boolean> {
  try {
    const [a, b] = await Promise.all([file.stat(), Deno.stat(path)]);
    return a.dev === b.dev && a.ino === b.ino;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Size in bytes of the regular file at `path`, links followed; undefined if there is none. */
export async function fileSize(path: string): Promise<number | undefined> {
  try {
    const info = await Deno.stat(path);
    return info.isFile ? info.size : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  }
}

/** Removes the file at `path` if there is one. */
export async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Eight random hex digits, for names that no other process takes. */
export function randomHex(): string {
  return crypto.getRandomValues(new Uint32Array(1))[0]!.toString(16).padStart(8, "0");
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  }
}

async function writeAtomic(path: string, text: string): Promise<void> {
  await Deno.mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${randomHex()}.tmp`;
  try {
    await Deno.writeTextFile(temporary, text);
    await Deno.rename(temporary, path);
  } finally {
    await removeIfThere(temporary);
  }
}
