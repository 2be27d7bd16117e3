import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl } from "@std/path";
import type { ResolvedModel } from "../../src/weights/hub.ts";
import { TestCache, tinyRepo, WEIGHTS } from "./hub_fixture.ts";
import { COMMIT, type MockHub, pause, publishedName, REPO, startMockHub } from "./mock_hub.ts";

const CHILD = fromFileUrl(new URL("hub_child.ts", import.meta.url));
const SHORT = 25_000;

interface Failure {
  error: string;
  ours: boolean;
  message: string;
  hint?: string;
}

function start(cache: TestCache, hub: { endpoint: string }, flags: string[] = ["-A"], name = REPO): Deno.ChildProcess {
  const args = ["run", "--no-prompt", "--quiet", ...flags, CHILD, name, cache.dir, hub.endpoint];
  const env = { HF_HUB_OFFLINE: "", HF_TOKEN: "", NO_COLOR: "1" };
  return new Deno.Command(Deno.execPath(), { args, env, stdout: "piped", stderr: "inherit" }).spawn();
}

async function result(child: Deno.ChildProcess): Promise<ResolvedModel & Failure> {
  return JSON.parse(new TextDecoder().decode((await child.output()).stdout));
}

/** The weights' bytes in pieces with a pause after each, so that something else can happen in between. */
function slowly(hub: MockHub, ms: number): void {
  hub.intercept = async (request) => {
    if (request.kind !== "cdn") return undefined;
    const { status, headers, body } = request.honest();
    const bytes = new Uint8Array(await new Response(body).arrayBuffer());
    let at = 0;
    const slow = new ReadableStream<Uint8Array>({
      async pull(controller) {
        if (at >= bytes.length) return controller.close();
        controller.enqueue(bytes.slice(at, at += 5000));
        await pause(ms);
      },
    }, { highWaterMark: 0 });
    return new Response(slow, { status, headers });
  };
}

Deno.test("resolveModel() in two processes at once downloads once", async () => {
  const repo = tinyRepo();
  using cache = new TestCache();
  await using hub = startMockHub(repo);
  slowly(hub, 100);
  const both = await Promise.all([result(start(cache, hub)), result(start(cache, hub))]);
  assertEquals(both[0], both[1]);
  cache.assertComplete(repo, both[0]!);
  assertEquals(hub.fetched(WEIGHTS).length, 1);
});

Deno.test("resolveModel() goes on where a killed process stopped", async () => {
  const repo = tinyRepo();
  using cache = new TestCache();
  await using hub = startMockHub(repo);
  slowly(hub, 100);
  const child = start(cache, hub);
  const incomplete = `${cache.blob(repo, WEIGHTS)}.incomplete`;
  const size = () => Deno.stat(incomplete).then((info) => info.size, () => 0);
  while (await size() < SHORT) await new Promise((resolve) => setTimeout(resolve, 10));
  child.kill("SIGKILL");
  await child.output();
  const left = await size();
  assert(left >= SHORT && left < repo.files[WEIGHTS]!.length, `${left} bytes are left`);
  cache.assertNothingBad(repo);
  assertEquals(cache.files("refs"), []);
  hub.intercept = () => undefined;
  cache.assertComplete(repo, await cache.resolve(hub));
  assertEquals(hub.fetched(WEIGHTS).map(({ range }) => range), [null, `bytes=${left}-`]);
});

Deno.test("resolveModel() works with least privilege, and links where no symbolic link may be made", async () => {
  const repo = tinyRepo();
  using cache = new TestCache();
  await using hub = startMockHub(repo);
  const { port } = new URL(hub.endpoint), cdn = new URL(hub.cdn).port;
  const flags = [`--allow-read=${cache.dir}`, `--allow-write=${cache.dir}`];
  const net = `--allow-net=127.0.0.1:${port},127.0.0.1:${cdn}`;
  cache.assertComplete(repo, await result(start(cache, hub, [...flags, net])));
  const placed = await Deno.lstat(cache.path("snapshots", COMMIT, WEIGHTS));
  assert(placed.isFile && !placed.isSymlink);
  if (Deno.build.os !== "windows") assertEquals(placed.nlink, 2, "no second copy on the disk");

  await Deno.remove(cache.path("refs"), { recursive: true });
  const readOnly = await result(start(cache, hub, [`--allow-read=${cache.dir}`, net]));
  assertEquals(readOnly.dir, cache.path("snapshots", COMMIT), "a complete cache may be read-only");
});

Deno.test("resolveModel() names the flag that is missing", async () => {
  using cache = new TestCache();
  await using hub = startMockHub(tinyRepo());
  const files = [`--allow-read=${cache.dir}`, `--allow-write=${cache.dir}`];
  const cases = [
    [files, REPO, "--allow-net=127.0.0.1"],
    [["--allow-net"], REPO, `--allow-read=${cache.dir} --allow-write=${cache.dir}`],
    [[`--allow-read=${cache.dir}`, "--allow-net"], REPO, `--allow-write=${cache.dir}`],
    [["--allow-net"], "./models/x", "--allow-read=./models/x"],
  ] as const;
  for (const [flags, name, hint] of cases) {
    const failure = await result(start(cache, hub, [...flags], name));
    assert(failure.ours, failure.message);
    assertStringIncludes(failure.hint ?? "", hint);
  }
});

Deno.test("resolveModel() of a local folder never loads @huggingface/hub", async () => {
  using cache = new TestCache();
  const run = (name: string) => result(start(cache, { endpoint: "http://127.0.0.1:1" }, ["-A", "--no-npm"], name));
  assertEquals(await run(cache.dir) as ResolvedModel, { dir: cache.dir, fromHub: false });
  assertStringIncludes((await run(REPO)).message, "the package @huggingface/hub must load");
});

const PYTHON = `
import sys
from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache, scan_cache_dir
repo, cache, weights = sys.argv[1:]
dir = snapshot_download(repo, cache_dir=cache, local_files_only=True, allow_patterns=["*config.json", "*.safetensors"])
path = hf_hub_download(repo, weights, cache_dir=cache, local_files_only=True)
assert try_to_load_from_cache(repo, weights, cache_dir=cache) == path
found = scan_cache_dir(cache)
assert len(found.repos) == 1 and not found.warnings, found.warnings
import hashlib
print(dir, hashlib.sha256(open(path, "rb").read()).hexdigest(), sep="\\n")
`;

/** Runs Python's huggingface_hub; undefined where there is none. */
async function python(...args: string[]): Promise<string[] | undefined> {
  const env = { HF_HUB_OFFLINE: "1" };
  try {
    const command = new Deno.Command("python3", { args: ["-c", PYTHON, ...args], env, cwd: "/", stderr: "piped" });
    const { success, stdout, stderr } = await command.output();
    const error = new TextDecoder().decode(stderr);
    if (/No module named 'huggingface_hub'/.test(error)) return undefined;
    assert(success, error);
    return new TextDecoder().decode(stdout).trim().split("\n");
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

Deno.test("resolveModel() fills a cache that Python's huggingface_hub reads offline", async () => {
  const repo = tinyRepo();
  using cache = new TestCache();
  await using hub = startMockHub(repo);
  const { dir } = await cache.resolve(hub);
  const seen = await python(REPO, cache.dir, WEIGHTS);
  if (seen === undefined) return console.warn("skipped: python3 with huggingface_hub is not installed");
  assertEquals(seen, [await Deno.realPath(dir), publishedName(repo, WEIGHTS)]);
});
