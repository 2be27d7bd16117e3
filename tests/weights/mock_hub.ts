/**
 * A hub of one repository on 127.0.0.1: the endpoints that a download uses, on one port, and a second port that
 * stands for the host where large files lie.
 */

import { createHash } from "node:crypto";

/** What a test repository holds. */
export interface MockRepo {
  files: Record<string, Uint8Array>;
  /** Names of the files kept by LFS: listed with SHA-256 and served by redirect. */
  lfs?: string[];
  /** Branches and tags; default `main` at {@linkcode COMMIT}. */
  revisions?: Record<string, string>;
  /** Access needs this token. */
  token?: string;
  /** Files in one page of the listing; default all. */
  page?: number;
}

/** A request as it came, and what an honest hub would answer to it. */
export interface MockRequest {
  kind: "info" | "tree" | "resolve" | "cdn";
  /** The file asked for, in "resolve" and "cdn". */
  file: string;
  /** How often this kind was asked for this file before. */
  nth: number;
  url: URL;
  range: string | null;
  authorization: string | null;
  honest: () => Response;
}

/** May answer in place of the honest hub. */
export type Intercept = (request: MockRequest) => Response | undefined | Promise<Response | undefined>;

/** A running mock hub. */
export interface MockHub extends AsyncDisposable {
  endpoint: string;
  cdn: string;
  requests: MockRequest[];
  intercept: Intercept;
  /** Requests for the bytes of `file`. */
  fetched(file: string): MockRequest[];
}

/** The name of every mock repository, and the commit its `main` stands at. */
export const REPO = "owner/tiny-model";
export const COMMIT = "0123456789abcdef0123456789abcdef01234567";

/** Git's id of a file with these bytes. */
export function gitId(bytes: Uint8Array): string {
  return createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
}

/** The name a file's blob must have. */
export function publishedName(repo: MockRepo, file: string): string {
  const bytes = repo.files[file]!;
  return repo.lfs?.includes(file) ? createHash("sha256").update(bytes).digest("hex") : gitId(bytes);
}

/** Bytes that differ from each other, the same in every run. */
export function someBytes(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  let state = seed;
  return Uint8Array.from({ length }, () => (state = (state * 48271) % 2147483647) & 255);
}

/** Starts the hub; `await using` ends it. */
export function startMockHub(repo: MockRepo): MockHub {
  const counts = new Map<string, number>();
  const answer = async (kind: MockRequest["kind"] | undefined, file: string, request: Request) => {
    if (kind === undefined) return new Response("no such page", { status: 404 });
    const key = `${kind} ${file}`;
    const nth = counts.get(key) ?? 0;
    counts.set(key, nth + 1);
    const { headers } = request;
    const seen: MockRequest = {
      kind,
      file,
      nth,
      url: new URL(request.url),
      range: headers.get("range"),
      authorization: headers.get("authorization"),
      honest: () => honestAnswer(repo, hub, seen),
    };
    hub.requests.push(seen);
    return await hub.intercept(seen) ?? seen.honest();
  };
  const options = { hostname: "127.0.0.1", port: 0, onListen() {}, onError: () => new Response(null, { status: 599 }) };
  const main = Deno.serve(options, (request) => {
    const path = decodeURIComponent(new URL(request.url).pathname);
    const [, info] = new RegExp(`^/api/models/${REPO}/revision/(.+)$`).exec(path) ?? [];
    const [, tree] = new RegExp(`^/api/models/${REPO}/tree/(.+)$`).exec(path) ?? [];
    const [, commit, file] = new RegExp(`^/${REPO}/resolve/([^/]+)/(.+)$`).exec(path) ?? [];
    const kind = info ? "info" : tree ? "tree" : commit ? "resolve" : undefined;
    return answer(kind, info ?? tree ?? file ?? "", request);
  });
  const cdn = Deno.serve(options, (request) => {
    return answer("cdn", decodeURIComponent(new URL(request.url).pathname).slice(1), request);
  });
  const hub: MockHub = {
    endpoint: `http://127.0.0.1:${main.addr.port}`,
    cdn: `http://127.0.0.1:${cdn.addr.port}`,
    requests: [],
    intercept: () => undefined,
    fetched: (file) => hub.requests.filter((r) => r.file === file && r.kind === bytesKind(repo, file)),
    async [Symbol.asyncDispose]() {
      await Promise.all([main.shutdown(), cdn.shutdown()]);
      await Promise.all(pauses);
    },
  };
  return hub;
}

/** Where a file's bytes come from: the redirect's target, or the hub itself. */
export function bytesKind(repo: MockRepo, file: string): "cdn" | "resolve" {
  return repo.lfs?.includes(file) ? "cdn" : "resolve";
}

function honestAnswer(repo: MockRepo, hub: MockHub, request: MockRequest): Response {
  const { kind, file, url } = request;
  if (kind === "cdn") return ranged(repo.files[file]!, request.range, { etag: '"an-md5-of-its-parts-3"' });
  if (repo.token !== undefined && request.authorization !== `Bearer ${repo.token}`) {
    return new Response("{}", { status: 401, headers: { "x-error-code": "GatedRepo" } });
  }
  const revisions = repo.revisions ?? { main: COMMIT };
  if (kind === "info") {
    const sha = revisions[file];
    if (sha === undefined) return new Response("{}", { status: 404, headers: { "x-error-code": "RevisionNotFound" } });
    return Response.json({ _id: "1", id: REPO, sha, private: false, lastModified: "2026-01-01T00:00:00.000Z" });
  }
  if (kind === "tree") return listing(repo, hub, file, url);
  const bytes = repo.files[file];
  if (bytes === undefined) return new Response("", { status: 404, headers: { "x-error-code": "EntryNotFound" } });
  const name = publishedName(repo, file);
  const headers = { "x-repo-commit": COMMIT, etag: `"${name}"` };
  if (bytesKind(repo, file) === "resolve") return ranged(bytes, request.range, headers);
  const linked = { ...headers, "x-linked-etag": `"${name}"`, "x-linked-size": `${bytes.length}` };
  const location = `${hub.cdn}/${encodeURIComponent(file)}?X-Amz-Signature=signed-secret`;
  return new Response(null, { status: 302, headers: { ...linked, location } });
}

function listing(repo: MockRepo, hub: MockHub, commit: string, url: URL): Response {
  const all = Object.entries(repo.files).map(([path, bytes]) => {
    const entry = { type: "file", path, size: bytes.length, oid: gitId(bytes) };
    if (!repo.lfs?.includes(path)) return entry;
    const oid = publishedName(repo, path);
    return { ...entry, oid: gitId(new TextEncoder().encode(oid)), lfs: { oid, size: bytes.length, pointerSize: 134 } };
  });
  const start = Number(url.searchParams.get("cursor") ?? 0);
  const end = start + (repo.page ?? all.length);
  const next = `${hub.endpoint}/api/models/${REPO}/tree/${commit}?recursive=true&cursor=${end}`;
  const headers: HeadersInit = end < all.length ? { link: `<${next}>; rel="next"` } : {};
  return Response.json(
    [{ type: "directory", path: "folder", size: 0, oid: "0".repeat(40) }, ...all.slice(start, end)],
    {
      headers,
    },
  );
}

/** `bytes`, or the part of them that a Range header asks for. */
export function ranged(bytes: Uint8Array, range: string | null, headers: Record<string, string> = {}): Response {
  const body = bytes as Uint8Array<ArrayBuffer>;
  if (range === null) return new Response(body, { headers });
  const start = Number(/^bytes=(\d+)-$/.exec(range)?.[1]);
  if (!(start < bytes.length)) {
    return new Response(null, { status: 416, headers: { "content-range": `bytes */${bytes.length}` } });
  }
  const contentRange = `bytes ${start}-${bytes.length - 1}/${bytes.length}`;
  return new Response(body.slice(start), { status: 206, headers: { ...headers, "content-range": contentRange } });
}

/** Answers that wait before they break off; a hub is closed when they have. */
const pauses = new Set<Promise<void>>();

/** Waits in an answer; the hub's end waits for it too, though the client may be gone. */
export function pause(ms: number): Promise<void> {
  const over = new Promise<void>((resolve) => setTimeout(resolve, ms)).then(() => void pauses.delete(over));
  pauses.add(over);
  return over;
}

/** The honest answer, whose connection breaks after `k` bytes of the body. */
export async function hangUp(honest: Response, k: number): Promise<Response> {
  const bytes = new Uint8Array(await honest.arrayBuffer());
  const headers = new Headers(honest.headers);
  headers.set("content-length", `${bytes.length}`);
  let sent = false;
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      if (sent || k === 0) return controller.error(new Error("hung up"));
      controller.enqueue(bytes.slice(0, k));
      sent = true;
      await pause(5); // lets the bytes leave before the connection breaks
    },
  }, { highWaterMark: 0 });
  return new Response(body, { status: honest.status, headers });
}

/** The bytes in a body of unknown length (chunked transfer). */
export function chunked(bytes: Uint8Array, status = 200, headers: HeadersInit = {}): Response {
  return new Response(new Blob([bytes as Uint8Array<ArrayBuffer>]).stream(), { status, headers });
}

/** The bytes with one bit of the byte at `at` flipped. */
export function flipped(bytes: Uint8Array, at: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(bytes, (byte, i) => i === at ? byte ^ 1 : byte);
}
