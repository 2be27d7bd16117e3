import { join } from "node:path";
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { DownloadError, ModelPathError, type TensaurError, ValueError } from "../../src/errors.ts";
import { resolveModel } from "../../src/weights/hub.ts";
import { type HubOverrides, hubSettings, readEnv } from "../../src/weights/hub_settings.ts";
import { everythingSaid, TestCache, tinyRepo, WEIGHTS } from "./hub_fixture.ts";
import { COMMIT, REPO, startMockHub } from "./mock_hub.ts";

const VARIABLES = [
  "HF_HUB_CACHE",
  "HUGGINGFACE_HUB_CACHE",
  "HF_HOME",
  "XDG_CACHE_HOME",
  "HOME",
  "USERPROFILE",
  "HF_TOKEN",
]
  .concat("HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
  .concat("HF_HUB_DISABLE_IMPLICIT_TOKEN");

/** Runs `body` with exactly these of the variables that are read. */
async function withEnv(env: Record<string, string>, body: () => unknown): Promise<void> {
  const before = VARIABLES.map((name) => [name, Deno.env.get(name)] as const);
  try {
    for (const name of VARIABLES) Deno.env.delete(name);
    for (const [name, value] of Object.entries(env)) Deno.env.set(name, value);
    await body();
  } finally {
    for (const [name, value] of before) value === undefined ? Deno.env.delete(name) : Deno.env.set(name, value);
  }
}

Deno.test("resolveModel() returns a local folder as it is, without the network", async () => {
  const dir = await Deno.makeTempDir();
  for (const name of [dir, `${dir}/`, "./src", "src", "src/weights", "."]) {
    assertEquals(await resolveModel(name, { endpoint: "http://127.0.0.1:1" }), { dir: name, fromHub: false });
  }
  await withEnv({ HOME: dir }, async () => {
    await Deno.mkdir(join(dir, "m"));
    assertEquals(await resolveModel("~/m"), { dir: join(dir, "m"), fromHub: false });
  });
  await Deno.remove(dir, { recursive: true });
});

const notModels: [name: string, type: new (message: string) => TensaurError, text: string][] = [
  ["./no-such-folder", ModelPathError, "leads nowhere"],
  ["/no/such/folder", ModelPathError, "leads nowhere"],
  ["~/no-such-folder-at-home", ModelPathError, "leads nowhere"],
  ["C:\\models\\x", ModelPathError, "leads nowhere"],
  ["models\\x", ModelPathError, "leads nowhere"],
  ["a/b/c", ModelPathError, "leads nowhere"],
  ["no-such-folder/", ModelPathError, "leads nowhere"],
  ["../no-such-folder", ModelPathError, "leads nowhere"],
  ["deno.json", ModelPathError, "must be a folder"],
  ["", ValueError, "current value is neither"],
  ["owner/na me", ValueError, "current value is neither"],
  ["owner/..", ValueError, "current value is neither"],
  ["owner/a--b", ValueError, "current value is neither"],
  ["-owner/name", ValueError, "current value is neither"],
  ["owner/name.git", ValueError, "current value is neither"],
  [`owner/${"n".repeat(200)}`, ValueError, "current value is neither"],
  ["owner/n\0", ModelPathError, "must be readable"],
];

for (const [name, type, text] of notModels) {
  Deno.test(`resolveModel() gives ${type.name}: ${JSON.stringify(name.slice(0, 30))}`, async () => {
    const options = { endpoint: "http://127.0.0.1:1", cacheDir: "/no/such/cache" };
    await assertRejects(() => resolveModel(name, options), type, text);
  });
}

Deno.test("resolveModel() is offline by HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE and `offline`", async () => {
  using cache = new TestCache();
  await using hub = startMockHub(tinyRepo());
  const { dir } = await cache.resolve(hub);
  const before = hub.requests.length;
  const options = { cacheDir: cache.dir, endpoint: hub.endpoint };
  const cases: [Record<string, string>, HubOverrides][] = [
    [{ HF_HUB_OFFLINE: "1" }, {}],
    [{ HF_HUB_OFFLINE: "yes" }, {}],
    [{ TRANSFORMERS_OFFLINE: "TRUE" }, {}],
    [{}, { offline: true }],
    [{ HF_HUB_OFFLINE: "0" }, { offline: true }],
  ];
  for (const [env, more] of cases) {
    await withEnv(env, async () => {
      assertEquals(await resolveModel(REPO, { ...options, ...more }), { dir, commit: COMMIT, fromHub: true });
      const pinned = await resolveModel(REPO, { ...options, ...more, revision: COMMIT });
      assertEquals(pinned.dir, dir);
      const missing = () => resolveModel(REPO, { ...options, ...more, revision: "v2" });
      const error = await assertRejects(missing, DownloadError, `revision "v2"`);
      assertStringIncludes(error.hint ?? "", `tensaur models pull ${REPO}`);
      await assertRejects(() => resolveModel("gpt-none", { ...options, ...more }), DownloadError, "models--gpt-none");
    });
  }
  assertEquals(hub.requests.length, before, "no network");
});

Deno.test("resolveModel() offline names the files that an interrupted download lacks", async () => {
  using cache = new TestCache();
  await using hub = startMockHub(tinyRepo());
  hub.intercept = ({ kind }) => kind === "cdn" ? new Response("", { status: 403 }) : undefined;
  await assertRejects(() => cache.resolve(hub, { revision: COMMIT }), DownloadError, "403");
  const offline = () => cache.resolve(hub, { revision: COMMIT }, { offline: true });
  const error = await assertRejects(offline, DownloadError, " lacks ");
  assertStringIncludes(error.message, WEIGHTS);
});

Deno.test("resolveModel() offline takes a folder of which no listing is known, as older Pythons leave it", async () => {
  using cache = new TestCache();
  await using hub = startMockHub(tinyRepo());
  const { dir } = await cache.resolve(hub);
  for (
    const notes of ["{", "[]", '{"format_version":2,"files":{}}', '{"format_version":1,"files":{"a":{"size":-1}}}', ""]
  ) {
    await Deno.writeTextFile(cache.path("trees", `${COMMIT}.json`), notes);
    assertEquals((await cache.resolve(hub, {}, { offline: true })).dir, dir);
  }
  await Deno.writeTextFile(cache.path("refs", "main"), "../../../etc");
  await assertRejects(() => cache.resolve(hub, {}, { offline: true }), DownloadError);
});

Deno.test("resolveModel() uses a complete earlier download when the hub is out of reach, and says so when there is none", async () => {
  using cache = new TestCache();
  const hub = startMockHub(tinyRepo());
  const { dir } = await cache.resolve(hub);
  hub.intercept = ({ kind }) => kind === "info" ? new Response("", { status: 503 }) : undefined;
  assertEquals((await cache.resolve(hub)).dir, dir);
  await hub[Symbol.asyncDispose]();
  assertEquals((await cache.resolve(hub)).dir, dir);
  await Deno.remove(join(dir, "config.json"));
  await assertRejects(() => cache.resolve(hub), DownloadError, "connection to 127.0.0.1");
});

Deno.test("resolveModel() gives DownloadError when the cache cannot be written", async () => {
  using cache = new TestCache();
  await using hub = startMockHub(tinyRepo());
  await Deno.writeTextFile(join(cache.dir, "file"), "");
  const inAFile = () => cache.resolve(hub, {}, { cacheDir: join(cache.dir, "file") });
  await assertRejects(inAFile, DownloadError, "must be readable and writable");
});

const cacheCases: [env: Record<string, string>, dir: string][] = [
  [{ HF_HUB_CACHE: "/a", HUGGINGFACE_HUB_CACHE: "/b", HF_HOME: "/c", XDG_CACHE_HOME: "/d", HOME: "/e" }, "/a"],
  [{ HUGGINGFACE_HUB_CACHE: "/b", HF_HOME: "/c", HOME: "/e" }, "/b"],
  [{ HF_HOME: "/c", XDG_CACHE_HOME: "/d", HOME: "/e" }, "/c/hub"],
  [{ XDG_CACHE_HOME: "/d", HOME: "/e" }, "/d/huggingface/hub"],
  [{ HOME: "/e" }, "/e/.cache/huggingface/hub"],
  [{ HOME: "/e", HF_HOME: "~/x" }, "/e/x/hub"],
  [{ HOME: "/e", HF_HUB_CACHE: "" }, "/e/.cache/huggingface/hub"],
];

for (const [env, dir] of cacheCases) {
  Deno.test(`hubSettings() finds the cache ${dir} by ${Object.keys(env)}`, async () => {
    await withEnv(env, async () => assertEquals((await hubSettings()).cacheDir, dir.replaceAll("/", join("/"))));
    await withEnv(env, async () => assertEquals((await hubSettings({ cacheDir: "x" })).cacheDir, "x"));
  });
}

Deno.test("hubSettings() takes the token of the call, of HF_TOKEN, of the file, in this order", async () => {
  const home = await Deno.makeTempDir();
  await Deno.writeTextFile(join(home, "token"), "hf_file\n");
  const token = (overrides: HubOverrides = {}) => hubSettings(overrides).then((settings) => settings.token);
  await withEnv({ HF_HOME: home }, async () => assertEquals(await token(), "hf_file"));
  await withEnv({ HF_HOME: home, HF_TOKEN: " hf_env " }, async () => assertEquals(await token(), "hf_env"));
  await withEnv({ HF_HOME: home, HF_TOKEN: "x" }, async () => assertEquals(await token({ token: "hf_a" }), "hf_a"));
  await withEnv({ HF_HOME: home, HF_TOKEN: "x" }, async () => assertEquals(await token({ token: "" }), undefined));
  await withEnv({ HF_HOME: home, HF_TOKEN: "x" }, async () => assertEquals(await token({ offline: true }), undefined));
  const quiet = { HF_HOME: home, HF_TOKEN: "x", HF_HUB_DISABLE_IMPLICIT_TOKEN: "1" };
  await withEnv(quiet, async () => assertEquals(await token(), undefined));
  await withEnv({ HF_HOME: join(home, "none") }, async () => assertEquals(await token(), undefined));
  await Deno.remove(home, { recursive: true });
});

Deno.test("hubSettings() refuses tokens and endpoints that cannot be, without showing secrets", async () => {
  const options = { cacheDir: "/c" };
  for (const token of ["hf_sec\nret", "hf_sec ret", "hf_secret\u00e9"]) {
    const error = await assertRejects(() => hubSettings({ ...options, token }), ValueError, "the hub token");
    assert(!everythingSaid(error).includes("hf_sec"));
  }
  for (const endpoint of ["huggingface.co", "ftp://x", "https://me:secret@x", "https://x/?secret=1", "file:///x"]) {
    const error = await assertRejects(() => hubSettings({ ...options, endpoint }), ValueError, "the hub endpoint");
    assert(!everythingSaid(error).includes("secret"));
  }
  const { endpoint } = await hubSettings({ ...options, endpoint: "https://mirror.example/hf/" });
  assertEquals(endpoint, "https://mirror.example/hf");
});

Deno.test("readEnv() treats what --allow-env does not grant as unset", { permissions: { env: ["HOME"] } }, () => {
  assertEquals(readEnv("PATH"), undefined);
  assertEquals(readEnv("HOME"), Deno.env.get("HOME"));
  assertThrows(() => Deno.env.get("PATH"), Deno.errors.NotCapable);
});

Deno.test("hubSettings() without --allow-env names it", { permissions: { env: false } }, async () => {
  const error = await assertRejects(() => hubSettings(), ValueError, "Cannot find the model cache");
  assertStringIncludes(error.hint ?? "", "--allow-env");
  assertEquals((await hubSettings({ cacheDir: "/c" })).endpoint, "https://huggingface.co");
});
