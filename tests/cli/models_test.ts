// `tensaur models` against a hub on this machine, and generating from what it downloaded.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { COMMIT, type MockRepo, REPO, startMockHub } from "../weights/mock_hub.ts";
import { PROMPT, STORY } from "./goldens.ts";
import { tensaur } from "./run.ts";

const tiny = new URL("../../models/tensaur-tiny/", import.meta.url);

/** The embedded model as a repository of the hub. */
async function tinyRepo(): Promise<MockRepo> {
  const names = (await Array.fromAsync(Deno.readDir(tiny))).map(({ name }) => name);
  const files = await Promise.all(names.map(async (name) => [name, await Deno.readFile(new URL(name, tiny))] as const));
  return { files: Object.fromEntries(files), lfs: ["model.safetensors"] };
}

Deno.test("models pull, list and verify, and generate offline from what came", async () => {
  await using hub = startMockHub(await tinyRepo());
  const home = await Deno.makeTempDir();
  const hosts = [hub.endpoint, hub.cdn].map((url) => new URL(url).host).join();
  const options = {
    env: { HF_HOME: home, HF_ENDPOINT: hub.endpoint, HF_HUB_OFFLINE: "" },
    flags: [`--allow-net=${hosts}`, `--allow-write=${home}`],
  };
  try {
    const none = await tensaur(["models", "list"], options);
    assertEquals([none.code, none.stdout], [0, ""]);
    const pulled = await tensaur(["models", "pull", REPO], options);
    assertEquals([pulled.code, pulled.stdout], [0, `${home}/hub/models--owner--tiny-model/snapshots/${COMMIT}\n`]);
    assertStringIncludes(pulled.stderr, `${REPO} is at commit ${COMMIT}`);

    const list = JSON.parse((await tensaur(["models", "list", "--json"], options)).stdout);
    assertEquals(list.models.map((m: { model: string }) => m.model), [REPO]);
    assertEquals(list.models[0].revisions, { main: COMMIT });
    assert(list.models[0].bytes > 6_600_000);

    const offline = { env: { ...options.env, HF_HUB_OFFLINE: "1" } };
    const text = await tensaur(["generate", "-m", REPO, "--temp", "0", "-n", "4", "Once upon a time"], offline);
    assertEquals(text.code, 0);
    assert(
      `${PROMPT}${STORY}`.startsWith(text.stdout.trimEnd()) && text.stdout.length > PROMPT.length + 4,
      text.stdout,
    );

    assertMatch(
      (await tensaur(["models", "verify", REPO], offline)).stdout,
      /^\d+ files \(6\.\d+ MiB\) .* as published\n$/,
    );
    await Deno.writeTextFile(`${home}/hub/models--owner--tiny-model/snapshots/${COMMIT}/config.json`, "{}");
    const bad = await tensaur(["models", "verify", REPO], offline);
    assertEquals([bad.code, bad.stdout], [3, ""]);
    assertStringIncludes(bad.stderr, "config.json");
  } finally {
    await Deno.remove(home, { recursive: true });
  }
});
