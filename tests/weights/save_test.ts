import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ValueError } from "../../src/errors.ts";
import { openCheckpoint } from "../../src/weights/checkpoint.ts";
import { DTYPE_BITS, parseSafetensorsHeader, type SafetensorsDtype } from "../../src/weights/safetensors.ts";
import { encodeSafetensorsHeader, type TensorToSave, writeSafetensors } from "../../src/weights/save.ts";
import { TemporaryFolder } from "./fixture.ts";

/** A tensor of the bytes `from`, `from + 1`, … */
function tensor(name: string, dtype: SafetensorsDtype, shape: number[], from = 0): TensorToSave & { data: Uint8Array } {
  const length = shape.reduce((product, size) => product * size, DTYPE_BITS[dtype]) / 8;
  return { name, dtype, shape, data: Uint8Array.from({ length }, (_, i) => from + i) };
}

async function* inChunks(data: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.length; at += size) yield await Promise.resolve(data.subarray(at, at + size));
}

const tensors = [
  tensor("u8", "U8", [3], 1),
  tensor("b", "F32", [2, 3], 10),
  tensor("a", "F32", [], 50),
  tensor("bf16", "BF16", [5], 60),
  tensor("none", "F64", [4, 0]),
  tensor("__proto__", "I64", [1], 80),
  tensor('é"\\\n\u{1F9E0}', "F16", [1, 1], 90),
];

Deno.test("writeSafetensors() writes what openCheckpoint() reads", async () => {
  using folder = new TemporaryFolder();
  await writeSafetensors(`${folder.path}/model.safetensors`, tensors, { format: "pt", é: "\n" });
  using checkpoint = await openCheckpoint(folder.path);
  assertEquals([...checkpoint.tensors.keys()].sort(), tensors.map(({ name }) => name).sort());
  for (const { name, dtype, shape, data } of tensors) {
    const info = checkpoint.tensors.get(name)!;
    assertEquals([info.dtype, info.shape, await checkpoint.read(name)], [dtype, shape, data]);
    assertEquals(info.start % (DTYPE_BITS[dtype] / 8), 0, `${name} is aligned`);
  }
  const file = Deno.readFileSync(`${folder.path}/model.safetensors`);
  assertEquals([...parseSafetensorsHeader(file, file.length, "x").metadata], [["format", "pt"], ["é", "\n"]]);
});

Deno.test("writeSafetensors() writes chunks as they come, from another checkpoint too", async () => {
  using folder = new TemporaryFolder();
  await writeSafetensors(`${folder.path}/model.safetensors`, tensors);
  using checkpoint = await openCheckpoint(folder.path);
  const lazy = checkpoint.tensors.values().map((info) => ({
    ...info,
    data: checkpoint.chunks(info.name, { maxBytes: 8 }),
  }));
  await writeSafetensors(`${folder.path}/copy.safetensors`, lazy);
  assertEquals(
    Deno.readFileSync(`${folder.path}/copy.safetensors`),
    Deno.readFileSync(`${folder.path}/model.safetensors`),
  );
});

const bad: [what: string, tensors: unknown[], message: string, metadata?: unknown][] = [
  ["a name twice", [tensor("a", "U8", [1]), tensor("a", "U8", [1])], "names must be unique"],
  [
    "a name twice in two dtypes",
    [tensor("a", "U8", [1]), tensor("b", "U8", [1]), tensor("a", "F32", [1])],
    "names must be unique",
  ],
  ["the name __metadata__", [tensor("__metadata__", "U8", [1])], 'not "__metadata__"'],
  ["half a surrogate pair", [tensor("\ud800", "U8", [1])], "whole characters"],
  ["a name of 1,025 characters", [tensor("n".repeat(1025), "U8", [1])], "at most 1024"],
  ["an unknown dtype", [{ name: "a", dtype: "F31", shape: [1], data: new Uint8Array(4) }], "it is F31"],
  ["a negative size", [{ name: "a", dtype: "U8", shape: [-1, -1], data: new Uint8Array(1) }], "whole sizes"],
  ["half a byte", [{ name: "a", dtype: "F4", shape: [3], data: new Uint8Array(2) }], "whole bytes: it is [3]"],
  ["65 dimensions", [{ name: "a", dtype: "U8", shape: Array(65).fill(1), data: new Uint8Array(1) }], "at most 64"],
  [
    "too few bytes",
    [{ name: "a", dtype: "F32", shape: [2], data: new Uint8Array(7) }],
    "must have the 8 bytes of F32 [2]: 7 came",
  ],
  [
    "too many bytes",
    [{ name: "a", dtype: "F32", shape: [2], data: new Uint8Array(9) }],
    "must have the 8 bytes of F32 [2]: more came",
  ],
  ["too few chunks", [{ name: "a", dtype: "U8", shape: [9], data: inChunks(new Uint8Array(8), 4) }], "8 came"],
  ["too many chunks", [{ name: "a", dtype: "U8", shape: [7], data: inChunks(new Uint8Array(8), 4) }], "more came"],
  ["metadata that is a number", [], "metadata must be strings", { a: 1 }],
];

for (const [what, list, message, metadata] of bad) {
  Deno.test(`writeSafetensors() refuses ${what} and leaves what was there`, async () => {
    using folder = new TemporaryFolder();
    const path = folder.write("model.safetensors", "before");
    const write = () => writeSafetensors(path, list as TensorToSave[], metadata as Record<string, string>);
    await assertRejects(write, ValueError, message);
    assertEquals(Deno.readTextFileSync(path), "before");
    assertEquals([...Deno.readDirSync(folder.path)].map((entry) => entry.name), ["model.safetensors"]);
  });
}

Deno.test("writeSafetensors() leaves nothing when its data or its folder fails", async () => {
  using folder = new TemporaryFolder();
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield await Promise.resolve(new Uint8Array(4));
    throw new RangeError("the GPU is gone");
  }
  const list: TensorToSave[] = [{ name: "a", dtype: "U8", shape: [8], data: broken() }];
  await assertRejects(() => writeSafetensors(`${folder.path}/x.safetensors`, list), RangeError, "the GPU is gone");
  folder.write("taken.safetensors/file", "");
  await assertRejects(() => writeSafetensors(`${folder.path}/taken.safetensors`, [tensor("a", "U8", [1])]));
  await assertRejects(() => writeSafetensors(`${folder.path}/none/x.safetensors`, []), Deno.errors.NotFound);
  assertEquals([...Deno.readDirSync(folder.path)].map((entry) => entry.name), ["taken.safetensors"]);
});

Deno.test("encodeSafetensorsHeader() pads to 8 bytes and puts wide dtypes first", () => {
  for (let length = 0; length < 10; length++) {
    const { bytes, tensors: placed } = encodeSafetensorsHeader(tensors, { pad: "x".repeat(length) });
    assertEquals(bytes.length % 8, 0);
    assertEquals(placed[0]!.start, bytes.length);
    assert(placed.every((t, i) => DTYPE_BITS[t.dtype] <= DTYPE_BITS[(placed[i - 1] ?? t).dtype]));
    const header = parseSafetensorsHeader(bytes, placed.at(-1)!.end, "");
    assertEquals([...header.tensors.values()], placed);
  }
  assertEquals(parseSafetensorsHeader(encodeSafetensorsHeader([]).bytes, 16, "").tensors.size, 0);
  const huge = (i: number) => ({ name: `${i}`.padStart(1024), dtype: "U8", shape: [2 ** 49] } as const);
  assertEquals(encodeSafetensorsHeader([huge(1)]).tensors[0]!.end % 8, 0);
  const many = Array.from({ length: 17 }, (_, i) => huge(i));
  assertThrows(() => encodeSafetensorsHeader(many), ValueError, "offsets must be countable");
});
