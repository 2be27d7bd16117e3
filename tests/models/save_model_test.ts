import { assert, assertEquals, assertRejects } from "@std/assert";
import { AbortError, NotSupportedError } from "../../src/errors.ts";
import { loadModel, saveModel } from "../../src/models/mod.ts";
import { quantizeModel } from "../../src/pipelines/mod.ts";
import { BitsAndBytesConfig, type BitsAndBytesOptions } from "../../src/quantization/mod.ts";
import { findGguf } from "../../src/weights/gguf_files.ts";
import { GgufCheckpoint } from "../../src/weights/gguf_checkpoint.ts";
import { testDevice } from "../helpers.ts";
import { relativeError } from "./fixture.ts";

const device = await testDevice();
const TINY = "models/tensaur-tiny", IDS = [[1, 17, 300, 42]];
const dir = await Deno.makeTempDir();
addEventListener("unload", () => Deno.removeSync(dir, { recursive: true }));

async function logitsOf(path: string, quantizationConfig?: BitsAndBytesConfig): Promise<Float32Array> {
  using model = await loadModel(path, { device, quantizationConfig });
  using result = await model.forward({ inputIds: IDS });
  return await result.logits!.read() as Float32Array;
}

const settings: [string, BitsAndBytesOptions][] = [
  ["nf4", { loadIn4bit: true, bnb4bitQuantType: "nf4" }],
  ["nf4 double", { loadIn4bit: true, bnb4bitQuantType: "nf4", bnb4bitUseDoubleQuant: true }],
  ["fp4 of 128", { loadIn4bit: true, bnb4bitBlocksize: 128 }],
  ["int8", { loadIn8bit: true }],
];

for (const [what, options] of settings) {
  Deno.test(`saveModel() saves what was loaded, bit by bit: ${what}`, async () => {
    const out = `${dir}/${what}`, config = new BitsAndBytesConfig(options);
    using model = await loadModel(TINY, { device, quantizationConfig: config });
    using result = await model.forward({ inputIds: IDS });
    const want = await result.logits!.read() as Float32Array;
    await saveModel(model, out);
    const json = JSON.parse(await Deno.readTextFile(`${out}/config.json`));
    assertEquals(BitsAndBytesConfig.fromDict(json.quantization_config).toDict(), config.toDict());
    assertEquals(relativeError(await logitsOf(out), want), 0);
    using again = await loadModel(out, { device });
    assertEquals(again.quantization, model.quantization);
    await saveModel(again, `${out} again`); // as it is
    assertEquals(relativeError(await logitsOf(`${out} again`), want), 0);
    await assertRejects(() => quantizeModel(out, { to: "q8_0", out: `${dir}/x.gguf` }), NotSupportedError);
  });
}

Deno.test("saveModel() of a GGUF model saves its file, whatever it was unpacked to; bitsandbytes' codes of it are refused", async () => {
  const file = `${dir}/original.gguf`, out = `${dir}/saved gguf`;
  await quantizeModel(TINY, { to: "q8_0", out: file });
  for (const dtype of [undefined, "float32"] as const) {
    using model = await loadModel(file, { device, dtype });
    await saveModel(model, out);
    assertEquals(await Deno.readFile(`${out}/original.gguf`), await Deno.readFile(file));
    assertEquals([...Deno.readDirSync(out)].length, 1);
    await Deno.remove(out, { recursive: true });
  }
  using coded = await loadModel(file, { device, quantizationConfig: new BitsAndBytesConfig({ loadIn8bit: true }) });
  await assertRejects(
    () => saveModel(coded, out),
    NotSupportedError,
    "it was quantized from the GGUF file original.gguf",
  );
});

Deno.test("saveModel() leaves nothing half-written when it is stopped", async () => {
  using model = await loadModel(TINY, { device });
  await assertRejects(() => saveModel(model, `${dir}/stopped`, { signal: AbortSignal.abort() }), AbortError);
  const stop = new AbortController(), out = `${dir}/stopped.gguf`;
  const onProgress = ({ phase }: { phase: string }) => phase === "save" && stop.abort();
  await assertRejects(() => quantizeModel(TINY, { to: "q4_0", out, onProgress, signal: stop.signal }), AbortError);
  const left = [...Deno.readDirSync(dir)].map(({ name }) => name).filter((name) => name.startsWith("stopped"));
  assert(
    left.every((name) => name === "stopped") &&
      (left.length === 0 || [...Deno.readDirSync(`${dir}/stopped`)].length === 0),
  );
});

interface ReadBack {
  count?: number;
  different?: number;
  keys: string[];
  tensors: Record<string, { shape: number[]; sha256: string } | string>;
  logits?: number[] | null;
}

/** What tools/read_back.py reads; undefined where Python lacks what it needs. */
async function readBack(path: string, original: string[] = []): Promise<ReadBack | undefined> {
  const run = new Deno.Command("python3", { args: ["tools/read_back.py", path, ...original], stderr: "piped" });
  const { success, stdout, stderr } = await run.output().catch(() => ({
    success: false,
    stdout: undefined,
    stderr: undefined,
  }));
  if (success) return JSON.parse(new TextDecoder().decode(stdout));
  const error = new TextDecoder().decode(stderr);
  if (error === "" || /ModuleNotFoundError|ImportError/.test(error)) return undefined;
  throw new Error(error);
}

async function hash(bytes: Uint8Array): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes.slice())).toHex();
}

for (const to of ["q4_0", "q8_0", "q4_k"] as const) {
  Deno.test(`quantizeModel() writes GGUF that Python's gguf unpacks to the same bits: ${to}`, async () => {
    const out = `${dir}/${to}.gguf`;
    await quantizeModel(TINY, { to, out });
    const found = await readBack(out);
    if (!found) return console.warn("skipped: python3 with gguf is not there");
    const { gguf } = (await findGguf(out, {}))!;
    using checkpoint = new GgufCheckpoint(
      gguf,
      new Map(gguf.header.tensors.keys().map((name) => [name, { source: name }])),
    );
    assertEquals([...gguf.header.metadata.keys()].sort(), found.keys);
    assertEquals(Object.keys(found.tensors).length, checkpoint.tensors.size);
    for (const [name, { shape }] of checkpoint.tensors) {
      assertEquals(found.tensors[name], { shape: [...shape], sha256: await hash(await checkpoint.read(name)) }, name);
    }
  });
}

Deno.test("quantizeModel() writes nf4 that bitsandbytes unpacks to the same bits", async () => {
  const out = `${dir}/python-nf4`;
  await quantizeModel(TINY, { to: "nf4", out });
  const found = await readBack(out);
  if (!found) return console.warn("skipped: python3 with bitsandbytes and transformers is not there");
  const { savedByBitsandbytes } = await import("../../src/quantization/bnb_save.ts");
  const { openCheckpoint } = await import("../../src/weights/checkpoint.ts");
  using checkpoint = await openCheckpoint(TINY);
  const config = new BitsAndBytesConfig({ loadIn4bit: true, bnb4bitQuantType: "nf4" });
  assert(Object.keys(found.tensors).length === 35);
  for (const [name, sha256] of Object.entries(found.tensors)) {
    const { shape } = checkpoint.tensors.get(name)!, [rows = 0, K = 0] = shape;
    const x = Float32Array.from(new Float16Array((await checkpoint.read(name)).slice().buffer));
    const { numbers } = savedByBitsandbytes(name, x, [rows, K], config, "float16");
    assertEquals(await hash(new Uint8Array(numbers.slice().buffer)), sha256, name);
  }
  if (found.logits) assert(relativeError(await logitsOf(out), found.logits) < 0.02);
});

const full = Deno.env.get("TENSAUR_TEST_FULL") === "1"; // Python starts slowly

Deno.test(
  "quantizeModel() writes int8 codes and scales that bitsandbytes makes itself",
  { ignore: !full },
  async () => {
    const out = `${dir}/python-int8`;
    await quantizeModel(TINY, { to: "int8", out });
    const found = await readBack(out, [TINY]);
    if (!found) return console.warn("skipped: python3 with bitsandbytes is not there");
    assertEquals([found.count! > 2_000_000, found.different], [true, 0]);
  },
);
