/** Codes beyond the largest binding are split by outputs, whatever the scheme: a device with a small limit shows it. */
import { assert, assertEquals } from "@std/assert";
import type { Device } from "../../src/gpu/mod.ts";
import { argmax } from "../../src/ops/argmax.ts";
import { sampleLogits } from "../../src/ops/sample_logits.ts";
import { samplingParams } from "../../src/ops/sampling_params.ts";
import type { Fusion } from "../../src/ops/matmul_packed.ts";
import { BitsAndBytesConfig } from "../../src/quantization/bitsandbytes_config.ts";
import { quantizeTo4bit, stored4bit } from "../../src/quantization/bnb4.ts";
import { savedByBitsandbytes } from "../../src/quantization/bnb_save.ts";
import { ggufQuantization } from "../../src/quantization/gguf.ts";
import { quantizeToBlocks, type WrittenBlock } from "../../src/quantization/gguf_quantize.ts";
import { awq, gptq } from "../../src/quantization/gptq.ts";
import { quantizeToInt8, storedInt8 } from "../../src/quantization/int8.ts";
import type { QuantizedLinear } from "../../src/quantization/quantized_linear.ts";
import type { Lookup, Scheme } from "../../src/quantization/scheme.ts";
import { split } from "../../src/quantization/split.ts";
import { loadModel } from "../../src/models/mod.ts";
import { quantizeModel } from "../../src/pipelines/mod.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, random, testDevice } from "../helpers.ts";
import { TemporaryFolder } from "../weights/fixture.ts";
import { loadLayer, memoryReader, type StoredData, weightsOf } from "./reader.ts";

const device = await testDevice(), full = Deno.env.get("TENSAUR_TEST_FULL") === "1";

function limited(most: number): Device {
  return Object.create(device, { limits: { value: { ...device.limits, maxStorageBufferBindingSize: most } } });
}

type Stored = (name: string, rows: number, K: number, seed: number) => Record<string, StoredData>;

const floats: Stored = (name, rows, K, seed) => ({
  [`${name}.weight`]: { dtype: "F32", shape: [rows, K], data: Float32Array.from(randn(rows * K, seed)) },
});

const saved = (options: ConstructorParameters<typeof BitsAndBytesConfig>[0]): Stored => (name, rows, K, seed) => {
  const config = new BitsAndBytesConfig(options), x = randn(rows * K, seed);
  const { tensors } = savedByBitsandbytes(`${name}.weight`, x, [rows, K], config, "float32");
  return Object.fromEntries(tensors.map(({ name, ...rest }) => [name, rest]));
};

const grouped = (bits: number, group: number, wide: boolean): Stored => (name, rows, K, seed) => {
  const next = random(seed), groups = K / group;
  const words = (shape: number[]): StoredData => {
    const data = Uint32Array.from({ length: shape[0]! * shape[1]! }, () => Math.floor(next() * 2 ** 32));
    return { dtype: "I32", shape, data };
  };
  const scales = Float16Array.from(randn(groups * rows, seed + 1));
  return {
    [`${name}.qweight`]: words(wide ? [K, rows / 8] : [K * bits / 32, rows]),
    [`${name}.qzeros`]: words([groups, rows * bits / 32]),
    [`${name}.scales`]: { dtype: "F16", shape: [groups, rows], data: new Uint16Array(scales.buffer) },
    ...wide
      ? {}
      : { [`${name}.g_idx`]: { dtype: "I32", shape: [K], data: Int32Array.from({ length: K }, (_, k) => k % groups) } },
  };
};

const blocks = (format: WrittenBlock): Stored => (name, rows, K, seed) => {
  const data = quantizeToBlocks(format, randn(rows * K, seed));
  return { [`${name}.weight`]: { dtype: format as StoredData["dtype"], shape: [rows, K], data } };
};

const schemes: [name: string, scheme: Scheme | "gguf", stored: Stored, K: number, limit: number][] = [
  ["int8", quantizeToInt8(6), floats, 64, 3000],
  ["int8, stored", storedInt8(0), saved({ loadIn8bit: true }), 64, 3000],
  ["nf4", quantizeTo4bit({ kind: "nf4", block: 64, doubleQuant: false }), floats, 96, 1500],
  ["nf4, double", quantizeTo4bit({ kind: "nf4", block: 64, doubleQuant: true }), floats, 512, 34_000],
  [
    "nf4, double, stored",
    stored4bit,
    saved({ loadIn4bit: true, bnb4bitQuantType: "nf4", bnb4bitUseDoubleQuant: true }),
    512,
    34_000,
  ],
  ["fp4, stored", stored4bit, saved({ loadIn4bit: true }), 96, 1500],
  ["gptq 4-bit, permuted", gptq({ bits: 4, groupSize: 32, v2: false }), grouped(4, 32, false), 64, 1500],
  ["gptq 8-bit, permuted", gptq({ bits: 8, groupSize: 64, v2: true }), grouped(8, 64, false), 128, 5000],
  ["awq", awq({ bits: 4, groupSize: 32 }), grouped(4, 32, true), 64, 1500],
  ["q8_0", "gguf", blocks("Q8_0"), 64, 3000],
  ["q4_0", "gguf", blocks("Q4_0"), 64, 1500],
  ["q4_k", "gguf", blocks("Q4_K"), 256, 6000],
];

/** The layer whole and split, and how it was planned. */
async function both(scheme: Scheme | "gguf", stored: Stored, K: number, limit: number) {
  const outputs = K === 512 ? [300, 200] : [104, 56], names = outputs.map((_, i) => `p${i}`), tensors = {};
  for (const [i, rows] of outputs.entries()) {
    Object.assign(tensors, stored(`p${i}`, rows, K, i + 1));
    Object.assign(tensors, { [`p${i}.bias`]: { dtype: "F32", shape: [rows], data: randn(rows, 9 + i) } });
  }
  const layer = { names, inputs: K, outputs, bias: true, conv1d: false }, [, lookup] = memoryReader(device, tensors);
  const plain = scheme === "gguf" ? ggufQuantization(8).schemeOf(layer, lookup)! : split(scheme),
    small = limited(limit);
  const planned = plain.bytes(layer, lookup, limit);
  const whole = await loadLayer(device, plain, tensors, layer);
  const before = device.pool.stats.bytesInUse;
  const parts = await loadLayer(small, plain, tensors, layer);
  return { whole, parts, planned, taken: device.pool.stats.bytesInUse - before };
}

const fusions: (Fusion & { name: string; rows: number })[] = [
  { name: "a row with a norm and an activation", rows: 1, activation: "silu", norm: { weight: undefined!, eps: 1e-5 } },
  { name: "a gate and a residual", rows: 3, gate: "gelu", residual: undefined! },
  { name: "parts", rows: 3, parts: 2 },
  { name: "parts of weights that are unpacked", rows: 33, parts: 2 },
];

const SLOW = ["nf4", "fp4, stored", "gptq 8-bit, permuted", "q4_0", "q4_k"]; // kernels to compile, nothing new to split
for (const [name, scheme, stored, K, limit] of schemes.filter(([name]) => full || !SLOW.includes(name))) {
  Deno.test(`${name} in matrices of at most ${limit} bytes has the same weights and the same products`, async () => {
    const { whole: one, parts: several, planned, taken } = await both(scheme, stored, K, limit);
    using whole = one;
    using parts = several;
    assert(parts.matrices.length > Math.max(2, whole.matrices.length), `${parts.matrices.length} matrices`);
    for (const { w } of parts.matrices) assert(w.byteLength <= limit && w.byteLength <= planned.bufferBytes);
    assertEquals(taken, planned.byteLength);
    const got = await weightsOf(parts, device), want = await weightsOf(whole, device);
    assertEquals(got.findIndex((v, i) => v !== want[i]), -1); // zeros have no sign here
    const { outFeatures } = whole;
    using norm = tensor(device, randn(K, 4), [K]);
    const some = full ? fusions : fusions.slice(2); // each is kernels to compile
    for (const { name, rows, ...fusion } of some) {
      using x = tensor(device, randn(rows * K, 5), [rows, K]);
      using residual = tensor(device, randn(rows * outFeatures / 2, 6), [rows, outFeatures / 2]);
      const around = {
        ...fusion,
        ..."norm" in fusion ? { norm: { weight: norm, eps: 1e-5 } } : {},
        ..."residual" in fusion ? { residual } : {},
      };
      using want = whole.forward(x, around);
      using got = parts.forward(x, around);
      assertEquals(got.shape, want.shape, name);
      assertClose(name, await got.read(), await want.read(), { rtol: 1e-5, atol: 1e-5 });
    }
  });
}

Deno.test("a layer whose slices would not begin with a block's stays whole, and is refused by its size", () => {
  const scheme = split(quantizeTo4bit({ kind: "nf4", block: 64, doubleQuant: true })), lookup: Lookup = () => undefined;
  const layer = { names: ["m"], inputs: 64, outputs: [512], bias: false, conv1d: false };
  assert(scheme.bytes(layer, lookup, 4096).bufferBytes > 4096); // 256 rows share a nested scale
  assert(scheme.bytes(layer, lookup, 10_000).bufferBytes <= 10_000);
});

async function logitsOf(on: Device, path: string, quantizationConfig?: BitsAndBytesConfig) {
  using model = await loadModel(path, {
    device: on,
    dtype: path.endsWith(".gguf") ? undefined : "float32",
    quantizationConfig,
  });
  const before = device.stream.counters.dispatches;
  using output = await model.forward({ inputIds: [[3, 60, 2000, 41, 17]] });
  return { logits: await output.logits!.read(), kernels: device.stream.counters.dispatches - before };
}

for (const to of ["int8", "q8_0", "int8 while loading", ...full ? ["nf4"] as const : []] as const) {
  Deno.test(`loadModel() reads slices of a checkpoint: tensaur-tiny as ${to} where a binding is at most 100 KB`, async () => {
    using folder = new TemporaryFolder();
    const tiny = "models/tensaur-tiny", out = to === "q8_0" ? `${folder.path}/tiny.gguf` : `${folder.path}/tiny`;
    const config = to === "int8 while loading" ? new BitsAndBytesConfig({ loadIn8bit: true }) : undefined;
    if (to !== "int8 while loading") await quantizeModel(tiny, { to, out });
    const path = config ? tiny : out, before = device.pool.stats.bytesInUse;
    const whole = await logitsOf(device, path, config), split = await logitsOf(limited(100_000), path, config);
    assertClose("logits", split.logits, whole.logits, { rtol: 1e-4, atol: 1e-4 });
    assert(split.kernels > whole.kernels + 4, `${split.kernels} kernels, whole ${whole.kernels}`);
    assertEquals(device.pool.stats.bytesInUse, before); // each part was given back
  });
}

const HEAD = [151_936, 896] as const;

/** A head of zeros but for one token, whose row is that of `x`. */
function headOf(
  form: "int8" | "q8_0" | "q4_0",
  x: Float32Array,
  token: number,
): [Scheme | "gguf", Record<string, StoredData>] {
  const [V, D] = HEAD;
  if (form === "int8") {
    const data = new Int8Array(V * D), scale = 1 / 2;
    data.set(Int8Array.from(x, (v) => 127 * v / scale / 4), token * D);
    const absmax = { dtype: "F32", shape: [V], data: new Float32Array(V).fill(4 * scale) } as const;
    return [storedInt8(6), { "m.weight": { dtype: "I8", shape: [V, D], data }, "m.SCB": absmax }];
  }
  const row = quantizeToBlocks(form.toUpperCase() as WrittenBlock, x), data = new Uint8Array(V * row.length);
  data.set(row, token * row.length);
  return ["gguf", { "m.weight": { dtype: form.toUpperCase() as StoredData["dtype"], shape: HEAD, data } }];
}

for (const form of ["int8", "q8_0", "q4_0"] as const) {
  Deno.test({
    name: `a head of 151,936 x 896 as ${form} runs where a binding is at most 128 MiB, and its rows are embeddings`,
    ignore: !full, // 130 MiB twice
    async fn() {
      const [V, D] = HEAD, token = 140_003, limit = 128 * 2 ** 20;
      const x = randn(D).map((v) => Math.max(-1, Math.min(0.875, Math.round(8 * v) / 8)));
      const [scheme, tensors] = headOf(form, x, token);
      const layer = { names: ["m"], inputs: D, outputs: [V], bias: false, conv1d: false };
      const [, lookup] = memoryReader(device, tensors);
      const chosen = scheme === "gguf" ? ggufQuantization(8).schemeOf(layer, lookup)! : split(scheme);
      using head: QuantizedLinear = await loadLayer(limited(limit), chosen, tensors, layer);
      assertEquals(head.matrices.length, form === "q4_0" ? 1 : 2); // 65 MiB in 4 bits
      for (const rows of [1, 5]) {
        using many = tensor(device, Float32Array.from({ length: rows * D }, (_, i) => x[i % D]!), [rows, D]);
        using y = head.forward(many);
        using best = argmax(y);
        assertEquals([...await best.read()], Array(rows).fill(token));
        using params = samplingParams(device, [{ temperature: 0.1, topK: 50, seed: 3 }]);
        using drawn = sampleLogits(y, params, tensor(device, [0], [1], "uint32"));
        assertEquals([...await drawn.read()], Array(rows).fill(token));
      }
      using embedded = head.embed(tensor(device, [token, 5], [2], "uint32"));
      assertClose("embedding", await embedded.read(), [...x, ...Array(D).fill(0)], { rtol: 0.02, atol: 0.07 });
    },
  });
}
