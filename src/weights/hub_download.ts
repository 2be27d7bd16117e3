/**
 * One file from the hub to its blob: `.incomplete` first, and under its own name only when size and hash are right.
 *
 * @module
 */

import { join } from "node:path";
import { DownloadError, IntegrityError } from "../errors.ts";
import { fileSize, randomHex, removeIfThere, type RepoCache, withLock } from "./hub_cache.ts";
import { broken, type HubAnswer, hubGet, type HubJob, isPassing, passing, Watchdog, withRetries } from "./hub_fetch.ts";
import { PartialBlob } from "./hub_partial.ts";
import { blobName, type HubFile, wrongHash, wrongSize } from "./hub_verify.ts";

/** What one transfer is about. */
interface Transfer {
  job: HubJob;
  commit: string;
  file: HubFile;
  partial: PartialBlob;
  onBytes: (loaded: number) => void;
}

/**
 * Makes sure that the blob of `file` is in the cache, downloading what is missing of it.
 *
 * @param onBytes called with the bytes of this file that are on disk
 * @throws {IntegrityError} if what came is not what was published; nothing of it is kept
 * @throws {DownloadError} if the hub or the disk refuses; `.incomplete` stays, and the next call goes on from there
 */
export async function downloadBlob(
  job: HubJob,
  cache: RepoCache,
  commit: string,
  file: HubFile,
  onBytes: (loaded: number) => void = () => {},
): Promise<void> {
  const name = blobName(file);
  const blob = join(cache.blobs, name);
  await Deno.mkdir(cache.blobs, { recursive: true });
  await withLock(join(cache.locks, `${name}.lock`), job.signal, async (held) => {
    if (await fileSize(blob) === file.size) return; // someone else was faster
    const path = held ? `${blob}.incomplete` : `${blob}.${randomHex()}.incomplete`;
    const partial = await PartialBlob.open(path, file, job.signal);
    try {
      await withRetries(job, () => transfer({ job, commit, file, partial, onBytes }), () => partial.loaded);
      await partial.become(blob);
    } catch (error) {
      // What ended too early may yet be completed; what is wrong may not stay.
      if (!held || (error instanceof IntegrityError && !isPassing(error))) await removeIfThere(path);
      throw error;
    } finally {
      partial.close();
    }
  });
  onBytes(file.size);
}

/** Receives what is missing, then compares the hash; a wrong one after a resumption earns one start from zero. */
async function transfer({ job, commit, file, partial, onBytes }: Transfer): Promise<void> {
  if (partial.loaded < file.size) await receive({ job, commit, file, partial, onBytes });
  const expected = blobName(file);
  const actual = partial.digest();
  if (actual === expected) return;
  const error = wrongHash(file.path, expected, actual);
  if (!partial.resumed) throw error;
  await partial.restart();
  throw passing(error);
}

async function receive({ job, commit, file, partial, onBytes }: Transfer): Promise<void> {
  using watchdog = new Watchdog(job.settings.stallMs, job.signal);
  const path = file.path.split("/").map(encodeURIComponent).join("/");
  const address = `${job.settings.endpoint}/${job.repo}/resolve/${commit}/${path}`;
  const range: Record<string, string> = partial.loaded > 0 ? { range: `bytes=${partial.loaded}-` } : {};
  const answer = await hubGet(job, file.path, address, range, watchdog.signal);
  const { response } = answer;
  const reader = (response.body ?? new Blob([]).stream()).getReader();
  try {
    checkPublished(answer, commit, file);
    await placeInFile(response, file, partial);
    while (true) {
      const { done, value } = await reader.read().catch((error) => {
        throw broken(job, file.path, new URL(address), error);
      });
      if (done) break;
      watchdog.heard();
      if (partial.loaded + value.length > file.size) throw wrongSize(file.path, file.size, "larger");
      await partial.write(value);
      onBytes(partial.loaded);
    }
  } finally {
    await reader.cancel().catch(() => {}); // ends the connection where an error left the body unread
  }
  if (partial.loaded < file.size) throw passing(wrongSize(file.path, file.size, partial.loaded));
}

/** What the hub says with the file must be what its listing said. */
function checkPublished({ hubHeaders }: HubAnswer, commit: string, file: HubFile): void {
  const expected = { "x-repo-commit": commit, "x-linked-etag": blobName(file), "x-linked-size": `${file.size}` };
  for (const headers of hubHeaders) {
    for (const [name, value] of Object.entries(expected)) {
      const actual = headers.get(name)?.replace(/^W\//, "").replaceAll('"', "");
      if (actual === undefined || actual === value) continue;
      throw new IntegrityError(
        `Cannot use ${JSON.stringify(file.path)} as its ${name} must be ${value}: current value is ${
          JSON.stringify(actual)
        }`,
        { hint: "The repository's listing and its files disagree: the server or a proxy on the way alters answers." },
      );
    }
  }
}

/** Where the body belongs: after what is there (206), or in place of it (200; 416 and odd ranges: start again). */
async function placeInFile(response: Response, file: HubFile, partial: PartialBlob): Promise<void> {
  if (response.status === 200) {
    const length = response.headers.get("content-length");
    const encoded = response.headers.has("content-encoding");
    if (length !== null && !encoded && Number(length) !== file.size) throw wrongSize(file.path, file.size, length);
    if (partial.loaded > 0) await partial.restart();
    return;
  }
  const range = response.headers.get("content-range") ?? "none";
  const [, start, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(range) ?? [];
  if (response.status === 206 && Number(start) === partial.loaded && (total === "*" || Number(total) === file.size)) {
    partial.resumed ||= partial.loaded > 0;
    return;
  }
  const error = new DownloadError(
    `Cannot go on with ${
      JSON.stringify(file.path)
    } as the range must start at byte ${partial.loaded} of ${file.size}: ` +
      `current answer is ${response.status} with range ${JSON.stringify(range)}`,
  );
  await partial.restart();
  throw passing(error);
}
