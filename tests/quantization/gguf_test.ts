import { assertEquals, assertRejects } from "@std/assert";
import { NotSupportedError } from "../../src/errors.ts";
import { ggufQuantization } from "../../src/quantization/gguf.ts";
import {
  BLOCK_FORMATS,
  type BlockFormat,
  type BlockName,
  dequantizeBlocks,
} from "../../src/quantization/gguf_blocks.ts";
import type { QuantizedLinear } from "../../src/quantization/quantized_linear.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { randn, random, testDevice } from "../helpers.ts";
import { assertWithin } from "../models/fixture.ts";
import { memoryReader, productOf, type StoredData, weightsOf } from "./reader.ts";

const device = await testDevice();

/** Where each format keeps its scales as f16. */
const HALVES: Readonly<Record<BlockName, number[]>> = {
  ...{ Q4_0: [0], Q4_1: [0, 2], Q5_0: [0], Q5_1: [0, 2], Q8_0: [0] },
  ...{ Q2_K: [80, 82], Q3_K: [108], Q4_K: [0, 2], Q5_K: [0, 2], Q6_K: [208] },
};

/** Rows of random blocks with sane scales, and the numbers that they stand for. */
function randomBlocks({ name, bytes, size }: BlockFormat, rows: number, K: number, seed: number) {
  const next = random(seed), data = Uint8Array.from({ length: rows * K / size * bytes }, () => next() * 256);
  const view = new DataView(data.buffer);
  for (let at = 0; at < data.length; at += bytes) {
    for (const half of HALVES[name]) view.setFloat16(at + half, (next() - 0.3) / 50, true);
  }
  const numbers = new Float32Array(rows * K);
  dequantizeBlocks(BLOCK_FORMATS[name], data, numbers);
  return { data, numbers };
}

/** Loads the layer of parts [outputs, K], each in its format. */
async function load(K: number, parts: [BlockName, outputs: number][]) {
  const tensors: Record<string, StoredData> = {}, want: number[] = [];
  for (const [i, [name, rows]] of parts.entries()) {
    const { data, numbers } = randomBlocks(BLOCK_FORMATS[name], rows, K, i + 1);
    tensors[`p${i}.weight`] = { dtype: name as StoredData["dtype"], shape: [rows, K], data };
    for (const v of numbers) want.push(v);
  }
  const outputs = parts.map(([, rows]) => rows), N = outputs.reduce((a, b) => a + b), bias = randn(N, 3);
  let at = 0;
  for (const [i, rows] of outputs.entries()) {
    tensors[`p${i}.bias`] = { dtype: "F32", shape: [rows], data: bias.slice(at, at += rows) };
  }
  const [reader, lookup] = memoryReader(device, tensors);
  const layer = { names: parts.map((_, i) => `p${i}`), inputs: K, outputs, bias: true, conv1d: false };
  const scheme = ggufQuantization(4).schemeOf(layer, lookup)!;
  const linear = await scheme.load(reader, layer, lookup) as QuantizedLinear;
  await device.stream.settled(); // as the loader does at its end
  return { linear, scheme, planned: scheme.bytes(layer, lookup), want: Float32Array.from(want), bias };
}

// a whole file mixes formats: what is side by side need not be alike
const cases: [K: number, parts: [BlockName, number][]][] = [
  ...(Object.keys(BLOCK_FORMATS) as BlockName[]).map((name): [number, [BlockName, number][]] => [512, [[name, 7]]]),
  [32, [["Q4_0", 1]]],
  [96, [["Q5_1", 3], ["Q5_1", 2], ["Q8_0", 5]]],
  [256, [["Q4_K", 9], ["Q4_K", 3], ["Q6_K", 3]]],
];

for (const [K, parts] of cases) {
  Deno.test(`ggufQuantization() keeps ggml's bits and multiplies: ${parts.map((p) => p.join("x")).join(" + ")} of ${K}`, async () => {
    const before = device.pool.stats.bytesInUse;
    const { linear: made, planned, want, bias } = await load(K, parts);
    {
      using linear = made;
      assertEquals(device.pool.stats.bytesInUse - before, planned.byteLength);
      const got = await weightsOf(linear, device);
      const wrong = want.findIndex((v, i) => v !== got[i]);
      assertEquals(wrong, -1, `weight ${wrong}: got ${got[wrong]}, want ${want[wrong]}`);
      for (const rows of K === 512 ? [1] : [1, 5]) {
        const x = randn(rows * K, 5);
        using input = tensor(device, x, [rows, K]);
        using y = linear.forward(input);
        assertWithin("y", await y.read() as Float32Array, productOf(x, want, K, bias), 1e-4);
      }
    }
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}

Deno.test("ggufQuantization() takes what ggml takes, or 3 % more", async () => {
  for (const name of Object.keys(BLOCK_FORMATS) as BlockName[]) {
    const { linear, planned } = await load(2048, [[name, 512]]);
    linear[Symbol.dispose]();
    const { bytes, size } = BLOCK_FORMATS[name], theory = 2048 * 512 / size * bytes + 4 * 512;
    assertEquals(planned.byteLength <= 1.03 * theory, true, `${name}: ${planned.byteLength / theory}`);
  }
});

Deno.test("ggufQuantization() refuses blocks beside numbers", async () => {
  const dtypes: Record<string, string> = { "a.weight": "Q4_0", "b.weight": "F16" };
  const lookup = (name: string) => ({ dtype: dtypes[name]!, shape: [1, 32], byteLength: 18 });
  const layer = { names: ["a", "b"], inputs: 32, outputs: [1, 1], bias: false, conv1d: false };
  const error = await assertRejects(
    () => Promise.resolve().then(() => ggufQuantization(4).schemeOf(layer, lookup)),
    NotSupportedError,
  );
  assertEquals(error.message.includes("b is not"), true);
});
