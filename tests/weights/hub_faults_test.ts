import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  DownloadError,
  IntegrityError,
  ModelPathError,
  NotSupportedError,
  type TensaurError,
} from "../../src/errors.ts";
import { everythingSaid, TestCache, tinyRepo, TOKEN, WEIGHTS } from "./hub_fixture.ts";
import {
  chunked,
  COMMIT,
  flipped,
  hangUp,
  type Intercept,
  type MockHub,
  type MockRepo,
  publishedName,
  ranged,
  REPO,
  someBytes,
  startMockHub,
} from "./mock_hub.ts";

/** A fault that the hub has: what must come of it is either an error or the complete model. */
interface Case {
  name: string;
  repo?: MockRepo;
  fault?: (repo: MockRepo, hub: MockHub) => Intercept;
  /** An interrupted download of the weights that lies in the cache before. */
  left?: (bytes: Uint8Array) => Uint8Array;
  /** The error and a part of its text; none: the model must come complete. */
  error?: [type: new (message: string) => TensaurError, text: string];
  /** Requests for the weights' bytes. */
  requests?: number;
  /** The hub stops to answer; the others do answer, however late. */
  isSilent?: boolean;
}

/** The fault in every answer that carries the weights' bytes, or those of the config. */
function bytesOf(file: string, answer: (bytes: Uint8Array, range: string | null, nth: number) => Response | undefined) {
  return (repo: MockRepo): Intercept => ({ kind, file: asked, range, nth }) => {
    const wanted = file === asked && kind === (repo.lfs?.includes(file) ? "cdn" : "resolve");
    return wanted ? answer(repo.files[file]!, range, nth) : undefined;
  };
}

/** A status in every answer of one kind, or the first `times` of them. */
function status(code: number, kind: string, times = Infinity, headers: HeadersInit = {}) {
  return (): Intercept => (r) =>
    r.kind === kind && r.nth < times ? new Response("no", { status: code, headers }) : undefined;
}

/** The honest answer with one header changed. */
function header(name: string, value: string, kind = "resolve") {
  return (): Intercept => (request) => {
    if (request.kind !== kind) return undefined;
    const { body, status, headers } = request.honest();
    const changed = new Headers(headers);
    changed.set(name, value);
    return new Response(body, { status, headers: changed });
  };
}

/** Every redirect to the weights leads to `location`. */
function redirect(location: (hub: MockHub) => string | undefined) {
  return (_: MockRepo, hub: MockHub): Intercept => ({ kind, file }) => {
    const to = location(hub);
    if (kind !== "resolve" || file !== WEIGHTS) return undefined;
    return new Response(null, { status: 302, headers: to === undefined ? {} : { location: to } });
  };
}

/** A port of this machine that nobody listens on. */
function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** A repository with one more file, of a name that may not be used. */
function named(name: string): MockRepo {
  const repo = tinyRepo();
  return { ...repo, files: { ...repo.files, [name]: someBytes(10) } };
}

/** The listing with `change` made to the weights' entry. */
function listed(change: Record<string, unknown>) {
  return (): Intercept => async (request) => {
    if (request.kind !== "tree") return undefined;
    const entries = await request.honest().json() as { path: string }[];
    return Response.json(entries.map((entry) => entry.path === WEIGHTS ? { ...entry, ...change } : entry));
  };
}

const SHORT = 25_000;

const wrongBytes: Case[] = [
  ...[0, 31_000, 59_999].map((at): Case => ({
    name: `byte ${at} of a large file flipped`,
    fault: bytesOf(WEIGHTS, (bytes, range) => ranged(flipped(bytes, at), range)),
    error: [IntegrityError, "SHA-256"],
  })),
  {
    name: "a byte of a small file flipped",
    fault: bytesOf("config.json", (bytes, range) => ranged(flipped(bytes, 100), range)),
    error: [IntegrityError, "Git SHA-1"],
  },
  {
    name: "another file of the same size",
    fault: bytesOf(WEIGHTS, (bytes, range) => ranged(someBytes(bytes.length, 99), range)),
    error: [IntegrityError, "SHA-256"],
  },
  {
    name: "truncated, with the length to match",
    fault: bytesOf(WEIGHTS, (bytes, range) => ranged(bytes.slice(0, SHORT), range)),
    error: [IntegrityError, `size must be 60000 bytes: current size is ${SHORT}`],
  },
  {
    name: "truncated, without a length",
    fault: bytesOf(WEIGHTS, (bytes) => chunked(bytes.slice(0, SHORT))),
    error: [IntegrityError, `size must be 60000 bytes: current size is ${SHORT}`],
    requests: 4,
  },
  {
    name: "extra bytes, with the length to match",
    fault: bytesOf(WEIGHTS, (bytes, range) => ranged(new Uint8Array([...bytes, 1, 2, 3]), range)),
    error: [IntegrityError, "current size is 60003"],
  },
  {
    name: "extra bytes, without a length",
    fault: bytesOf(WEIGHTS, (bytes) => chunked(new Uint8Array([...bytes, 1]))),
    error: [IntegrityError, "current size is larger"],
  },
  {
    name: "an empty answer",
    fault: bytesOf("config.json", () => new Response(null)),
    error: [IntegrityError, "current size is 0"],
  },
  {
    name: "wrong X-Linked-Etag",
    fault: header("x-linked-etag", `"${"a".repeat(64)}"`),
    error: [IntegrityError, "etag"],
  },
  { name: "wrong X-Linked-Size", fault: header("x-linked-size", "59999"), error: [IntegrityError, "x-linked-size"] },
  { name: "wrong X-Repo-Commit", fault: header("x-repo-commit", "f".repeat(40)), error: [IntegrityError, "commit"] },
  { name: "wrong ETag of a proxy on right bytes", fault: header("etag", `"${"b".repeat(40)}"`) },
  {
    name: "weak and quoted X-Linked-Etag",
    fault: (repo) => header("x-linked-etag", `W/"${publishedName(repo, WEIGHTS)}"`)(),
    repo: tinyRepo({ files: { [WEIGHTS]: someBytes(60_000, 5) } }),
    error: undefined,
  },
];

const refusals: Case[] = [
  { name: "401", fault: status(401, "info"), error: [DownloadError, "current answer is 401"] },
  { name: "403 for a file", fault: status(403, "resolve"), error: [DownloadError, "current answer is 403"] },
  { name: "404 for the repository", fault: status(404, "info"), error: [DownloadError, `${REPO} (revision "main")`] },
  { name: "404 for a file", fault: status(404, "cdn"), error: [DownloadError, WEIGHTS], requests: 1 },
  { name: "400", fault: status(400, "cdn"), error: [DownloadError, "current answer is 400"], requests: 1 },
  { name: "416 always", fault: status(416, "cdn"), error: [DownloadError, "range"], requests: 4 },
  { name: "416 once", fault: status(416, "cdn", 1), left: (bytes) => bytes.slice(0, 10), requests: 2 },
  { name: "429 always", fault: status(429, "cdn"), error: [DownloadError, "answer is 429"], requests: 4 },
  { name: "429 three times", fault: status(429, "cdn", 3, { "retry-after": "0" }), requests: 4 },
  { name: "500 always", fault: status(500, "cdn"), error: [DownloadError, "answer is 500"], requests: 4 },
  { name: "500 twice", fault: status(500, "cdn", 2), requests: 3 },
  { name: "503 in the listing, twice", fault: status(503, "tree", 2) },
  { name: "503 in the listing, always", fault: status(503, "tree"), error: [DownloadError, "answer is 503"] },
  {
    name: "a listing that is no JSON",
    fault: () => (r) => r.kind === "info" ? new Response("<html>") : undefined,
    error: [DownloadError, "as the Hugging Face hub does"],
  },
  {
    name: "a commit that is no hash",
    repo: tinyRepo({ revisions: { main: "../../../etc" } }),
    error: [DownloadError, "40 hex digits"],
  },
  {
    name: "a hash that is a path",
    fault: listed({ lfs: { oid: "../../../x", size: 60_000 } }),
    error: [IntegrityError, "40 or 64 hex digits"],
  },
  {
    name: "a hash in capitals",
    fault: listed({ lfs: { oid: "A".repeat(64), size: 60_000 } }),
    error: [IntegrityError, "40 or 64 hex digits"],
  },
  {
    name: "a negative size",
    fault: listed({ lfs: { oid: "a".repeat(64), size: -1 } }),
    error: [DownloadError, "size"],
  },
  {
    name: "nothing but pickles",
    repo: { files: { "pytorch_model.bin": someBytes(9), "x.pt": someBytes(9) } },
    error: [NotSupportedError, "must hold a configuration"],
  },
  ...["..\\evil.safetensors", "C:evil.safetensors", "a\0b.safetensors", `${"n".repeat(300)}.safetensors`].map(
    (name): Case => ({
      name: `a file named ${JSON.stringify(name.slice(0, 20))}`,
      repo: named(name),
      error: [ModelPathError, "must stay inside"],
    }),
  ),
];

const connections: Case[] = [
  ...Array.from({ length: 20 }, (_, i) => i < 3 ? i : i > 16 ? 60_000 - (20 - i) : Math.floor((i * 60_000) / 20)).map(
    (k): Case => ({
      name: `hang-up at byte ${k}, once`,
      fault: () => async (r) => r.kind === "cdn" && r.nth === 0 ? await hangUp(r.honest(), k) : undefined,
      requests: 2,
    }),
  ),
  {
    name: "hang-up at byte 30000 of every answer",
    fault: () => async (r) => r.kind === "cdn" ? await hangUp(r.honest(), r.range ? 0 : 30_000) : undefined,
    error: [DownloadError, "connection"],
    requests: 4,
  },
  {
    name: "hang-up in the listing, once",
    fault: () => async (r) => r.kind === "tree" && r.nth === 0 ? await hangUp(r.honest(), 10) : undefined,
  },
  {
    name: "hang-up, then a server that knows no ranges",
    fault: () => async (r) =>
      r.kind !== "cdn" ? undefined : r.nth === 0 ? await hangUp(r.honest(), SHORT) : new Response(
        await new Response(ranged(tinyRepo().files[WEIGHTS]!, null).body).arrayBuffer(),
      ),
    requests: 2,
  },
  {
    name: "a range that starts elsewhere, once",
    left: (bytes) => bytes.slice(0, 500),
    fault: bytesOf(WEIGHTS, (bytes, range, nth) => {
      const answer = { status: 206, headers: { "content-range": `bytes 0-59999/60000` } };
      return nth === 0 && range ? new Response(bytes as Uint8Array<ArrayBuffer>, answer) : undefined;
    }),
    requests: 2,
  },
  {
    name: "a silent server, once",
    fault: () => (r) => r.kind === "cdn" && r.nth === 0 ? new Response(new ReadableStream({})) : undefined,
    isSilent: true,
    requests: 2,
  },
  { name: "a resumable beginning", left: (bytes) => bytes.slice(0, SHORT), requests: 1 },
  { name: "all bytes there, not yet renamed", left: (bytes) => bytes, requests: 0 },
  { name: "a damaged beginning", left: (bytes) => flipped(bytes, 3).slice(0, SHORT), requests: 2 },
  { name: "a beginning that is too long", left: (bytes) => new Uint8Array([...bytes, 0]), requests: 1 },
  { name: "a whole of zeros", left: (bytes) => new Uint8Array(bytes.length), requests: 1 },
  {
    name: "redirects in a circle",
    fault: redirect((hub) => `${hub.endpoint}/${REPO}/resolve/${COMMIT}/${WEIGHTS}`),
    error: [DownloadError, "redirects"],
  },
  { name: "a redirect to a file", fault: redirect(() => "file:///etc/passwd"), error: [DownloadError, "redirect"] },
  { name: "a redirect to nowhere", fault: redirect(() => undefined), error: [DownloadError, "nowhere"] },
  {
    name: "a redirect to a port where nobody listens",
    fault: redirect(() => `http://127.0.0.1:${freePort()}/x?X-Amz-Signature=signed-secret`),
    error: [DownloadError, "connection to 127.0.0.1:"],
  },
  {
    name: "a redirect with a user name",
    fault: redirect(() => "http://a:b@127.0.0.1/"),
    error: [DownloadError, "redirect"],
  },
];

const cases = [...wrongBytes, ...refusals, ...connections];
for (const { name, repo = tinyRepo(), fault, left, error, requests, isSilent } of cases) {
  Deno.test(`resolveModel() ${error ? `gives ${error[0].name}` : "completes"}: ${name}`, async () => {
    using cache = new TestCache();
    await using hub = startMockHub(repo);
    if (fault) hub.intercept = fault(repo, hub);
    if (left) await cache.leaveIncomplete(repo, WEIGHTS, left(repo.files[WEIGHTS]!));
    const resolved = cache.resolve(hub, {}, { stallMs: isSilent ? 300 : 30_000 }); // a busy machine is slow, not silent
    if (error) {
      const thrown = await assertRejects(() => resolved, error[0], error[1]);
      assert(!everythingSaid(thrown).includes(TOKEN), "the token is in the error");
      assert(!everythingSaid(thrown).includes("signed-secret"), "a signed address is in the error");
      assert(!("main" in readRefs(cache)), "the branch is noted though its files are not there");
    } else {
      const { commit, dir } = await resolved;
      assertEquals([commit, dir], [COMMIT, cache.path("snapshots", COMMIT)]);
      assert(cache.files("snapshots").some((path) => path.endsWith(WEIGHTS)), "the weights are there");
    }
    cache.assertNothingBad(repo);
    if (requests !== undefined) assertEquals(hub.fetched(WEIGHTS).length, requests, "requests for the weights");
  });
}

function readRefs(cache: TestCache): Record<string, true> {
  return Object.fromEntries(cache.files("refs").map((path) => [path.slice("refs/".length), true]));
}
