/** Damaged GGUF files through loadModel(): header, metadata, offsets, types, scales. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { ModelFormatError, TensaurError } from "../../src/errors.ts";
import { loadModel, type LoadOptions } from "../../src/models/mod.ts";
import { findModelFiles } from "../../src/models/model_files.ts";
import { familyOf } from "../../src/models/registry.ts";
import { writeGgufModel } from "../../src/models/write_gguf.ts";
import { decode } from "../../src/tensor/dtype.ts";
import { setWarningHook } from "../../src/warn.ts";
import { parseGgufHeader } from "../../src/weights/gguf.ts";
import { FLOATS } from "../../src/weights/piece.ts";
import { type TensorToSave, writeSafetensors } from "../../src/weights/save.ts";
import { cpuTime, random, testDevice } from "../helpers.ts";
import { TemporaryFolder } from "../weights/fixture.ts";
import { relativeError } from "./fixture.ts";
import { bytesOf, TINY_CONFIGS, writeModel } from "./tiny_model.ts";

const device = await testDevice();
const RUNS = Deno.env.get("TENSAUR_TEST_FULL") === "1" ? 5000 : 120;
const LONGEST = 5000; // CPU milliseconds of one file: none hangs

/** A whole file of one layer, in blocks but for its vectors. */
async function wholeFile(): Promise<Uint8Array<ArrayBuffer>> {
  using folder = new TemporaryFolder();
  const sizes = { hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2 };
  await writeModel(folder, { ...TINY_CONFIGS.llama, ...sizes, num_key_value_heads: 1, vocab_size: 40 });
  const { json, checkpoint } = await findModelFiles(folder.path, {});
  using tensors = await checkpoint();
  const out = `${folder.path}/whole.gguf`, model = { checkpoint: tensors, json, family: familyOf(json) };
  await writeGgufModel(out, model, { to: "Q4_0", name: "whole", tokenizer: [] });
  return await Deno.readFile(out);
}

const whole = await wholeFile();
const header = parseGgufHeader(whole, whole.length, "whole.gguf")!;
const begin = Math.min(...header.tensors.values().map(({ start }) => start));
const matrices = [...header.tensors.values()].filter(({ shape }) => shape.length === 2);
const ODD = [0, 1, 2, 3, 7, 31, 33, 255, 2 ** 16, 2 ** 31, 2 ** 32 - 1];

/** Where `text` ends in the header. */
function endOf(text: string): number {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < begin; at++) if (bytes.every((byte, i) => whole[at + i] === byte)) return at + bytes.length;
  throw new Error(text);
}

const numbers = [...header.metadata].filter(([, value]) => typeof value === "number").map(([key]) => endOf(key) + 4);
const places = [...header.tensors.values()].map(({ name, shape }) => {
  const at = endOf(name) + 4; // behind the number of dimensions
  return { shape: at, rank: shape.length, type: at + 8 * shape.length, offset: at + 8 * shape.length + 4 };
});

type Change = (bytes: Uint8Array<ArrayBuffer>, below: (n: number) => number) => Uint8Array<ArrayBuffer> | void;
const CHANGES: readonly Change[] = [
  (bytes, below) => void (bytes[below(begin)] = below(256)), // anything in the header
  (bytes, below) => void (bytes[below(begin)]! ^= 1 << below(8)),
  (bytes, below) => bytes.slice(0, below(bytes.length)), // cut
  (bytes, below) => view(bytes).setUint32(numbers[below(numbers.length)]!, ODD[below(ODD.length)]!, true), // lying metadata
  (bytes, below) => void view(bytes).setUint32(8 + 8 * below(2), below(40), true), // lying counts
  (bytes, below) => void view(bytes).setUint32(places[below(places.length)]!.type, below(32), true),
  (bytes, below) => void view(bytes).setUint32(places[below(places.length)]!.offset, 32 * below(80), true),
  (bytes, below) => {
    const { shape, rank } = places[below(places.length)]!;
    view(bytes).setUint32(shape + 8 * below(rank), ODD[below(ODD.length)]!, true);
  },
  (bytes, below) => { // a scale that is NaN, infinite or anything
    const { start, end } = matrices[below(matrices.length)]!, block = below((end - start) / 18);
    view(bytes).setUint16(start + 18 * block, [0x7e00, 0x7c00, 0xfc00, below(65536)][below(4)]!, true);
  },
  (bytes, below) => void (bytes[begin + below(bytes.length - begin)] = below(256)), // anything in the data
];

function view(bytes: Uint8Array<ArrayBuffer>): DataView {
  return new DataView(bytes.buffer);
}

/** Logits of the file, or the name of the error that refused it. */
async function outcome(path: string, options: LoadOptions = {}): Promise<Float32Array | string> {
  try {
    using model = await loadModel(path, { device, ...options });
    const tokens = [3, 1, 4].map((id) => Math.min(id, model.sizes.vocabSize - 1));
    using result = await model.forward({ inputIds: [tokens] });
    return await result.logits!.read() as Float32Array;
  } catch (error) {
    if (error instanceof TensaurError) return error.name;
    throw error;
  }
}

Deno.test(`loadModel() of ${RUNS} damaged GGUF files: a typed error, or what the file says; nothing leaks or hangs`, async () => {
  using folder = new TemporaryFolder();
  const path = `${folder.path}/x.gguf`, next = random(64), below = (n: number) => Math.floor(next() * n);
  const seen: Record<string, number> = {};
  let overflown = 0;
  const warn = setWarningHook(() => {});
  try {
    await Deno.writeFile(path, whole);
    assert(typeof await outcome(path) === "object");
    const before = device.pool.stats.bytesInUse;
    for (let run = 0; run < RUNS; run++) {
      let bytes = whole.slice();
      for (let i = below(3); i >= 0 && bytes.length > begin; i--) {
        bytes = CHANGES[(run + 3 * i) % CHANGES.length]!(bytes, below) ?? bytes;
      }
      await Deno.writeFile(path, bytes);
      const start = cpuTime(), got = await outcome(path);
      assert(cpuTime() - start < LONGEST, `run ${run} took ${cpuTime() - start} ms`);
      const kind = typeof got === "string" ? got : "loaded";
      seen[kind] = (seen[kind] ?? 0) + 1;
      if (typeof got !== "string" && !await compare(path, got, run)) overflown++;
      assertEquals(device.pool.stats.bytesInUse, before, `run ${run} leaks`);
    }
  } finally {
    setWarningHook(warn);
    await device.stream.settled();
  }
  assert(seen.loaded! > RUNS / 20 && seen.ModelFormatError! > RUNS / 5, JSON.stringify(seen));
  assert(overflown <= 1 + RUNS / 1000, `${overflown} of ${seen.loaded} overflow`);
});

Deno.test("loadModel() refuses a GGUF file with a scale that is NaN, in blocks or as numbers, before it allocates", async () => {
  using folder = new TemporaryFolder();
  const path = `${folder.path}/x.gguf`, bytes = whole.slice(), { name, end } = matrices.at(-1)!;
  view(bytes).setUint16(end - 18, 0x7e00, true);
  await Deno.writeFile(path, bytes);
  for (const options of [{}, { dtype: "float16" }] as const) {
    const made = device.pool.stats.created;
    const message = `Cannot load ${name} as scales must be finite numbers`;
    await assertRejects(() => loadModel(path, { device, ...options }), ModelFormatError, message);
    assertEquals(device.pool.stats.created, made);
  }
});

/** The kernels over blocks give what float32 kernels do of the same numbers; false if any of these overflow. */
async function compare(path: string, got: Float32Array, run: number): Promise<boolean> {
  using folder = new TemporaryFolder();
  await writeNumbers(path, folder);
  const want = await outcome(folder.path, { dtype: "float32" });
  assert(typeof want === "object" && want.length === got.length, `run ${run}: ${want} in float32`);
  const finite = got.map((v, i) => Number.isFinite(v) && Number.isFinite(want[i]) ? 1 : 0);
  for (const [i, both] of finite.entries()) {
    // scaled sooner or later, a number overflows in one form alone: only where it is near the end of float32
    assert(both || !(Math.abs(got[i]!) < 1e30 || Math.abs(want[i]!) < 1e30), `run ${run}: ${got[i]}, ${want[i]}`);
  }
  const error = relativeError(got.filter((_, i) => finite[i]), want.filter((_, i) => finite[i]));
  assert(error < 1e-4, `run ${run}: ${error}`);
  return finite.every((both) => both);
}

/** Writes the file's numbers as safetensors: the matrices that loading in blocks rounds to the model's dtype, rounded. */
async function writeNumbers(path: string, folder: TemporaryFolder): Promise<void> {
  const { json, checkpoint: open } = await findModelFiles(path, {});
  using blocks = await open();
  using numbers = await (await findModelFiles(path, { dtype: "float32" })).checkpoint();
  const to = ({ float16: "F16", bfloat16: "BF16", float32: "F32" } as const)[String(json.torch_dtype)]!;
  const tensors: TensorToSave[] = [];
  for (const [name, { dtype, shape }] of numbers.tensors) {
    const data = await numbers.read(name), rounded = shape.length === 2 && blocks.tensors.get(name)!.dtype === dtype;
    if (!rounded) tensors.push({ name, dtype, shape, data });
    else {
      const float = Float32Array.from(decode(data.slice().buffer, FLOATS[dtype]!));
      tensors.push({ name, dtype: to, shape, data: bytesOf(float, to) });
    }
  }
  folder.write("config.json", json);
  await writeSafetensors(`${folder.path}/model.safetensors`, tensors);
}
