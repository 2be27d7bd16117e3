/**
 * Models by name: a local folder as it is, anything else from the Hugging Face hub into the cache that Python uses too.
 *
 * @module
 */

import { ModelPathError, throwIfAborted, ValueError } from "../errors.ts";
import { expandHome, hubSettings } from "./hub_settings.ts";
import {
  type ResolvedModel,
  type ResolveOptions,
  resolveSnapshot,
  type VerifiedModel,
  verifySnapshot,
} from "./hub_snapshot.ts";

export { isModelFile, type ResolvedModel, type ResolveOptions, type VerifiedModel } from "./hub_snapshot.ts";
export { hubCacheDir, type HubOverrides } from "./hub_settings.ts";

const REPO_ID = /^(?=.{1,160}$)(?!.*(?:--|\.\.|\.git$))\w(?:[\w.-]*\w)?(?:\/\w(?:[\w.-]*\w)?)?$/;

/**
 * The folder of a model: a local one as it is, else `owner/name` downloaded from the hub, verified and cached.
 *
 * Each file's size and hash (SHA-256, or Git's SHA-1 for small ones) must be those that the hub lists before the file
 * appears in the folder. Broken connections are taken up where they broke. If the hub cannot be reached at all, a
 * complete earlier download of the same revision is used; `commit` says which.
 *
 * @throws {ModelPathError} for a path that leads nowhere, or a repository with unsafe file names
 * @throws {DownloadError} if the hub or the disk refuses, or if offline and the cache lacks a file
 * @throws {IntegrityError} if what came is not what was published
 * @throws {NotSupportedError} if the repository holds nothing that can be loaded
 *
 * @example
 * ```ts
 * import { resolveModel } from "./hub.ts";
 *
 * const { dir } = await resolveModel("./models/tensaur-tiny"); // a local folder: no network
 * ```
 */
export async function resolveModel(pathOrHubId: string, options: ResolveOptions = {}): Promise<ResolvedModel> {
  throwIfAborted(options.signal, `loading ${pathOrHubId}`);
  const dir = await localFolder(pathOrHubId);
  if (dir !== undefined) return { dir, fromHub: false };
  return await resolveSnapshot(pathOrHubId, options, await hubSettings(options));
}

/**
 * Reads every file of a downloaded model and compares size and hash with what the hub published; no network.
 *
 * @throws {IntegrityError} for the first file that differs
 * @throws {DownloadError} if the cache lacks the model, or does not know its hashes
 */
export async function verifyModel(hubId: string, options: ResolveOptions = {}): Promise<VerifiedModel> {
  if (!REPO_ID.test(hubId)) throw notAModel(hubId);
  return await verifySnapshot(hubId, options, await hubSettings({ ...options, offline: true }));
}

/** The folder that `name` means on this machine; undefined if it can only be a hub id. */
async function localFolder(name: string): Promise<string | undefined> {
  const path = expandHome(name);
  const isId = REPO_ID.test(name);
  // A name that may be a hub id must not raise a permission prompt for a folder that need not exist.
  const mayLook = !isId || Deno.permissions.querySync({ name: "read", path }).state === "granted";
  const info = mayLook && path !== "" ? await lookAt(path) : undefined;
  if (info?.isDirectory) return path;
  if (info !== undefined) {
    throw new ModelPathError(`Cannot load ${JSON.stringify(name)} as a model must be a folder: current one is a file`, {
      hint: "Pass the folder that holds it.",
    });
  }
  if (isId) return undefined;
  throw looksLikePath(name) ? noFolder(name) : notAModel(name);
}

function looksLikePath(name: string): boolean {
  return /^[.~/]|^[A-Za-z]:|\\|^file:/.test(name) || name.split("/").length > 2 || name.endsWith("/");
}

async function lookAt(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
    const reason = error instanceof Error ? error.message : String(error);
    throw new ModelPathError(
      `Cannot load ${JSON.stringify(path)} as the folder must be readable: current answer is ${reason}`,
      { cause: error, hint: `Run with --allow-read=${path}.` },
    );
  }
}

function noFolder(name: string): ModelPathError {
  return new ModelPathError(
    `Cannot load ${JSON.stringify(name)} as the folder must exist: current path leads nowhere`,
    { hint: "Check the path; a model of the hub is named owner/name." },
  );
}

function notAModel(name: string): ValueError {
  return new ValueError(
    `Cannot load ${JSON.stringify(name)} as a model must be a local folder or a hub id like owner/name: ` +
      "current value is neither",
  );
}
