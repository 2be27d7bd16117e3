import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import {
  AbortError,
  DownloadError,
  IntegrityError,
  ModelPathError,
  TensaurError,
  ValueError,
} from "../../src/errors.ts";
import type { Progress } from "../../src/progress.ts";
import { isModelFile, verifyModel } from "../../src/weights/hub.ts";
import { verifySnapshot } from "../../src/weights/hub_snapshot.ts";
import { FETCHED, TestCache, tinyRepo, TOKEN, WEIGHTS } from "./hub_fixture.ts";
import { COMMIT, flipped, gitId, hangUp, publishedName, ranged, REPO, someBytes, startMockHub } from "./mock_hub.ts";

const OTHER = "f".repeat(40);
const SHORT = 25_000;

Deno.test("resolveModel() lays the cache out as Python does", async () => {
  const repo = tinyRepo();
  using cache = new TestCache();
  await using hub = startMockHub(repo);
  const resolved = await cache.resolve(hub);
  assertEquals(resolved, { dir: cache.path("snapshots", COMMIT), commit: COMMIT, fromHub: true });
  cache.assertComplete(repo, resolved);
  assertEquals(await Deno.readTextFile(cache.path("refs", "main")), COMMIT);
  for (const file of FETCHED) {
    const link = await Deno.readLink(cache.path("snapshots", COMMIT, file));
    assertEquals(link, `${"../".repeat(file.split("/").length + 1)}blobs/${publishedName(repo, file)}`);
  }
  const tree = JSON.parse(await Deno.readTextFile(cache.path("trees", `${COMMIT}.json`)));
  assertEquals(Object.keys(tree.files), Object.keys(repo.files).sort());
  assertEquals(tree.files[WEIGHTS].lfs_sha256, publishedName(repo, WEIGHTS));
  assertEquals(tree.files["config.json"], { size: 700, blob_id: gitId(repo.files["config.json"]!) });
});

Deno.test("resolveModel() asks for no more than it lacks", async () => {
  const repo = tinyRepo();
  using cache = new TestCache();
  await using hub = startMockHub(repo);
  const requests = async (work: () => Promise<unknown>) => {
    const before = hub.requests.length;
    await work();
    return hub.requests.slice(before).map(({ kind, file }) => `${kind} ${file}`);
  };
  await cache.resolve(hub);
  assertEquals(await requests(() => cache.resolve(hub)), ["info main"], "a branch may have moved");
  assertEquals(await requests(() => cache.resolve(hub, { revision: COMMIT })), [], "a commit cannot move");
  await Deno.remove(cache.path("snapshots", COMMIT, "config.json"));
  assertEquals(await requests(() => cache.resolve(hub)), ["info main"], "the blob is still there");
  await Deno.truncate(cache.blob(repo, "config.json"), 5);
  assertEquals(await requests(() => cache.resolve(hub)), ["info main", "resolve config.json"]);
  cache.assertNothingBad(repo);
});

for (const revision of ["v1.0", "refs/pr/1", COMMIT.slice(0, 7), OTHER]) {
  Deno.test(`resolveModel() takes revision ${revision}`, async () => {
    const repo = tinyRepo({ revisions: { [revision]: COMMIT } });
    using cache = new TestCache();
    await using hub = startMockHub(repo);
    hub.intercept = ({ kind, file }) =>
      kind === "info" && file !== revision ? new Response("", { status: 404 }) : undefined;
    // The mock serves every commit with the same files; OTHER is refused as the answer names another commit.
    if (revision === OTHER) {
      await assertRejects(() => cache.resolve(hub, { revision }), IntegrityError, "x-repo-commit");
      return;
    }
    cache.assertComplete(repo, await cache.resolve(hub, { revision }));
    assertEquals(await Deno.readTextFile(cache.path("refs", ...revision.split("/"))), COMMIT);
  });
}

for (const revision of ["../main", "/main", "a\\b", "a\0b", "", "a//b"]) {
  Deno.test(`resolveModel() refuses revision ${JSON.stringify(revision)}`, async () => {
    using cache = new TestCache();
    await using hub = startMockHub(tinyRepo());
    await assertRejects(() => cache.resolve(hub, { revision }), ModelPathError, "the revision");
    assertEquals(hub.requests.length, 0);
  });
}

Deno.test("resolveModel() reads a listing of many pages", async () => {
  const repo = tinyRepo({ page: 2 });
  using cache = new TestCache();
  await using hub = startMockHub(repo);
  cache.assertComplete(repo, await cache.resolve(hub));
  assertEquals(hub.requests.filter(({ kind }) => kind === "tree").length, 4);
});

Deno.test("resolveModel() follows a redirect inside the hub with its token", async () => {
  const repo = tinyRepo({ token: TOKEN });
  using cache = new TestCache();
  await using hub = startMockHub(repo);
  hub.intercept = ({ kind, url }) => {
    if ((kind !== "info" && kind !== "resolve") || url.searchParams.has("moved")) return undefined;
    return new Response(null, { status: 307, headers: { location: `${url.pathname}?moved=1` } });
  };
  cache.assertComplete(repo, await cache.resolve(hub));
});

Deno.test("resolveModel() fetches what `allow` names, and never a pickle", async () => {
  const repo = tinyRepo();
  using cache = new TestCache();
  await using hub = startMockHub(repo);
  await cache.resolve(hub, { allow: (file) => !file.endsWith(".md") });
  const under = `snapshots/${COMMIT}/`;
  assertEquals(
    cache.files("snapshots").map((path) => path.slice(under.length)),
    [...FETCHED, "onnx/model.onnx"].sort(),
  );
  for (const name of ["../up.json", "/etc/x.json", "a/../../x.json", "a//b.json", "./x.json", "C:/x.json"]) {
    await using bad = startMockHub(tinyRepo({ files: { ...repo.files, [name]: someBytes(9) } }));
    using fresh = new TestCache();
    await assertRejects(() => fresh.resolve(bad, { allow: () => true }), ModelPathError, "must stay inside");
    assertEquals(fresh.files(), []);
  }
});

Deno.test("isModelFile() takes what models are loaded from", () => {
  const yes = "config.json tokenizer.json tokenizer_config.json model-00001-of-00002.safetensors chat_template.jinja " +
    "model.safetensors.index.json 1_Pooling/config.json 2_Dense/model.safetensors modules.json generation_config.json";
  const no = "pytorch_model.bin model.onnx README.md onnx/config.json original/model.safetensors ../config.json " +
    "/config.json training_args.bin flax_model.msgpack .gitattributes tokenizer.model.py";
  for (const file of yes.split(" ")) assert(isModelFile(file), file);
  for (const file of no.split(" ")) assert(!isModelFile(file), file);
});

Deno.test("resolveModel() leaves out second copies of the weights", async () => {
  const files = { "config.json": someBytes(9), [WEIGHTS]: someBytes(10), "consolidated.safetensors": someBytes(11) };
  using cache = new TestCache();
  await using hub = startMockHub({ files: { ...files, "model.fp16.safetensors": someBytes(12) } });
  const { dir } = await cache.resolve(hub);
  assertEquals([...Deno.readDirSync(dir)].map(({ name }) => name).sort(), ["config.json", WEIGHTS]);
});

Deno.test("resolveModel() reports every file and their sum", async () => {
  const repo = tinyRepo();
  using cache = new TestCache();
  await using hub = startMockHub(repo);
  await cache.leaveIncomplete(repo, WEIGHTS, repo.files[WEIGHTS]!.slice(0, SHORT));
  const seen = new Map<string, Progress[]>();
  await cache.resolve(hub, { onProgress: (p) => seen.set(p.label, [...seen.get(p.label) ?? [], p]) });
  assertEquals([...seen.keys()].sort(), [...FETCHED, REPO].sort());
  for (const [label, reports] of seen) {
    const total = label === REPO
      ? FETCHED.reduce((sum, file) => sum + repo.files[file]!.length, 0)
      : repo.files[label]!.length;
    assert(reports.every((p, i) => p.loaded >= (reports[i - 1]?.loaded ?? 0) && p.total === total), label);
    assertEquals(reports.at(-1), { phase: "download", label, loaded: total, total });
  }
  assert(seen.get(WEIGHTS)![0]!.loaded > SHORT, "the bytes that were there count");
});

Deno.test("resolveModel() called twice at once downloads once", async () => {
  const repo = tinyRepo();
  using cache = new TestCache();
  await using hub = startMockHub(repo);
  const both = await Promise.all([cache.resolve(hub), cache.resolve(hub)]);
  assertEquals(both[0], both[1]);
  cache.assertComplete(repo, both[0]);
  for (const file of FETCHED) assertEquals(hub.fetched(file).length, 1, file);
});

Deno.test("resolveModel() places an empty file, and two of the same bytes", async () => {
  const files = { "config.json": new Uint8Array(), "modules.json": someBytes(50), "tokenizer.json": someBytes(50) };
  using cache = new TestCache();
  await using hub = startMockHub({ files });
  await cache.resolve(hub);
  cache.assertNothingBad({ files });
  assertEquals(cache.files("snapshots").length, 3);
  assertEquals(hub.fetched("config.json").length, 0, "nothing to ask for");
});

Deno.test("resolveModel() notes a branch only when its files are there", async () => {
  const repo = tinyRepo();
  using cache = new TestCache();
  await using hub = startMockHub(repo);
  await cache.resolve(hub);
  hub.intercept = ({ kind }) => {
    if (kind === "info") return Response.json({ _id: "1", id: REPO, sha: OTHER, lastModified: "2026-01-01" });
    if (kind === "tree") return Response.json([{ type: "file", path: "config.json", size: 5, oid: "a".repeat(40) }]);
    return kind === "resolve" ? new Response("", { status: 403 }) : undefined;
  };
  await assertRejects(() => cache.resolve(hub), DownloadError, "403");
  assertEquals((await cache.resolve(hub, {}, { offline: true })).commit, COMMIT);
});

Deno.test("verifyModel() finds one flipped bit, a short file and a lost one", async () => {
  const repo = tinyRepo();
  using cache = new TestCache();
  await using hub = startMockHub(repo);
  const verify = () => verifySnapshot(REPO, {}, cache.settings(hub));
  await assertRejects(verify, DownloadError, "must be in the cache");
  await cache.resolve(hub);
  const before = hub.requests.length;
  const bytes = FETCHED.reduce((sum, file) => sum + repo.files[file]!.length, 0);
  const right = { commit: COMMIT, files: FETCHED, bytes };
  const found = await verify();
  assertEquals({ ...found, files: found.files.sort() }, right);
  assertEquals((await verifyModel(REPO, { cacheDir: cache.dir })).bytes, bytes);
  for (const file of FETCHED) {
    const original = repo.files[file]!;
    await Deno.writeFile(cache.blob(repo, file), flipped(original, original.length - 1));
    await assertRejects(verify, IntegrityError, JSON.stringify(file));
    await Deno.writeFile(cache.blob(repo, file), original.slice(1));
    await assertRejects(verify, DownloadError, `lacks ${file}`);
    await Deno.remove(cache.blob(repo, file));
    await assertRejects(verify, DownloadError, `lacks ${file}`);
    await Deno.writeFile(cache.blob(repo, file), original);
  }
  await assertRejects(() => verifyModel("./models", { cacheDir: cache.dir }), ValueError);
  assertEquals(hub.requests.length, before, "no network");
});
Deno.test("resolveModel() keeps what came before a fault, and deletes what is wrong", async () => {
  const repo = tinyRepo();
  for (const [wrong, kept] of [[false, 30_000], [true, undefined]] as const) {
    using cache = new TestCache();
    await using hub = startMockHub(repo);
    hub.intercept = async (r) => {
      if (r.kind !== "cdn") return undefined;
      return wrong ? ranged(flipped(repo.files[WEIGHTS]!, 9), r.range) : await hangUp(r.honest(), r.range ? 0 : 30_000);
    };
    await assertRejects(() => cache.resolve(hub), TensaurError);
    const incomplete = await Deno.stat(`${cache.blob(repo, WEIGHTS)}.incomplete`).then((i) => i.size, () => undefined);
    assertEquals(incomplete, kept);
  }
});

Deno.test("resolveModel() names HF_TOKEN at 401 and 403, and the place to look at 404", async () => {
  for (const [code, text] of [[401, "HF_TOKEN"], [403, "HF_TOKEN"], [404, REPO]] as const) {
    using cache = new TestCache();
    await using hub = startMockHub(tinyRepo());
    hub.intercept = ({ kind }) => kind === "info" ? new Response("no", { status: code }) : undefined;
    const error = await assertRejects(() => cache.resolve(hub), DownloadError);
    assertStringIncludes(error.hint ?? "", text);
  }
});

Deno.test("resolveModel() sends the token to the hub and to no other host", async () => {
  using cache = new TestCache();
  await using hub = startMockHub(tinyRepo({ token: TOKEN }));
  await cache.resolve(hub);
  for (const { kind, authorization } of hub.requests) {
    assertEquals(authorization, kind === "cdn" ? null : `Bearer ${TOKEN}`, kind);
  }
  assertEquals(hub.fetched(WEIGHTS).length, 1);
});

Deno.test("resolveModel() gives DownloadError when the disk is full, and goes on when it is not", {
  ignore: Deno.build.os !== "linux",
}, async () => {
  const repo = tinyRepo();
  using cache = new TestCache();
  await using hub = startMockHub(repo);
  const incomplete = `${cache.blob(repo, WEIGHTS)}.incomplete`;
  await Deno.mkdir(cache.path("blobs"), { recursive: true });
  await Deno.symlink("/dev/full", incomplete); // every write to it fails with ENOSPC
  const error = await assertRejects(() => cache.resolve(hub), DownloadError, "must take its bytes");
  assertStringIncludes(error.message, "space");
  cache.assertNothingBad(repo);
  await Deno.remove(incomplete);
  cache.assertComplete(repo, await cache.resolve(hub));
});

Deno.test("resolveModel() leaves only .incomplete when its signal fires, then goes on from there", async () => {
  const repo = tinyRepo();
  using cache = new TestCache();
  await using hub = startMockHub(repo);
  const stop = new AbortController();
  const bytes = repo.files[WEIGHTS]!;
  hub.intercept = ({ kind, nth }) => {
    if (kind !== "cdn" || nth > 0) return undefined;
    return new Response(new ReadableStream({ start: (c) => c.enqueue(bytes.slice(0, SHORT)) })); // then silence
  };
  const onProgress = ({ label, loaded }: { label: string; loaded: number }) => {
    if (label === WEIGHTS && loaded === SHORT) stop.abort(new Error("enough"));
  };
  await assertRejects(() => cache.resolve(hub, { signal: stop.signal, onProgress }), AbortError);
  assertEquals((await Deno.stat(`${cache.blob(repo, WEIGHTS)}.incomplete`)).size, SHORT);
  cache.assertNothingBad(repo);
  assert(!cache.files("snapshots").some((path) => path.endsWith(WEIGHTS)));
  cache.assertComplete(repo, await cache.resolve(hub));
  assertEquals(hub.fetched(WEIGHTS).map(({ range }) => range), [null, `bytes=${SHORT}-`]);
});

Deno.test("resolveModel() does not start when its signal has fired", async () => {
  using cache = new TestCache();
  await using hub = startMockHub(tinyRepo());
  await assertRejects(() => cache.resolve(hub, { signal: AbortSignal.abort() }), AbortError);
  assertEquals(cache.files(), []);
});

Deno.test("blob names are Git's and SHA-256's own", () => {
  // `printf hello | git hash-object --stdin`
  assertEquals(gitId(new TextEncoder().encode("hello")), "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0");
});
