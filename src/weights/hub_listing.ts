/**
 * What a repository holds: the commit of a revision and its files, asked through `@huggingface/hub`.
 *
 * @module
 */

import { DownloadError, LimitError, TensaurError } from "../errors.ts";
import { broken, hubGet, type HubJob, Watchdog, withRetries } from "./hub_fetch.ts";
import { COMMIT, type HubFile } from "./hub_verify.ts";

const MAX_FILES = 100_000;

/** The commit that the job's revision stands at now. */
export async function resolveCommit(job: HubJob): Promise<string> {
  const { modelInfo } = await hubPackage(job);
  const { sha } = await listed(job, () =>
    modelInfo({
      name: job.repo,
      revision: job.revision,
      additionalFields: ["sha"],
      hubUrl: job.settings.endpoint,
      fetch: listingFetch(job),
    }));
  if (typeof sha === "string" && COMMIT.test(sha)) return sha;
  throw new DownloadError(
    `Cannot download ${job.repo} (revision ${JSON.stringify(job.revision)}) as the hub must name its commit with ` +
      `40 hex digits: current value is ${JSON.stringify(sha)}`,
  );
}

/** Every file of a commit, with size and hashes. */
export async function listTree(job: HubJob, commit: string): Promise<HubFile[]> {
  const { listFiles } = await hubPackage(job);
  return await listed(job, async () => {
    const files: HubFile[] = [];
    const entries = listFiles({
      repo: job.repo,
      revision: commit,
      recursive: true,
      hubUrl: job.settings.endpoint,
      fetch: listingFetch(job),
    });
    for await (const entry of entries) {
      if (entry.type !== "file") continue;
      if (files.length === MAX_FILES) {
        throw new LimitError(
          `Cannot list ${job.repo} as it must have at most ${MAX_FILES} files: current list is longer`,
        );
      }
      const file: HubFile = { path: entry.path, size: entry.lfs?.size ?? entry.size, blobId: entry.oid ?? "" };
      if (entry.lfs) file.sha256 = entry.lfs.oid;
      if (entry.xetHash !== undefined && /^[0-9a-f]{64}$/.test(entry.xetHash)) file.xetHash = entry.xetHash;
      if (typeof file.path !== "string" || !Number.isSafeInteger(file.size) || file.size < 0) {
        throw new DownloadError(
          `Cannot list ${job.repo} as each file must have a name and a size: current entry is ${JSON.stringify(file)}`,
        );
      }
      files.push(file);
    }
    return files;
  });
}

const HUB = "npm:@huggingface/hub@2.17.5"; // not an import that Deno sees before: a local model needs none of it

/** Loaded where it is needed. */
async function hubPackage(job: HubJob): Promise<typeof import("@huggingface/hub")> {
  try {
    return await import(HUB);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new DownloadError(
      `Cannot download ${job.repo} as the package @huggingface/hub must load: current answer is ${reason}`,
      { cause, hint: "Run once with access to the npm registry, or pass a local folder." },
    );
  }
}

/** The `fetch` that the package gets: it adds the token where it may go, and reads each answer within its retries. */
function listingFetch(job: HubJob): typeof fetch {
  return async (input) => {
    const address = input instanceof Request ? input.url : String(input);
    return await withRetries(job, async () => {
      using watchdog = new Watchdog(job.settings.stallMs, job.signal);
      const { response } = await hubGet(
        job,
        "the list of files",
        address,
        { accept: "application/json" },
        watchdog.signal,
      );
      const { status, headers } = response;
      return new Response(await bodyOf(job, response), { status, headers });
    });
  };
}

async function bodyOf(job: HubJob, response: Response): Promise<ArrayBuffer> {
  try {
    return await response.arrayBuffer();
  } catch (error) {
    throw broken(job, "the list of files", new URL(job.settings.endpoint), error);
  }
}

/** What the package throws of its own (an answer that is no JSON) becomes an error of ours. */
async function listed<T>(job: HubJob, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof TensaurError) throw error;
    throw new DownloadError(
      `Cannot download ${job.repo} (revision ${
        JSON.stringify(job.revision)
      }) as ${job.settings.endpoint} must answer ` +
        "as the Hugging Face hub does: current answer cannot be read",
      { cause: error, hint: "Check HF_ENDPOINT." },
    );
  }
}
