/**
 * A commit of a repository as a folder in the cache: listed, downloaded, verified, or found from earlier.
 *
 * @module
 */

import { DownloadError, NotSupportedError, TensaurError, throwIfAborted } from "../errors.ts";
import type { Progress } from "../progress.ts";
import {
  isPlaced,
  placedPath,
  placeFile,
  readRef,
  readTree,
  type RepoCache,
  repoCache,
  snapshotDir,
  writeRef,
  writeTree,
} from "./hub_cache.ts";
import { downloadBlob } from "./hub_download.ts";
import { type HubJob, isPassing } from "./hub_fetch.ts";
import { listTree, resolveCommit } from "./hub_listing.ts";
import type { HubOverrides, HubSettings } from "./hub_settings.ts";
import { COMMIT, expectSafeName, type HubFile, verifyFile } from "./hub_verify.ts";

/** How to find a model, beside its name. What is not given comes from Python's environment variables. */
export interface ResolveOptions extends HubOverrides {
  /** Branch, tag or commit; default `main`. A full commit hash that is in the cache needs no network. */
  revision?: string;
  /** Told of every file's bytes (`label` is the file) and of their sum (`label` is the repository). */
  onProgress?: (progress: Progress) => void;
  /** Ends the download; what came so far stays in `.incomplete` files, and the next call goes on from there. */
  signal?: AbortSignal;
  /**
   * Which of the repository's files to fetch; default {@linkcode isModelFile} without second copies of the weights.
   * Pickles are never fetched.
   */
  allow?: (file: string) => boolean;
}

/** Where a model lies. */
export interface ResolvedModel {
  /** Folder with `config.json` and the weights. */
  dir: string;
  /** The commit, where it came from the hub: pass it as `revision` to get the very same files again. */
  commit?: string;
  /** Whether `dir` is in the hub's cache. */
  fromHub: boolean;
}

/** What {@linkcode verifySnapshot} has found right. */
export interface VerifiedModel {
  /** The commit that was checked. */
  commit: string;
  /** Files whose size and hash are as published. */
  files: string[];
  /** Their bytes. */
  bytes: number;
}

const PARALLEL_FILES = 4;
const PICKLE = /\.(bin|pt|pth|pkl|pickle|ckpt|joblib)$/i;
const ROOT_JSON = "adapter_config|added_tokens|chat_template|config|config_sentence_transformers|generation_config|" +
  "modules|preprocessor_config|quantize_config|sentence_bert_config|special_tokens_map|tokenizer\\w*";
const MODEL_FILES = [
  new RegExp(`^(?:${ROOT_JSON})\\.json$`),
  /^[^/]+\.safetensors(\.index\.json)?$/,
  /^chat_template\.jinja$/,
  /^\d+_[A-Za-z]+\/(config\.json|model\.safetensors)$/, // modules of sentence-transformers
];
const SECOND_COPY = /^(consolidated.*|model\.(fp|bf|int)\d+.*)\.safetensors(\.index\.json)?$/;

/** Whether a repository's file is one that models are loaded from: configuration, tokenizer, safetensors. */
export function isModelFile(file: string): boolean {
  return MODEL_FILES.some((pattern) => pattern.test(file));
}

/** The folder of `repo` at the revision that the options name, downloaded where the cache lacks a part of it. */
export async function resolveSnapshot(
  repo: string,
  options: ResolveOptions,
  settings: HubSettings,
): Promise<ResolvedModel> {
  const revision = options.revision ?? "main";
  expectSafeName("the revision", revision);
  const job: HubJob = { settings, repo, revision, ...(options.signal ? { signal: options.signal } : {}) };
  const cache = repoCache(settings.cacheDir, repo);
  try {
    if (settings.offline) return await fromCache(job, cache, options);
    const found = await currentTree(job, cache).catch((error) => {
      if (isPassing(error)) return error as TensaurError; // out of reach: an earlier download may serve
      throw error;
    });
    if (!(found instanceof TensaurError)) return await bring(job, cache, found, options);
    return await fromCache(job, cache, options).catch(() => Promise.reject(found));
  } catch (error) {
    throw asDiskError(error, repo, settings.cacheDir);
  }
}

/**
 * Reads every file of a cached model and compares it with what the hub published; no network.
 *
 * @throws {IntegrityError} for the first file that differs
 * @throws {DownloadError} if the cache lacks the model, or does not know its hashes
 */
export async function verifySnapshot(
  repo: string,
  options: ResolveOptions,
  settings: HubSettings,
): Promise<VerifiedModel> {
  const job: HubJob = { settings, repo, revision: options.revision ?? "main" };
  expectSafeName("the revision", job.revision);
  const cache = repoCache(settings.cacheDir, repo);
  const { commit = "" } = await fromCache(job, cache, options);
  const tree = await readTree(cache, commit);
  if (tree === undefined) {
    throw new DownloadError(
      `Cannot verify ${repo} as its list of hashes must be in the cache: current folder ${cache.root} has none`,
      { hint: `Run \`tensaur models pull ${repo}\` with network access first.` },
    );
  }
  const files = selectFiles(repo, tree, options.allow);
  for (const file of files) {
    throwIfAborted(options.signal, `verifying ${repo}`);
    await verifyFile(placedPath(cache, commit, file), file);
  }
  return { commit, files: files.map(({ path }) => path), bytes: totalSize(files) };
}

interface Listing {
  commit: string;
  tree: HubFile[];
  /** Whether the cache has it already. */
  noted: boolean;
}

/** What the revision holds now. A commit never changes, so one that is noted needs no request. */
async function currentTree(job: HubJob, cache: RepoCache): Promise<Listing> {
  const commit = COMMIT.test(job.revision) ? job.revision : await resolveCommit(job);
  const noted = await readTree(cache, commit);
  return { commit, tree: noted ?? await listTree(job, commit), noted: noted !== undefined };
}

async function bring(
  job: HubJob,
  cache: RepoCache,
  { commit, tree, noted }: Listing,
  options: ResolveOptions,
): Promise<ResolvedModel> {
  const missing = await missingFiles(cache, commit, selectFiles(job.repo, tree, options.allow));
  // A cache that lacks nothing may be read-only: what cannot be noted in it is not needed.
  const note = (writing: Promise<void>) => missing.length === 0 ? writing.catch(() => {}) : writing;
  if (!noted) await note(writeTree(cache, commit, tree));
  await downloadFiles(job, cache, commit, missing, options.onProgress);
  await note(writeRef(cache, job.revision, commit)); // last: until then the branch is the commit that is complete
  return { dir: snapshotDir(cache, commit), commit, fromHub: true };
}

/** What an earlier download left, if it is complete as far as can be told. */
async function fromCache(job: HubJob, cache: RepoCache, options: ResolveOptions): Promise<ResolvedModel> {
  const { repo, revision } = job;
  const commit = await readRef(cache, revision);
  const tree = commit === undefined ? undefined : await readTree(cache, commit);
  const missing = commit && tree ? await missingFiles(cache, commit, selectFiles(repo, tree, options.allow)) : [];
  const dir = commit === undefined ? cache.root : snapshotDir(cache, commit);
  const there = await Deno.stat(dir).then((info) => info.isDirectory, () => false);
  if (commit !== undefined && there && missing.length === 0) return { dir, commit, fromHub: true };
  const lack = missing.length > 0
    ? `lacks ${missing.map(({ path }) => path).join(", ")}`
    : there
    ? "has no such revision"
    : "does not exist";
  throw new DownloadError(
    `Cannot use ${repo} (revision ${JSON.stringify(revision)}) offline as its files must be in the cache: ` +
      `current folder ${dir} ${lack}`,
    { hint: `Run \`tensaur models pull ${repo}\` with network access first, or unset HF_HUB_OFFLINE.` },
  );
}

/** The files to fetch, each with a name that is safe to use as a path. */
function selectFiles(repo: string, tree: readonly HubFile[], allow: ResolveOptions["allow"]): HubFile[] {
  const whole = tree.some(({ path }) => /^model\.safetensors(\.index\.json)?$/.test(path));
  const byDefault = (path: string) => isModelFile(path) && !(whole && SECOND_COPY.test(path));
  const files = tree.filter(({ path }) => !PICKLE.test(path) && (allow ?? byDefault)(path));
  for (const { path } of files) expectSafeName(`a file of ${repo}`, path);
  if (files.length > 0) return files;
  const pickled = tree.some(({ path }) => PICKLE.test(path));
  throw new NotSupportedError(
    `Cannot load ${repo} as it must hold a configuration or safetensors files: ` +
      `current list of ${tree.length} files has none`,
    pickled ? { hint: "It holds pickles, which can run code: convert them with save_pretrained() in Python." } : {},
  );
}

async function missingFiles(cache: RepoCache, commit: string, files: readonly HubFile[]): Promise<HubFile[]> {
  const placed = await Promise.all(files.map((file) => isPlaced(cache, commit, file)));
  return files.filter((_, i) => !placed[i]);
}

function totalSize(files: readonly HubFile[]): number {
  return files.reduce((sum, { size }) => sum + size, 0);
}

/** Downloads and places `files`, a few at a time. The first error ends all; it is thrown when the others have ended. */
async function downloadFiles(
  job: HubJob,
  cache: RepoCache,
  commit: string,
  files: readonly HubFile[],
  onProgress: (progress: Progress) => void = () => {},
): Promise<void> {
  const failed = new AbortController();
  const signal = job.signal ? AbortSignal.any([job.signal, failed.signal]) : failed.signal;
  const queue = [...files].sort((a, b) => a.size - b.size); // small ones first: a wrong config shows at once
  const total = totalSize(files);
  let sum = 0;
  const work = async () => {
    for (let file = queue.shift(); file && !signal.aborted; file = queue.shift()) {
      const { path, size } = file;
      let before = 0;
      await downloadBlob({ ...job, signal }, cache, commit, file, (loaded) => {
        sum += loaded - before;
        before = loaded;
        onProgress({ phase: "download", label: path, loaded, total: size });
        onProgress({ phase: "download", label: job.repo, loaded: sum, total });
      });
      await placeFile(cache, commit, file);
    }
  };
  const errors: unknown[] = [];
  await Promise.all(Array.from({ length: PARALLEL_FILES }, () =>
    work().catch((error) => {
      errors.push(error);
      failed.abort();
    })));
  throwIfAborted(job.signal, `the download of ${job.repo}`);
  if (errors.length > 0) throw errors[0];
}

/** Whether the error carries a code of the operating system, like ENOSPC. */
function isSystemError(error: unknown): error is Error {
  return error instanceof Error && "code" in error && /^E[A-Z0-9]+$/.test(String(error.code));
}

/** The system's own errors (no permission, disk full, …) become one of ours; errors of callbacks stay as they are. */
function asDiskError(error: unknown, repo: string, cacheDir: string): unknown {
  const denied = error instanceof Deno.errors.NotCapable;
  if (error instanceof TensaurError || !(denied || isSystemError(error))) return error;
  return new DownloadError(
    `Cannot download ${repo} as the cache at ${cacheDir} must be readable and writable: current answer is ${error.message}`,
    {
      cause: error,
      hint: denied
        ? `Run with --allow-read=${cacheDir} --allow-write=${cacheDir}.`
        : "Free disk space or set HF_HUB_CACHE to another folder.",
    },
  );
}
