import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { fromFileUrl } from "@std/path";
import {
  ModelFormatError,
  ModelPathError,
  NotSupportedError,
  type TensaurError,
  ValueError,
} from "../../src/errors.ts";
import { openCheckpoint } from "../../src/weights/checkpoint.ts";
import { FilePool } from "../../src/weights/file_pool.ts";
import { safetensors, TemporaryFolder } from "./fixture.ts";

/** A safetensors file of U8 tensors: four bytes each, all of them `fill`. */
function shard(names: string[], fill = 1): Uint8Array {
  const header = names.map((name, i) => [name, { dtype: "U8", shape: [4], data_offsets: [4 * i, 4 * i + 4] }]);
  return safetensors(Object.fromEntries(header), new Uint8Array(4 * names.length).fill(fill));
}
const index = (map: unknown) => ({ metadata: { total_size: 1 }, weight_map: map });
const A = "model-1.safetensors", B = "model-2.safetensors";
const files = { [A]: shard(["a", "b"], 1), [B]: shard(["c"], 2) };
type Files = Record<string, Uint8Array | string | object>;

function house(content: Files): TemporaryFolder {
  const folder = new TemporaryFolder();
  for (const [name, bytes] of Object.entries(content)) folder.write(name, bytes);
  return folder;
}
const INDEX = "model.safetensors.index.json";

const bad: [what: string, content: Files, type: typeof TensaurError, message: string][] = [
  [
    "an index that names a tensor its shard lacks",
    { ...files, [INDEX]: index({ a: A, b: A, c: B, d: B }) },
    ModelFormatError,
    `${B} must hold tensor "d"`,
  ],
  ["a missing shard", { [A]: files[A]!, [INDEX]: index({ a: A, b: A, c: B }) }, ModelFormatError, `"${B}" is missing`],
  [
    "a shard with a tensor that the index does not name",
    { ...files, [INDEX]: index({ a: A, c: B }) },
    ModelFormatError,
    `it holds "b", the index names no such tensor`,
  ],
  [
    "the same tensor in two shards",
    { [A]: shard(["a", "c"]), [B]: shard(["c"]), [INDEX]: index({ a: A, c: B }) },
    ModelFormatError,
    `it holds "c", the index puts it into "${B}"`,
  ],
  [
    "a tensor in another shard than the index says",
    { ...files, [INDEX]: index({ a: A, b: B, c: B }) },
    ModelFormatError,
    `it holds "b", the index puts it into "${B}"`,
  ],
  [
    "an index that names a tensor twice",
    { ...files, [INDEX]: `{"weight_map":{"a":"${A}","a":"${B}"}}` },
    ModelFormatError,
    'keys must be unique: "a"',
  ],
  [
    "10,001 shards",
    { [INDEX]: index(Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`t${i}`, `${i}.safetensors`]))) },
    ModelFormatError,
    "1 to 10000 shards: it names 10001",
  ],
  ["an index without shards", { [INDEX]: index({}) }, ModelFormatError, "it names 0"],
  ["no weight_map", { [INDEX]: {} }, ModelFormatError, "weight_map must be an object: it is undefined"],
  [
    "a weight_map that is an array",
    { [INDEX]: index([A]) },
    ModelFormatError,
    "weight_map must be an object: it is an array",
  ],
  ["a weight_map that is null", { [INDEX]: index(null) }, ModelFormatError, "weight_map must be an object: it is null"],
  ["a shard that is no name", { [INDEX]: index({ a: 1 }) }, ModelFormatError, '"a" has number'],
  ["a shard that is a list", { [INDEX]: index({ a: [A] }) }, ModelFormatError, '"a" has an array'],
  [
    "a shard outside the folder",
    { [INDEX]: index({ a: "../x.safetensors" }) },
    ModelPathError,
    "a name inside a model must",
  ],
  ["a shard that is a pickle file", { "x.bin": "", [INDEX]: index({ a: "x.bin" }) }, NotSupportedError, "can run code"],
  [
    "a shard that is no safetensors",
    { ...files, [B]: "hello", [INDEX]: index({ a: A, b: A, c: B }) },
    ModelFormatError,
    `Cannot read ${B} as a safetensors file`,
  ],
  [
    "a shard that was cut short",
    { ...files, [B]: shard(["c"]).slice(0, -1), [INDEX]: index({ a: A, b: A, c: B }) },
    ModelFormatError,
    `Cannot read ${B} as its tensors must end`,
  ],
  ["a damaged single file", { "model.safetensors": "hello" }, ModelFormatError, "Cannot read model.safetensors"],
  ["an index that is no JSON", { ...files, [INDEX]: "{" }, ModelFormatError, `Cannot read ${INDEX} as it must be JSON`],
  [
    "a folder of pickle files",
    { "pytorch_model.bin": "x", "config.json": {} },
    NotSupportedError,
    "it holds pytorch_model.bin",
  ],
  [
    "a folder without weights",
    { "config.json": {}, "README.md": "" },
    ModelFormatError,
    "it holds README.md, config.json",
  ],
  ["an empty folder", {}, ModelFormatError, "it holds nothing"],
];

for (const [what, content, type, message] of bad) {
  Deno.test(`openCheckpoint() refuses ${what}`, async () => {
    using folder = house(content);
    const error = await assertRejects(() => openCheckpoint(folder.path), type, message);
    if (type === NotSupportedError) assertStringIncludes(String(error.hint), "Convert to safetensors");
  });
}

Deno.test("openCheckpoint() refuses a folder that is missing or no folder", async () => {
  using folder = house({ x: "" });
  await assertRejects(() => openCheckpoint(`${folder.path}/none`), ModelPathError, "must be readable");
  await assertRejects(() => openCheckpoint(`${folder.path}/x`), ModelPathError, "must be a model's folder");
});

Deno.test("openCheckpoint() reads one file, shards, shards in a folder, and other stems", async () => {
  using single = house({ "model.safetensors": shard(["a", "__proto__"], 7) });
  using one = await openCheckpoint(single.path);
  assertEquals([[...one.tensors.keys()], one.byteLength], [["a", "__proto__"], 8]);
  assertEquals([...await one.read("__proto__")], [7, 7, 7, 7]);
  using shards = house({
    [`sub/${A}`]: files[A]!,
    [B]: files[B]!,
    [INDEX]: index({ c: B, b: `sub/${A}`, a: `sub/${A}` }),
  });
  using many = await openCheckpoint(shards.path);
  assertEquals([[...many.tensors.keys()].sort(), many.byteLength], [["a", "b", "c"], 12]);
  assertEquals([...await many.read("a"), ...await many.read("c")], [1, 1, 1, 1, 2, 2, 2, 2]);
  assertEquals(many.tensors.get("a")?.file, `sub/${A}`);
  using both = house({ "model.safetensors": shard(["s"]), ...files, [INDEX]: index({ a: A, b: A, c: B }) });
  using first = await openCheckpoint(both.path);
  assertEquals([...first.tensors.keys()], ["s"]);
  using adapter = house({ "adapter_model.safetensors": shard(["lora"]) });
  using other = await openCheckpoint(adapter.path, { stem: "adapter_model" });
  assertEquals([...other.tensors.keys()], ["lora"]);
});

const range: [
  options: { start?: number; end?: number; maxBytes: number },
  buffer: number | undefined,
  sizes: number[],
][] = [
  [{ maxBytes: 1000 }, undefined, [100]],
  [{ maxBytes: 100 }, undefined, [100]],
  [{ maxBytes: 99 }, undefined, [96, 4]],
  [{ maxBytes: 40 }, undefined, [40, 40, 20]],
  [{ maxBytes: 47 }, undefined, [40, 40, 20]], // whole elements: a multiple of 8
  [{ maxBytes: 7, start: 80 }, undefined, [7, 7, 6]],
  [{ maxBytes: 1, start: 97 }, undefined, [1, 1, 1]],
  [{ maxBytes: 16, start: 13, end: 50 }, undefined, [16, 16, 5]],
  [{ maxBytes: 64 }, 32, [32, 32, 32, 4]],
  [{ maxBytes: 32 }, 64, [32, 32, 32, 4]],
  [{ maxBytes: 32, start: 100 }, undefined, []],
  [{ maxBytes: 32, start: 5, end: 5 }, undefined, []],
];

const hundred = Uint8Array.from({ length: 100 }, (_, i) => i);
const hundredFile = () =>
  house({
    "model.safetensors": safetensors({
      front: { dtype: "U8", shape: [3], data_offsets: [0, 3] },
      t: { dtype: "I32", shape: [5, 5], data_offsets: [3, 103] },
      none: { dtype: "F16", shape: [0, 4], data_offsets: [103, 103] },
    }, Uint8Array.of(9, 9, 9, ...hundred)),
  });

for (const [options, size, sizes] of range) {
  const { start = 0, end = 100 } = options;
  Deno.test(`Checkpoint.chunks() gives ${start} to ${end} by ${options.maxBytes} into ${size ?? "its own"} bytes`, async () => {
    using folder = hundredFile();
    using checkpoint = await openCheckpoint(folder.path);
    const buffer = size === undefined ? undefined : new Uint8Array(size);
    const got: number[] = [], lengths: number[] = [], memory = new Set<ArrayBufferLike>();
    for await (const chunk of checkpoint.chunks("t", { ...options, buffer })) {
      got.push(...chunk);
      lengths.push(chunk.length);
      memory.add(chunk.buffer);
    }
    assertEquals([got, lengths], [[...hundred.slice(start, end)], sizes]);
    assert(memory.size <= 1, "one buffer holds all chunks");
    if (buffer && memory.size) assert(memory.has(buffer.buffer));
  });
}

Deno.test("Checkpoint.chunks() and read() refuse what is not there", async () => {
  using folder = hundredFile();
  using checkpoint = await openCheckpoint(folder.path);
  const chunks = (name: string, options: { start?: number; end?: number; maxBytes: number; buffer?: Uint8Array }) =>
    assertRejects(() => checkpoint.chunks(name, options).next());
  for (const [start, end] of [[-1, 5], [5, 4], [0, 101], [101, 101], [0.5, 4], [0, NaN]]) {
    assert(await chunks("t", { start, end, maxBytes: 8 }) instanceof ValueError, `${start} to ${end}`);
  }
  for (const maxBytes of [0, -1, 1.5, NaN, Infinity]) {
    assert(await chunks("t", { maxBytes }) instanceof ValueError, `${maxBytes}`);
  }
  assert(await chunks("t", { maxBytes: 8, buffer: new Uint8Array() }) instanceof ValueError);
  assert(await chunks("T", { maxBytes: 8 }) instanceof ModelFormatError);
  await assertRejects(() => checkpoint.read("toString"), ModelFormatError, "Cannot read tensor toString");
  assertEquals((await checkpoint.read("none")).length, 0);
});

Deno.test("Checkpoint.read() refuses by name the dtypes that nothing here computes with", async () => {
  const dtypes = [["C64", 64], ["F4", 4], ["F6_E2M3", 6], ["F6_E3M2", 6], ["F8_E8M0", 8], ["F8_E4M3FNUZ", 8], [
    "F8_E5M2FNUZ",
    8,
  ]];
  for (const [dtype, bits] of dtypes as [string, number][]) {
    using folder = house({
      "model.safetensors": safetensors({ a: { dtype, shape: [8], data_offsets: [0, bits] } }, bits),
    });
    using checkpoint = await openCheckpoint(folder.path);
    assertEquals(checkpoint.byteLength, bits);
    await assertRejects(() => checkpoint.read("a"), NotSupportedError, `it is ${dtype}`);
    await assertRejects(() => checkpoint.chunks("a", { maxBytes: 8 }).next(), NotSupportedError, `it is ${dtype}`);
  }
});

Deno.test("Checkpoint.read() fails after dispose, and when a file shrinks or is replaced", async () => {
  using folder = house({ ...files, [INDEX]: index({ a: A, b: A, c: B }) });
  const disposed = await openCheckpoint(folder.path);
  disposed[Symbol.dispose]();
  await assertRejects(() => disposed.read("a"), ValueError, "it was disposed of");
  {
    using checkpoint = await openCheckpoint(folder.path);
    Deno.truncateSync(`${folder.path}/${A}`, files[A]!.length - 1);
    assertEquals([...await checkpoint.read("a")], [1, 1, 1, 1]);
    await assertRejects(() => checkpoint.read("b"), ModelFormatError, "its bytes must reach to");
    folder.write(A, files[A]!);
  }
  using checkpoint = await openCheckpoint(folder.path, { maxOpenFiles: 1 });
  folder.write("other", shard(["a", "b"], 3));
  await checkpoint.read("c"); // closes the first shard
  Deno.renameSync(`${folder.path}/other`, `${folder.path}/${A}`);
  await assertRejects(() => checkpoint.read("a"), ModelFormatError, "it was replaced");
});

Deno.test("FilePool.use() keeps few files open, and none that is in use closes", async () => {
  using folder = new TemporaryFolder();
  for (let i = 0; i < 20; i++) folder.write(`${i}`, `${i}`);
  using pool = new FilePool(folder.path, 3);
  const read = (i: number) => pool.use(`${i}`, async (file) => new TextDecoder().decode(await file.read(0, file.size)));
  for (let i = 0; i < 40; i++) {
    assertEquals(await read(i % 20), `${i % 20}`);
    assert(pool.open <= 3);
  }
  const all = await Promise.all(Array.from({ length: 200 }, (_, i) => read(i % 20)));
  assertEquals(all, Array.from({ length: 200 }, (_, i) => `${i % 20}`));
  assert(pool.open <= 3, `${pool.open} open`);
  await assertRejects(() => read(20), ModelPathError, "no such file");
  assertEquals(pool.open <= 3, true);
});

Deno.test("openCheckpoint() needs no permission but to read the folder", async () => {
  using folder = house({ ...files, [INDEX]: index({ a: A, b: A, c: B }), "outside": "" });
  const source = new URL("../../src/weights/checkpoint.ts", import.meta.url);
  folder.write(
    "main.ts",
    `
    import { openCheckpoint } from ${JSON.stringify(source.href)};
    using checkpoint = await openCheckpoint(Deno.args[0]!);
    for (const name of checkpoint.tensors.keys()) await checkpoint.read(name);
    console.log(checkpoint.byteLength, await openCheckpoint(Deno.args[0]! + "/..").catch((e) => e.hint));
  `,
  );
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--quiet",
      "--no-lock",
      `--config=${fromFileUrl(new URL("../../deno.json", import.meta.url))}`,
      `--allow-read=${folder.path}`,
      `${folder.path}/main.ts`,
      folder.path,
    ],
  }).output();
  assertEquals(new TextDecoder().decode(stderr), "");
  assertStringIncludes(new TextDecoder().decode(stdout), "12 Run with --allow-read=FOLDER");
});
