/**
 * Requests to the hub: the token goes to the hub alone, redirects are followed by hand, what is passing is retried.
 *
 * @module
 */

import { setTimeout as timeout } from "node:timers/promises";
import { AbortError, DownloadError, type TensaurError, throwIfAborted } from "../errors.ts";
import type { HubSettings } from "./hub_settings.ts";

/** One model at one revision, and how to get it. */
export interface HubJob {
  settings: HubSettings;
  /** `owner/name` or `name`. */
  repo: string;
  /** Branch, tag or commit. */
  revision: string;
  signal?: AbortSignal;
}

/** An answer, and what the hub itself said on the way to it. */
export interface HubAnswer {
  response: Response;
  /** Headers of the answers that came from the hub's own origin, redirects included. */
  hubHeaders: Headers[];
}

const MAX_REDIRECTS = 8;
const RETRIES = 3;
const MAX_RETRY_AFTER_MS = 60_000;
/** A transfer that gets so much further between two faults starts its count of retries afresh. */
const PROGRESS_BYTES = 1 << 20;

const retryAfter = new WeakMap<Error, number>();

/** Marks an error as passing: the same request may succeed, after at least `ms`. */
export function passing<E extends TensaurError>(error: E, ms = 0): E {
  retryAfter.set(error, Math.min(ms, MAX_RETRY_AFTER_MS));
  return error;
}

/** Whether {@linkcode passing} marked the error: the hub is out of reach, not unwilling. */
export function isPassing(error: unknown): boolean {
  return error instanceof Error && retryAfter.has(error);
}

/**
 * Runs `attempt`, and again up to three times after passing errors, each time after a longer wait.
 *
 * @param loaded bytes that are safe so far, for transfers that go on where they stopped
 */
export async function withRetries<T>(
  job: HubJob,
  attempt: () => Promise<T>,
  loaded: () => number = () => 0,
): Promise<T> {
  for (let tries = 0, furthest = loaded();; tries++) {
    try {
      return await attempt();
    } catch (error) {
      throwIfAborted(job.signal, `the download of ${job.repo}`);
      if (loaded() >= furthest + PROGRESS_BYTES) tries = 0;
      furthest = Math.max(furthest, loaded());
      if (!isPassing(error) || tries >= RETRIES) throw error;
      await sleep(Math.max(retryAfter.get(error as Error)!, job.settings.backoffMs * 2 ** tries), job.signal);
    }
  }
}

/** Waits; throws {@linkcode AbortError} as soon as the signal fires. */
export async function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await timeout(ms, undefined, signal ? { signal } : {});
  } catch (error) {
    throwIfAborted(signal, "waiting");
    throw error;
  }
}

/**
 * GET, redirects followed: the token is sent to the hub's own origin and nowhere else.
 *
 * @param what the thing asked for, for messages: a file or "the list of files"
 * @param signal ends the request; fires with the job's own
 * @throws {DownloadError} on every status but 200, 206 and 416; passing where a retry may help
 */
export async function hubGet(
  job: HubJob,
  what: string,
  address: string,
  headers: Record<string, string>,
  signal: AbortSignal | undefined,
): Promise<HubAnswer> {
  const origin = new URL(job.settings.endpoint).origin;
  const hubHeaders: Headers[] = [];
  let url = new URL(address);
  for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
    const response = await send(job, what, url, origin, headers, signal);
    if (url.origin === origin) hubHeaders.push(response.headers);
    if (response.status < 300 || response.status >= 400) {
      if (response.ok || response.status === 416) return { response, hubHeaders };
      await response.body?.cancel();
      throw refusal(job, what, response, url);
    }
    await response.body?.cancel();
    url = redirected(job, what, url, response.headers.get("location"));
  }
  throw new DownloadError(
    `Cannot download ${what} of ${job.repo} as its address must be reached within ${MAX_REDIRECTS} redirects: ` +
      `current one is ${bare(url)}`,
  );
}

async function send(
  job: HubJob,
  what: string,
  url: URL,
  origin: string,
  headers: Record<string, string>,
  signal: AbortSignal | undefined,
): Promise<Response> {
  const { token } = job.settings;
  const all = new Headers({ ...headers, "accept-encoding": "identity", "user-agent": "tensaur" });
  all.delete("authorization");
  if (token !== undefined && url.origin === origin) all.set("authorization", `Bearer ${token}`);
  try {
    return await fetch(url, { headers: all, redirect: "manual", ...(signal ? { signal } : {}) });
  } catch (error) {
    throw broken(job, what, url, error);
  }
}

/** The error for a connection that failed or broke off; names the host, never a header. */
export function broken(job: HubJob, what: string, url: URL, cause: unknown): TensaurError {
  if (job.signal?.aborted) {
    return new AbortError(`Cannot go on with the download of ${job.repo} as its AbortSignal fired`, { cause });
  }
  if (cause instanceof Deno.errors.NotCapable) {
    return new DownloadError(
      `Cannot download ${what} of ${job.repo} as requests to ${url.host} must be permitted: current permission is denied`,
      { cause, hint: `Run with --allow-net=${url.host} (the public hub: --allow-net=huggingface.co,*.hf.co).` },
    );
  }
  return passing(
    new DownloadError(
      `Cannot download ${what} of ${job.repo} as the connection to ${url.host} must hold: ` +
        `current one failed (${reasonOf(cause)})`,
      { hint: "Try again: the download goes on where it stopped." },
    ),
  );
}

/** What the runtime says. It quotes the address, whose query may hold a signature and is cut off. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? reasonOf(error.cause) : error.message.replace(/\?[^\s)]*/g, "?…");
}

function redirected(job: HubJob, what: string, from: URL, location: string | null): URL {
  const to = location === null ? null : URL.parse(location, from.href);
  const secure = to?.protocol === "https:" || (to?.protocol === "http:" && from.protocol === "http:");
  if (to && secure && !to.username && !to.password) return to;
  throw new DownloadError(
    `Cannot download ${what} of ${job.repo} as a redirect of ${from.host} must lead to an http(s) address and never ` +
      `from https to http: current one leads to ${to ? bare(to) : "nowhere"}`,
  );
}

/** Without query and user name: signed addresses are secrets. */
function bare(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

function refusal(job: HubJob, what: string, response: Response, url: URL): DownloadError {
  const { status, headers } = response;
  const { repo, revision, settings } = job;
  const code = headers.get("x-error-code") ?? "";
  const answer = /^\w{1,40}$/.test(code) ? `${status} (${code})` : `${status}`;
  const subject = `Cannot download ${what} of ${repo} (revision ${JSON.stringify(revision)}) as`;
  if (status === 401 || status === 403) {
    return new DownloadError(`${subject} ${url.host} must grant access: current answer is ${answer}`, {
      hint:
        `Check the name (there is no local folder of that name). For a private or gated model set HF_TOKEN to a token that may read it` +
        `, and accept its terms at ${settings.endpoint}/${repo}.`,
    });
  }
  if (status === 404) {
    return new DownloadError(
      `${subject} repository and revision must exist on ${url.host}: current answer is ${answer}`,
      {
        hint: `Look for the name at ${settings.endpoint}/${repo}; there is no local folder of that name either.`,
      },
    );
  }
  const error = new DownloadError(`${subject} ${url.host} must answer with 200: current answer is ${answer}`);
  return status === 429 || status === 408 || status >= 500 ? passing(error, retryAfterMs(headers)) : error;
}

function retryAfterMs(headers: Headers): number {
  const value = headers.get("retry-after");
  if (value === null) return 0;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : 0;
}

/** Aborts its signal when nothing was heard for `ms`. */
export class Watchdog {
  readonly #controller = new AbortController();
  readonly #ms: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Fires on silence, and with the caller's signal. */
  readonly signal: AbortSignal;

  /** Starts to listen. */
  constructor(ms: number, signal: AbortSignal | undefined) {
    this.#ms = ms;
    this.signal = signal ? AbortSignal.any([signal, this.#controller.signal]) : this.#controller.signal;
    this.heard();
  }

  /** Something came: the time starts afresh. */
  heard(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#controller.abort(), this.#ms);
  }

  /** Listens no more. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
