import { assert, assertEquals, assertRejects } from "@std/assert";
import { ModelFormatError, ModelPathError, NotSupportedError } from "../../src/errors.ts";
import { openCheckpoint } from "../../src/weights/checkpoint.ts";
import { exists, openInside, readJson } from "../../src/weights/files.ts";
import { safetensors, TemporaryFolder } from "./fixture.ts";

const text = async (root: string, name: string) => {
  using file = await openInside(root, name);
  return new TextDecoder().decode(await file.read(0, file.size));
};

/** A model folder, and beside it what must not be read: each file says "secret" and is sound in its own format. */
function houseWithSecrets(): TemporaryFolder & { root: string } {
  const folder = new TemporaryFolder();
  const secret = safetensors('{"__metadata__":{"secret":"secret"}}');
  for (const name of ["secret.safetensors", "model-evil/secret.safetensors", "model/config.json"]) {
    folder.write(name, name.endsWith(".json") ? '{"model_type":"llama"}' : secret);
  }
  folder.write("secret.json", { secret: true });
  return Object.assign(folder, { root: `${folder.path}/model` });
}

const leaving = [
  ...["", ".", "..", "/", "//", "./", "../", "../secret.json", "./config.json", "sub/../config.json", "sub/.."],
  ...["../../secret.json", "sub/../../secret.json", "..//secret.json", "....//secret.json", "a//b", "a/", "a/./b"],
  ...[
    "../model-evil/secret.safetensors",
    "../model/config.json",
    "../secret.safetensors",
    "/etc/passwd",
    "//etc/passwd",
  ],
  ...[
    "\\",
    "..\\secret.json",
    "sub\\..\\..\\secret.json",
    "\\etc\\passwd",
    "\\\\server\\share",
    "\\\\?\\C:\\x",
    "a\\b",
  ],
  ...["C:", "C:\\Windows\\win.ini", "C:/Windows/win.ini", "c:config.json", "config.json:stream", "config.json::$DATA"],
  ...["file:///etc/passwd", "https://example.com/config.json", "config.json\0", "\0", "config.json\0.safetensors"],
  ...[
    "config.json ",
    "config.json.",
    "config.json..",
    ".. /secret.json",
    " /x",
    "sub ./x",
    "...",
    "\ud800",
    "a\ud800.json",
  ],
  ...["n".repeat(256), "é".repeat(128), `sub/${"n".repeat(256)}`],
];
const absent = [
  ...[
    "..%2fsecret.json",
    "%2e%2e%2fsecret.json",
    "..\u2215secret.json",
    "..\u2044secret.json",
    "\uff0e\uff0e",
    "~",
    "~root",
  ],
  ...[
    "$HOME",
    "%USERPROFILE%",
    "-rf",
    "config.json/x",
    "n".repeat(255),
    "CONFIG.JSON\n",
    "..config.json",
    "sub/x.json",
  ],
];
const pickles = ["pytorch_model.bin", "model.pt", "model.PTH", "x.pkl", "x.pickle", "a/b.ckpt"];

Deno.test(`openInside() refuses ${leaving.length + absent.length + pickles.length} names, by every use`, async (t) => {
  using house = houseWithSecrets();
  const { root } = house;
  assert(leaving.length + absent.length + pickles.length >= 60);
  const byIndex = (name: string) => {
    house.write("model/model.safetensors.index.json", { weight_map: { a: name } });
    return openCheckpoint(root);
  };
  for (const name of leaving) {
    await t.step(`leaving: ${JSON.stringify(name.slice(0, 40))}`, async () => {
      await assertRejects(() => openInside(root, name), ModelPathError, "a name inside a model must");
      await assertRejects(() => exists(root, name), ModelPathError, "a name inside a model must");
      await assertRejects(() => readJson(root, name), ModelPathError, "a name inside a model must");
      await assertRejects(() => byIndex(name), ModelPathError, "a name inside a model must");
      if (/^(\.\.)?\//.test(name)) await assertRejects(() => openCheckpoint(root, { stem: name }), ModelPathError);
    });
  }
  for (const name of absent) {
    await t.step(`absent: ${JSON.stringify(name.slice(0, 40))}`, async () => {
      await assertRejects(() => openInside(root, name), ModelPathError, "there is no such file");
      assertEquals(await exists(root, name), false);
      await assertRejects(() => readJson(root, name), ModelPathError, "there is no such file");
      await assertRejects(() => byIndex(name), ModelFormatError, "is missing");
    });
  }
  for (const name of pickles) {
    await t.step(`pickle: ${name}`, async () => {
      house.write(`model/${name}`, "cos\nsystem\n(S'true'\ntR.");
      const error = await assertRejects(() => openInside(root, name), NotSupportedError, "can run code");
      assert(error.hint?.includes("safetensors"));
      await assertRejects(() => readJson(root, name), NotSupportedError, "can run code");
      await assertRejects(() => byIndex(name), NotSupportedError, "can run code");
    });
  }
});

/** Each case lays something at `model/x` and says what opening it gives: the text, or the part of a message. */
const links: [what: string, lay: (at: string, outside: string) => void | Promise<void>, want: string | RegExp][] = [
  [
    "a link to a file beside it",
    (at, out) => (Deno.writeTextFileSync(`${out}/model/y`, "fine"), Deno.symlinkSync("y", at)),
    "fine",
  ],
  ["a hard link", (at, out) => Deno.linkSync(`${out}/secret`, at), "secret"],
  ["a link that leaves the folder", (at, out) => Deno.symlinkSync(`${out}/secret`, at), /links to elsewhere/],
  ["a relative link that leaves", (at) => Deno.symlinkSync("../secret", at), /links to elsewhere/],
  ["a link to a folder of a longer name", (at) => Deno.symlinkSync("../model-evil/secret", at), /links to elsewhere/],
  ["a link to a system file", (at) => Deno.symlinkSync("/etc/hostname", at), /links to elsewhere|no such file/],
  ["a link to a device", (at) => Deno.symlinkSync("/dev/zero", at), /links to elsewhere/],
  ["a link to the process's memory", (at) => Deno.symlinkSync("/proc/self/mem", at), /links to elsewhere|no such file/],
  ["two links, the second one leaves", (at, out) => {
    Deno.symlinkSync("../secret", `${out}/model/hop`);
    Deno.symlinkSync("hop", at);
  }, /links to elsewhere/],
  ["a link to nothing", (at) => Deno.symlinkSync("nothing", at), /no such file/],
  ["a link to itself", (at) => Deno.symlinkSync("x", at), /must be readable/],
  ["a folder", (at) => Deno.mkdirSync(at), /it is a folder/],
  ["a link to the model's folder", (at) => Deno.symlinkSync(".", at), /links to elsewhere/],
  [
    "a link to a folder inside",
    (at, out) => (Deno.mkdirSync(`${out}/model/sub`), Deno.symlinkSync("sub", at)),
    /a folder/,
  ],
  ["a pipe", (at) => command("mkfifo", at), /device, pipe/],
  [
    "a link to a pipe",
    (at, out) => command("mkfifo", `${out}/model/p`).then(() => Deno.symlinkSync("p", at)),
    /device, pipe/,
  ],
  ["a device", (at) => command("mknod", at, "c", "1", "5"), /device, pipe|must be readable/],
  [
    "a socket",
    (at) => command("python3", "-c", `import socket;socket.socket(socket.AF_UNIX).bind(${JSON.stringify(at)})`),
    /pipe, socket/,
  ],
];

async function command(name: string, ...args: string[]): Promise<void> {
  const { success } = await new Deno.Command(name, { args, stdout: "null", stderr: "null" }).output();
  if (!success) throw new Deno.errors.NotSupported(`${name} failed`);
}

for (const [what, lay, want] of links) {
  Deno.test(`openInside() with ${what}`, async () => {
    using folder = new TemporaryFolder();
    for (const name of ["secret", "model-evil/secret"]) folder.write(name, "secret");
    folder.write("model/config.json", {});
    const root = `${folder.path}/model`;
    try {
      await lay(`${root}/x`, folder.path);
    } catch (error) {
      if (error instanceof Deno.errors.NotSupported || error instanceof Deno.errors.NotFound) return; // not on this system
      throw error;
    }
    if (typeof want === "string") return assertEquals(await text(root, "x"), want);
    const error = await assertRejects(() => text(root, "x"), ModelPathError);
    assert(want.test(error.message), error.message);
  });
}

Deno.test("openInside() refuses a parent folder that links to elsewhere", async () => {
  using folder = new TemporaryFolder();
  folder.write("outside/config.json", {});
  folder.write("model/config.json", {});
  Deno.symlinkSync("../outside", `${folder.path}/model/sub`);
  await assertRejects(
    () => openInside(`${folder.path}/model`, "sub/config.json"),
    ModelPathError,
    "links to elsewhere",
  );
  await assertRejects(() => exists(`${folder.path}/model`, "sub/config.json"), ModelPathError, "links to elsewhere");
});

Deno.test("openInside() follows a root that is itself a link", async () => {
  using folder = new TemporaryFolder();
  folder.write("model/a", "fine");
  Deno.symlinkSync("a", `${folder.path}/model/b`);
  Deno.symlinkSync("model", `${folder.path}/link`);
  assertEquals([await text(`${folder.path}/link`, "b"), await text(`${folder.path}/link/`, "a")], ["fine", "fine"]);
});

Deno.test("openInside() lets a hub snapshot link to its repository's blobs, and nowhere else", async () => {
  using folder = new TemporaryFolder();
  for (const repository of ["models--a--b", "models--a--c"]) {
    folder.write(`${repository}/blobs/123`, repository);
    folder.write(`${repository}/refs/main`, "rev");
    folder.write(`${repository}/snapshots/rev/own`, "own");
  }
  const root = `${folder.path}/models--a--b/snapshots/rev`;
  const link = (target: string, name: string) => Deno.symlinkSync(target, `${root}/${name}`);
  Deno.mkdirSync(`${root}/sub`);
  link("../../blobs/123", "good");
  link("../../../blobs/123", "sub/good");
  link("../../refs/main", "ref");
  link("../../../models--a--c/blobs/123", "other");
  link("../other-rev", "revision");
  assertEquals([await text(root, "good"), await text(root, "sub/good")], ["models--a--b", "models--a--b"]);
  assertEquals([await text(`${root}/sub`, "good"), await text(root, "own")], ["models--a--b", "own"]);
  for (const name of ["ref", "other"]) {
    await assertRejects(() => openInside(root, name), ModelPathError, "links to elsewhere");
  }
  // The same links in a folder that is no hub cache lead outside.
  Deno.renameSync(`${folder.path}/models--a--b`, `${folder.path}/plain`);
  const plain = `${folder.path}/plain/snapshots/rev`;
  await assertRejects(() => openInside(plain, "good"), ModelPathError, "links to elsewhere");
});

Deno.test("openInside() is the only way by which weights, models and tokenizers open a file", () => {
  const opens = /Deno\.(open|create|readFile|readTextFile|makeTemp\w+)(Sync)?\b|["']node:fs|["']@std\/fs|\bfetch\(/;
  const others: string[] = [];
  for (const layer of ["weights", "models", "tokenizer"]) {
    const folder = new URL(`../../src/${layer}/`, import.meta.url);
    for (const { name } of Deno.readDirSync(folder)) {
      // files.ts is that way, save.ts and write_whole.ts only write, the hub's files keep the download cache, not a model
      if (!name.endsWith(".ts") || /^(files|save|write_whole|hub\w*)\.ts$/.test(name)) continue;
      const code = Deno.readTextFileSync(new URL(name, folder)).replace(/^ *\/?\*.*$/gm, ""); // examples may
      if (opens.test(code)) others.push(`${layer}/${name}`);
    }
  }
  assertEquals(others, []);
});
