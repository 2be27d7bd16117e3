import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { AbortError, ModelFormatError, NotSupportedError, TensaurError, ValueError } from "../../src/errors.ts";
import { type GgufHeader, parseGgufHeader } from "../../src/weights/gguf.ts";
import { BLOCK_FORMATS, unpackedBlock } from "../../src/quantization/gguf_blocks.ts";
import { openInside } from "../../src/weights/files.ts";
import { GgufCheckpoint, openGguf, rotaryRow } from "../../src/weights/gguf_checkpoint.ts";
import { type GgufTensorToSave, writeGguf } from "../../src/weights/gguf_write.ts";
import { random } from "../helpers.ts";
import { fileOf, matrix, METADATA, mutated, once, TENSORS } from "./gguf_fixture.ts";

const full = Deno.env.get("TENSAUR_TEST_FULL") === "1";

const good = await fileOf();
const parse = (bytes: Uint8Array, size = bytes.length): GgufHeader | undefined =>
  parseGgufHeader(bytes, size, "x.gguf");

Deno.test("parseGgufHeader() reads what writeGguf() wrote", () => {
  const { version, alignment, metadata, tensors } = parse(good)!;
  assertEquals([version, alignment], [3, 32]);
  assertEquals([...metadata], METADATA.map(([key, { value }]) => [key, value as never]));
  assertEquals(
    [...tensors.values()].map(({ name, type, shape, start, end }) => [name, type, shape, start % 32, end - start]),
    [
      ["m", "F32", [8, 4], 0, 128],
      ["q", "Q4_0", [2, 64], 0, 72],
      ["v", "F16", [3], 0, 6],
    ],
  );
});

Deno.test("parseGgufHeader() asks for more bytes where the file has them, and never beyond", () => {
  const header = Math.min(...[...parse(good)!.tensors.values()].map(({ start }) => start));
  for (let length = 0; length < good.length - 26; length++) {
    const part = good.subarray(0, length), more = parse(part, good.length);
    if (length < header - 32) assertEquals(more, undefined);
    assertThrows(() => parse(part), ModelFormatError); // the file itself is cut
  }
});

/** Where `what` stands in the file. */
function find(what: string): number {
  const bytes = new TextEncoder().encode(what);
  const at = good.findIndex((_, i) => bytes.every((byte, j) => good[i + j] === byte));
  assert(at >= 0);
  return at;
}

function changed(at: number, ...bytes: number[]): Uint8Array<ArrayBuffer> {
  const copy = good.slice();
  copy.set(bytes, at);
  return copy;
}

const HUGE = [255, 255, 255, 255, 255, 255, 255, 127], q = find("q\u0002") + 1, m = find("m\u0002") + 1;
const bad: [what: string, bytes: Uint8Array, message: string][] = [
  ["nothing", new Uint8Array(), "the magic must end inside"],
  ["another magic", changed(0, 71, 71, 77, 76), 'must begin with "GGUF"'],
  ["no such version", changed(4, 1), "version must be 2 or 3"],
  ["big-endian", changed(4, 0, 0, 0, 3), "version must be 2 or 3"],
  ["more tensors than bytes", changed(8, ...HUGE), "the number of tensors must be at most"],
  ["one tensor too many", changed(8, 4), "at most 4 dimensions"],
  ["more keys than bytes", changed(16, ...HUGE), "the number of keys must be at most"],
  ["a key longer than the file", changed(24, ...HUGE), "the length of key 0 must be at most"],
  ["a key that is no UTF-8", changed(32, 255), "key 0 must be UTF-8"],
  ["no such type", changed(find("general.architecture") + 20, 13), "must have a type from 0 to 12"],
  ["a list of lists", changed(find("tokenizer.ggml.tokens") + 25, 9), "lists no lists"],
  ["a list longer than the file", changed(find("tokenizer.ggml.tokens") + 29, ...HUGE), "must be at most"],
  ["neither true nor false", changed(find("add_bos_token") + 17, 2), "must be 0 or 1"],
  ["a key twice", await fileOf([METADATA[0]!, METADATA[0]!]), "keys must be unique"],
  ["a tensor twice", await fileOf([], [TENSORS[2]!, TENSORS[2]!]), "tensors must be unique"],
  ["five dimensions", changed(q, 5), "at most 4 dimensions"],
  ["a row of half a block", changed(q + 4, 48), "whole blocks of Q4_0"],
  [
    "more numbers than can be counted",
    changed(m + 4, ...HUGE.slice(0, 6), 31, 0, ...HUGE.slice(0, 6), 31, 0),
    "must end inside",
  ],
  ["no type of ggml's", changed(q + 20, 99), "must be one of ggml's"],
  ["a type that is not supported", changed(q + 20, 16), "must be among F32"],
  ["an offset in between", changed(q + 24, 4), "multiple of 32"],
  ["an offset beyond the file", changed(q + 24, ...HUGE), "the offset of"],
  ["tensors in one place", changed(q + 24, 96), "overlap"],
  ["a name that is no UTF-8", changed(q - 1, 255), "the name of tensor 1 must be UTF-8"],
  ["a name longer than the file", changed(q - 9, ...HUGE), "the length of the name of tensor 1 must be at most"],
  ["a size beyond what can be counted", changed(q + 4, ...HUGE), 'a size of "q" must be at most'],
  ["a text longer than the file", changed(find("general.architecture") + 24, ...HUGE), "the length of the value of"],
  ["a file cut in its metadata", good.slice(0, 100), "must end inside the file of 100 bytes"],
  ["a file cut between its tensors' names", good.slice(0, q + 6), "must end inside the file of"],
  ["a file cut in its data", good.slice(0, good.length - 30), '"v" must end inside the file of'],
  ["an alignment of 3", await fileOf([["general.alignment", { type: "uint32", value: 3 }]]), "power of 2"],
  ["an alignment of 0", await fileOf([["general.alignment", { type: "uint32", value: 0 }]]), "power of 2"],
  ["an alignment in letters", await fileOf([["general.alignment", { type: "string", value: "32" }]]), "power of 2"],
];

for (const [what, bytes, message] of bad) {
  Deno.test(`parseGgufHeader() refuses ${what}`, () => {
    const error = assertThrows(() => parse(bytes), TensaurError);
    assert(error instanceof ModelFormatError || error instanceof NotSupportedError, error.name);
    assert(error.message.includes(message), error.message);
  });
}

const runs = full ? 20_000 : 5_000;
Deno.test(`parseGgufHeader() survives ${runs} mutated files: a typed error, or tensors inside the file`, () => {
  const next = random(20261);
  let read = 0;
  for (let run = 0; run < runs; run++) {
    const bytes = mutated(good, next);
    try {
      const header = parse(bytes);
      for (const { start, end } of header!.tensors.values()) assert(start <= end && end <= bytes.length);
      read++;
    } catch (error) {
      if (!(error instanceof TensaurError)) throw error;
    }
  }
  assert(read > runs / 50, `${read} of ${runs} were read`);
});

Deno.test("GgufCheckpoint gives rows in Hugging Face's order, blocks as numbers, in pieces of any size", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeFile(`${dir}/x.gguf`, good);
    using checkpoint = new GgufCheckpoint(
      await openGguf(await openInside(dir, "x.gguf")),
      new Map([["heads", { source: "m", heads: 2 }], ["numbers", { source: "q" }], ["blocks", {
        source: "q",
        blocks: true,
      }]]),
    );
    const rows = new Float32Array((await checkpoint.read("heads")).slice().buffer),
      stored = new Float32Array(matrix.buffer);
    for (let row = 0; row < 8; row++) {
      const at = [0, 2, 1, 3, 4, 6, 5, 7][row]!;
      assertEquals(rotaryRow(row, 4), at);
      assertEquals([...rows.subarray(4 * row, 4 * row + 4)], [...stored.subarray(4 * at, 4 * at + 4)]);
    }
    const pieces: number[] = [];
    for await (const chunk of checkpoint.chunks("heads", { start: 16, end: 112, maxBytes: 40 })) pieces.push(...chunk);
    assertEquals(pieces, [...new Uint8Array(rows.buffer, 16, 96)]);
    assertEquals((await checkpoint.read("blocks")).length, 72);
    const numbers = new Float32Array((await checkpoint.read("numbers")).slice().buffer);
    assertEquals(numbers.length, 128);
    assertEquals(numbers[0], numbers[1]);
    assertEquals(checkpoint.tensors.get("blocks")!.dtype as string, "Q4_0");
    await assertRejects(() => checkpoint.chunks("heads", { start: 3, maxBytes: 16 }).next(), ValueError, "whole rows");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("GgufCheckpoint.checkScales() finds every scale of every format that is not finite, and no code", async () => {
  const dir = await Deno.makeTempDir(), next = random(8), BLOCKS = 6;
  try {
    for (const format of Object.values(BLOCK_FORMATS)) {
      const { name, size, bytes } = format, block = unpackedBlock(format);
      for (let run = 0; run < 24; run++) {
        const data = Uint8Array.from({ length: BLOCKS * bytes }, () => next() < 0.3 ? 0x7e : next() * 256);
        const good = run % 4 === 0;
        for (let at = 0; good && at < data.length; at += bytes) {
          for (const s of format.scales) data.fill(0, at + s, at + s + 2);
        }
        const bad = Array.from({ length: BLOCKS }, (_, i) => {
          format.unpack(data, i * bytes, block);
          return !(Number.isFinite(block.d) && Number.isFinite(block.dmin));
        }).indexOf(true);
        await writeGguf(`${dir}/x.gguf`, [], [{ name: "q", type: name, shape: [2, 3 * size], data: () => once(data) }]);
        using checkpoint = new GgufCheckpoint(
          await openGguf(await openInside(dir, "x.gguf")),
          new Map([["w", { source: "q", blocks: run % 2 === 0 }]]),
        );
        const error = await checkpoint.checkScales().catch((error) => error);
        if (bad < 0) assertEquals(error, undefined);
        else {assert(
            error instanceof ModelFormatError && error.message.includes(`: block ${bad} has`),
            `${name} ${error}`,
          );}
        assert(!good || bad < 0);
      }
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("writeGguf() leaves nothing half-written: wrong lengths, errors, an AbortSignal", async () => {
  const dir = await Deno.makeTempDir(), path = `${dir}/x.gguf`;
  try {
    await Deno.writeTextFile(path, "what was there");
    const short: GgufTensorToSave = { ...TENSORS[0]!, data: () => once(new Uint8Array(5)) };
    await assertRejects(() => writeGguf(path, METADATA, [short]), ValueError, "m must have 128 bytes: 5 came");
    await assertRejects(
      () => writeGguf(path, METADATA, [{ ...TENSORS[1]!, shape: [2, 60] }]),
      ValueError,
      "whole rows",
    );
    await assertRejects(() => writeGguf(path, METADATA, TENSORS, AbortSignal.abort()), AbortError);
    assertEquals([...Deno.readDirSync(dir)].map(({ name }) => name), ["x.gguf"]);
    assertEquals(await Deno.readTextFile(path), "what was there");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
