import { assertEquals } from "@std/assert";
import { LOW_BITS } from "../../src/ops/quantized_matmul.ts";
import { type Bnb4Options, quantizeTo4bit, stored4bit } from "../../src/quantization/bnb4.ts";
import {
  CODE_BOOKS,
  type CodeBook,
  dequantizeAbsmax,
  dequantizeBlocks,
  packNibbles,
  quantizeAbsmax,
  quantizeBlocks,
} from "../../src/quantization/code_books.ts";
import { awq, gptq } from "../../src/quantization/gptq.ts";
import { quantizeToInt8, storedInt8 } from "../../src/quantization/int8.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, random, testDevice } from "../helpers.ts";
import { assertWithin } from "../models/fixture.ts";
import { type GoldenCase, goldenCases, type GoldenTensor } from "../reference.ts";
import { loadLayer, productOf, type StoredData, weightsOf } from "./reader.ts";

const device = await testDevice();

/** Every bit counts, but zeros have no sign here. */
function assertSame(name: string, got: Float32Array, want: ArrayLike<number>): void {
  assertEquals(got.length, want.length, name);
  const at = got.findIndex((v, i) => v !== want[i] && !(Number.isNaN(v) && Number.isNaN(want[i])));
  assertEquals(at, -1, `${name}[${at}]: got ${got[at]}, want ${want[at]}`);
}

function f32(data: ArrayLike<number>, shape: number[]): StoredData {
  return { dtype: "F32", shape, data: Float32Array.from(data) };
}

/** What bitsandbytes writes for a weight, keys and all. */
function savedByBitsandbytes(
  name: string,
  x: Float32Array,
  [rows, K]: readonly [number, number],
  { kind, block, doubleQuant }: Bnb4Options,
): Record<string, StoredData> {
  const { codes, absmax } = quantizeBlocks(x, kind, block), nested = quantizeAbsmax(absmax);
  const state = { quant_type: kind, blocksize: block, dtype: "float32", shape: [rows, K] };
  const more = { nested_blocksize: 256, nested_dtype: "float32", nested_offset: nested.offset };
  const text = new TextEncoder().encode(JSON.stringify(doubleQuant ? { ...state, ...more } : state));
  const packed = packNibbles(codes), at = `${name}.weight`;
  const saved: Record<string, StoredData> = {
    [at]: { dtype: "U8", shape: [packed.length, 1], data: packed as Uint8Array<ArrayBuffer> },
    [`${at}.absmax`]: doubleQuant
      ? { dtype: "U8", shape: [absmax.length], data: nested.codes as Uint8Array<ArrayBuffer> }
      : f32(absmax, [absmax.length]),
    [`${at}.quant_map`]: f32(CODE_BOOKS[kind], [16]),
    [`${at}.quant_state.bitsandbytes__${kind}`]: { dtype: "U8", shape: [text.length], data: text },
  };
  if (!doubleQuant) return saved;
  return {
    ...saved,
    [`${at}.nested_absmax`]: f32(nested.scales, [nested.scales.length]),
    [`${at}.nested_quant_map`]: f32(nested.map, [256]),
  };
}

interface BnbCase extends GoldenCase {
  params: { kind: CodeBook; blocksize: number; shape: [number, number]; double: boolean };
  inputs?: { x: GoldenTensor };
  outputs: { dequantized: GoldenTensor; packed: GoldenTensor };
}

const bnb = await goldenCases<BnbCase>("data/ops/bnb_4bit", "bnb_4bit");
for (const { name, params: { kind, blocksize: block, shape, double: doubleQuant }, outputs } of bnb) {
  const plain = name.replace("_double", ""), x = bnb.find((c) => c.name === plain)?.inputs?.x.data as Float32Array;
  if (!x) continue;
  Deno.test(`${name}: what is quantized, and what bitsandbytes saved, has its bits`, async () => {
    const [rows, inputs] = shape, options = { kind, block, doubleQuant };
    using made = await loadLayer(device, quantizeTo4bit(options), { "m.weight": f32(x, shape) }, {
      inputs,
      outputs: [rows],
    });
    assertSame("quantized while loading", await weightsOf(made, device), outputs.dequantized.data as Float32Array);
    const saved = savedByBitsandbytes("m", x, shape, options);
    assertEquals(saved["m.weight"]!.data, Uint8Array.from(outputs.packed.data as Uint8Array));
    using stored = await loadLayer(device, stored4bit, saved, { inputs, outputs: [rows] });
    assertSame("as saved", await weightsOf(stored, device), outputs.dequantized.data as Float32Array);
  });
}

// parts, K, block: one number, one row, a short last block, K no multiple of the block, many blocks in a row, zeros
const odd: [outputs: number[], K: number, block: number][] = [
  [[1], 1, 64],
  [[5], 33, 32],
  [[7, 2], 96, 64],
  [[9, 3, 4], 256, 32],
  [[130], 4096, 4096],
  [[66, 30], 64, 64],
];

for (const kind of ["nf4", "fp4"] as const) {
  for (const doubleQuant of [false, true]) {
    Deno.test(`quantizeTo4bit() and stored4bit agree with the plain form on odd shapes: ${kind}${doubleQuant ? " double" : ""}`, async () => {
      for (const [outputs, K, block] of odd) {
        const names = outputs.map((_, i) => `p${i}`), options = { kind, block, doubleQuant };
        const floats: Record<string, StoredData> = {}, saved: Record<string, StoredData> = {}, want: number[] = [];
        for (const [i, rows] of outputs.entries()) {
          const x = randn(rows * K, i + 1).map((v, j) => j >= K / 2 && j < K / 2 + 2 * block ? 0 : v);
          floats[`p${i}.weight`] = f32(x, [rows, K]);
          Object.assign(saved, savedByBitsandbytes(`p${i}`, x, [rows, K], options));
          const { codes, absmax } = quantizeBlocks(x, kind, block);
          const sizes = doubleQuant ? dequantizeAbsmax(quantizeAbsmax(absmax)) : absmax;
          for (const v of dequantizeBlocks({ codes, absmax: sizes }, CODE_BOOKS[kind], block)) want.push(v);
        }
        const bias = randn(outputs.reduce((a, b) => a + b), 9);
        let at = 0;
        for (const [i, rows] of outputs.entries()) {
          floats[`p${i}.bias`] = saved[`p${i}.bias`] = f32(bias.subarray(at, at += rows), [rows]);
        }
        const layer = { names, inputs: K, outputs, bias: true };
        using made = await loadLayer(device, quantizeTo4bit(options), floats, layer);
        using stored = await loadLayer(device, stored4bit, saved, layer);
        assertSame(`made ${outputs} ${K}`, await weightsOf(made, device), want);
        assertSame(`stored ${outputs} ${K}`, await weightsOf(stored, device), want);
        const x = randn(K, 5);
        using y = made.forward(tensor(device, x, [1, K]));
        assertWithin("product", await y.read() as Float32Array, productOf(x, Float32Array.from(want), K, bias), 1e-4);
      }
    });
  }
}

interface GroupCase extends GoldenCase {
  params: { bits: 4; group_size: number; out_features: number; in_features: number };
  inputs: { qweight: GoldenTensor; qzeros: GoldenTensor; scales: GoldenTensor; g_idx?: GoldenTensor };
  outputs: { weight: GoldenTensor };
}

const words = (t: GoldenTensor): StoredData => ({
  dtype: "I32",
  shape: t.shape,
  data: Int32Array.from(t.data as Int32Array),
});
const halves = (t: GoldenTensor): StoredData => ({
  dtype: "F16",
  shape: t.shape,
  data: Float16Array.from(t.data as Float16Array),
});

for (const { name, op, params, inputs, outputs } of await goldenCases<GroupCase>("data/ops/gptq_awq", "gptq", "awq")) {
  Deno.test(`${name}: the weights have the reference's bits`, async () => {
    const settings = { bits: 4, groupSize: params.group_size, v2: false } as const;
    const { in_features: K, out_features: N } = params;
    using linear = await loadLayer(device, op === "gptq" ? gptq(settings) : awq(settings), {
      "m.qweight": words(inputs.qweight),
      "m.qzeros": words(inputs.qzeros),
      "m.scales": halves(inputs.scales),
      ...inputs.g_idx ? { "m.g_idx": words(inputs.g_idx) } : {},
    }, { inputs: K, outputs: [N] });
    assertSame("weights", await weightsOf(linear, device), outputs.weight.data as Float32Array);
    const x = randn(2 * K, 3);
    using y = linear.forward(tensor(device, x, [2, K]));
    assertWithin("y", await y.read() as Float32Array, productOf(x, outputs.weight.data as Float32Array, K), 1e-4);
  });
}

/** A stream of codes, each of `bits` bits, in words along the first of [length, lines]. */
function stream(
  codes: (i: number, line: number) => number,
  length: number,
  lines: number,
  bits: number,
): Int32Array<ArrayBuffer> {
  const out = new Int32Array(Math.ceil(length * bits / 32) * lines);
  for (let i = 0; i < length; i++) {
    for (let line = 0; line < lines; line++) {
      for (let b = 0; b < bits; b++) {
        const at = i * bits + b;
        if (codes(i, line) >> b & 1) out[(at >> 5) * lines + line]! |= 1 << (at & 31);
      }
    }
  }
  return out;
}

for (const bits of [2, 3, 4, 8] as const) {
  for (const v2 of [false, true]) {
    Deno.test(`gptq() reads ${bits} bits, ${v2 ? "v2" : "v1"}, parts with inputs in orders of their own`, async () => {
      const K = 96, outputs = [32, 64], groupSize = 32, next = random(bits), tensors: Record<string, StoredData> = {};
      const want: number[] = [];
      for (const [p, N] of outputs.entries()) {
        const codes = Uint8Array.from({ length: K * N }, () => next() * 2 ** bits);
        const zeros = Uint8Array.from({ length: 3 * N }, () => next() * 2 ** bits);
        const scales = Float16Array.from({ length: 3 * N }, () => next() + 0.01);
        const group = Int32Array.from({ length: K }, (_, k) => (p === 0 ? k * 5 : k * 7) % K / 32);
        const perRow = Math.ceil(N * bits / 32), stored = new Int32Array(3 * perRow);
        for (let g = 0; g < 3; g++) {
          const minus = v2 ? 0 : 1, row = stream((n) => (zeros[g * N + n]! - minus) & (2 ** bits - 1), N, 1, bits);
          stored.set(row, g * perRow);
        }
        tensors[`p${p}.qweight`] = {
          dtype: "I32",
          shape: [K * bits / 32, N],
          data: stream((k, n) => codes[k * N + n]!, K, N, bits),
        };
        tensors[`p${p}.qzeros`] = { dtype: "I32", shape: [3, perRow], data: stored };
        tensors[`p${p}.scales`] = { dtype: "F16", shape: [3, N], data: scales };
        tensors[`p${p}.g_idx`] = { dtype: "I32", shape: [K], data: group };
        for (let n = 0; n < N; n++) {
          for (let k = 0; k < K; k++) {
            want.push(scales[group[k]! * N + n]! * (codes[k * N + n]! - zeros[group[k]! * N + n]!));
          }
        }
      }
      const layer = { names: ["p0", "p1"], inputs: K, outputs };
      using linear = await loadLayer(device, gptq({ bits, groupSize, v2 }), tensors, layer);
      assertSame("weights", await weightsOf(linear, device), want);
      const x = randn(K, 4);
      using y = linear.forward(tensor(device, x, [1, K]));
      assertWithin("y", await y.read() as Float32Array, productOf(x, Float32Array.from(want), K), 1e-4);
      assertEquals(LOW_BITS[bits] <= bits, true);
    });
  }
}

interface Int8Case extends GoldenCase {
  params: { threshold: number };
  inputs: { x: GoldenTensor; weight: GoldenTensor; bias: GoldenTensor };
  outputs: { weight_int8: GoldenTensor; scb: GoldenTensor; out: GoldenTensor };
}

for (
  const { name, params, inputs, outputs, tolerance } of await goldenCases<Int8Case>("data/ops/llm_int8", "llm_int8")
) {
  Deno.test(`${name}: LLM.int8() has the reference's codes and products`, async () => {
    const [N = 0, K = 0] = inputs.weight.shape, x = inputs.x.data as Float32Array;
    const codes = outputs.weight_int8.data as Int8Array, absmax = outputs.scb.data as Float32Array;
    const bias = f32(inputs.bias?.data as Float32Array ?? new Float32Array(N), [N]);
    const layer = { inputs: K, outputs: [N], bias: true };
    const float = { "m.weight": f32(inputs.weight.data as Float32Array, [N, K]), "m.bias": bias };
    using made = await loadLayer(device, quantizeToInt8(params.threshold), float, layer);
    using stored = await loadLayer(device, storedInt8(params.threshold), {
      "m.weight": { dtype: "I8", shape: [N, K], data: Int8Array.from(codes) },
      "m.SCB": f32(absmax, [N]),
      "m.bias": bias,
    }, layer);
    const want = Float32Array.from(codes, (q, i) => Math.fround(q * absmax[Math.floor(i / K)]!) / 127);
    for (const linear of [made, stored]) {
      assertSame("weights", await weightsOf(linear, device), want);
      using y = linear.forward(tensor(device, x, [x.length / K, K]));
      assertClose("y", await y.read() as Float32Array, outputs.out.data as Float32Array, tolerance);
    }
  });
}
