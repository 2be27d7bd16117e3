/** links, pipes, devices and swaps in every place that a model's files are read from. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { ModelPathError } from "../../src/errors.ts";
import { readSentenceConfig } from "../../src/cli/sentence_config.ts";
import { loadTokenizer } from "../../src/tokenizer/mod.ts";
import { openCheckpoint } from "../../src/weights/checkpoint.ts";
import { findGguf } from "../../src/weights/gguf_files.ts";
import { writeGguf } from "../../src/weights/gguf_write.ts";
import { safetensors, TemporaryFolder } from "./fixture.ts";

/** A file that a model is read from: where it lies, what is sound in it, and the way by which it is read. */
interface Place {
  at: string;
  bytes: Uint8Array;
  read: (root: string) => Promise<unknown>;
}

const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const tensor = safetensors({ a: { dtype: "U8", shape: [1], data_offsets: [0, 1] } }, 1);
const tokenizer = { model: { type: "WordPiece", unk_token: "?", vocab: { "?": 0 } } };

async function ggufBytes(): Promise<Uint8Array> {
  using folder = new TemporaryFolder();
  async function* data() {
    yield await Promise.resolve(new Uint8Array(4));
  }
  const path = `${folder.path}/x.gguf`;
  await writeGguf(path, [["general.architecture", { type: "string", value: "llama" }]], [
    { name: "a", type: "F32", shape: [1], data },
  ]);
  return Deno.readFileSync(path);
}

const INDEX = "model.safetensors.index.json";
const places: Record<string, Place> = {
  "a shard of weight_map": {
    at: "sub/shard.safetensors",
    bytes: tensor,
    async read(root) {
      Deno.writeFileSync(`${root}/${INDEX}`, json({ weight_map: { a: "sub/shard.safetensors" } }));
      using _ = await openCheckpoint(root);
    },
  },
  "model.safetensors": {
    at: "model.safetensors",
    bytes: tensor,
    async read(root) {
      using _ = await openCheckpoint(root);
    },
  },
  "tokenizer.json": { at: "tokenizer.json", bytes: json(tokenizer), read: (root) => loadTokenizer(root) },
  "a GGUF file": {
    at: "sub/x.gguf",
    bytes: await ggufBytes(),
    async read(root) {
      (await findGguf(root, { ggufFile: "sub/x.gguf" }))!.gguf.file.close();
    },
  },
  "a module of modules.json": {
    at: "sub/config.json",
    bytes: json({ pooling_mode_mean_tokens: true }),
    read(root) {
      Deno.writeFileSync(`${root}/modules.json`, json([{ type: "x.Pooling", path: "sub" }]));
      return readSentenceConfig(root);
    },
  },
};

async function command(name: string, ...args: string[]): Promise<void> {
  const { success } = await new Deno.Command(name, { args, stdout: "null", stderr: "null" }).output();
  if (!success) throw new Deno.errors.NotSupported(`${name} failed`);
}

/** Each lays something at `at`; `kept` is a sound file beside it in the folder, `secret` one outside. */
type Lay = (at: string, kept: string, secret: string) => void | Promise<void>;
const kinds: [what: string, lay: Lay, good: boolean][] = [
  ["a link to a file beside it", (at, kept) => Deno.symlinkSync(kept, at), true],
  ["a hard link", (at, _, secret) => Deno.linkSync(secret, at), true], // a file like any other
  ["a link that leaves the folder", (at, _, secret) => Deno.symlinkSync(secret, at), false],
  ["a link to a link that leaves", (at, _, secret) => {
    Deno.symlinkSync(secret, `${at}.hop`);
    Deno.symlinkSync(`${at}.hop`, at);
  }, false],
  ["a folder", (at) => Deno.mkdirSync(at), false],
  ["a pipe", (at) => command("mkfifo", at), false],
  ["a device", (at) => command("mknod", at, "c", "1", "5"), false],
  ["a link to a device", (at) => Deno.symlinkSync("/dev/zero", at), false],
];

for (const [where, { at, bytes, read }] of Object.entries(places)) {
  const lay = async (folder: TemporaryFolder, put: Lay) => {
    const root = `${folder.path}/model`, path = `${root}/${at}`;
    Deno.mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    await put(path, folder.write(`model/kept`, bytes), folder.write("secret", bytes));
    return root;
  };

  for (const [what, put, good] of kinds) {
    Deno.test(`${good ? "reads" : "refuses"} ${what} in the place of ${where}`, async () => {
      using folder = new TemporaryFolder();
      let root: string;
      try {
        root = await lay(folder, put);
      } catch (error) {
        if (error instanceof Deno.errors.NotSupported || error instanceof Deno.errors.NotFound) return; // not on this system
        throw error;
      }
      if (good) await read(root);
      else await assertRejects(() => read(root), ModelPathError);
    });
  }

  Deno.test(`refuses a parent folder that links to elsewhere on the way to ${where}`, async () => {
    if (!at.includes("/")) return; // its parent is the model's folder, which may be a link
    using folder = new TemporaryFolder();
    folder.write(`elsewhere/${at.split("/")[1]}`, bytes);
    Deno.mkdirSync(`${folder.path}/model`);
    Deno.symlinkSync("../elsewhere", `${folder.path}/model/sub`);
    await assertRejects(() => read(`${folder.path}/model`), ModelPathError, "links to elsewhere");
  });

  Deno.test(`refuses a link swapped in after the check in the place of ${where}`, async () => {
    using folder = new TemporaryFolder();
    const root = await lay(folder, (path, kept) => Deno.copyFileSync(kept, path));
    await read(root);
    const { open } = Deno;
    let swapped = 0;
    Deno.open = (path, options) => {
      if (`${path}`.endsWith(at) && swapped++ === 0) {
        Deno.removeSync(path);
        Deno.symlinkSync(`${folder.path}/secret`, path);
      }
      return open(path, options);
    };
    try {
      await assertRejects(() => read(root), ModelPathError);
    } finally {
      Deno.open = open;
    }
    assertEquals(swapped, 1);
  });
}

const leaving = [
  "..",
  "../x",
  "/etc/passwd",
  "a/../../x",
  "a\\b",
  "C:\\x",
  "x\0",
  "",
  "./x",
  "a//b",
  "x ",
  "x.",
  "n".repeat(256),
];
const absent = ["..%2fx", "..\u2215x", "~", "$HOME", "-rf", "..x"];
/** The places to which a model's own files give names. */
const named: Record<string, (root: string, name: string) => Promise<unknown>> = {
  "a GGUF file": (root, name) => findGguf(root, { ggufFile: name }),
  "a module of modules.json": (root, name) => {
    Deno.writeFileSync(`${root}/modules.json`, json([{ type: "x.Pooling", path: name }]));
    return readSentenceConfig(root);
  },
};
for (const [where, read] of Object.entries(named)) {
  Deno.test(`refuses ${leaving.length} names that leave the folder, and ${absent.length} of nothing, for ${where}`, async () => {
    using folder = new TemporaryFolder();
    folder.write("x/config.json", {}); // what "../x" names
    folder.write("model/config.json", { model_type: "llama" });
    for (const name of [...leaving, ...absent]) {
      const error = await assertRejects(() => read(`${folder.path}/model`, name));
      assert(error instanceof ModelPathError, `${JSON.stringify(name)}: ${error}`);
    }
  });
}
