/** What quantized layers do around their products: in the kernels where these know it, in ops beside them elsewhere. */
import { assert, assertEquals } from "@std/assert";
import type { Device } from "../../src/gpu/mod.ts";
import { quantizeTo4bit } from "../../src/quantization/bnb4.ts";
import { ggufQuantization } from "../../src/quantization/gguf.ts";
import { quantizeToBlocks } from "../../src/quantization/gguf_quantize.ts";
import { gptq } from "../../src/quantization/gptq.ts";
import { quantizeToInt8 } from "../../src/quantization/int8.ts";
import type { Scheme } from "../../src/quantization/scheme.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { asGpu, assertClose, randn, random, testDevice } from "../helpers.ts";
import { relativeError } from "../models/fixture.ts";
import { type Around, aroundReference } from "../ops/fusion.ts";
import { loadLayer, type StoredData, weightsOf } from "./reader.ts";

const device = await testDevice(), plain = await testDevice({ features: { subgroups: false } });

type Kind = "nf4" | "gguf" | "gptq" | "int8";

const floats = (rows: number, K: number): StoredData => ({
  dtype: "F32",
  shape: [rows, K],
  data: Float32Array.from(randn(rows * K, rows)),
});

/** A scheme that each layer makes of its own tensors' formats. */
const ggufScheme: Scheme = {
  name: "gguf",
  expects: () => [],
  bytes: (layer, lookup) => ggufQuantization(4).schemeOf(layer, lookup)!.bytes(layer, lookup),
  load: (reader, layer, lookup) => ggufQuantization(4).schemeOf(layer, lookup)!.load(reader, layer, lookup),
};

/** The tensors of a part of each kind, and the scheme that loads them. */
const KINDS: Readonly<Record<Kind, [tensors: (rows: number, K: number) => Record<string, StoredData>, Scheme]>> = {
  nf4: [
    (rows, K) => ({ weight: floats(rows, K) }),
    quantizeTo4bit({ kind: "nf4", block: 64, doubleQuant: false }),
  ],
  int8: [(rows, K) => ({ weight: floats(rows, K) }), quantizeToInt8(6)],
  gguf: [
    (rows, K) => {
      const data = quantizeToBlocks("Q4_0", randn(rows * K, rows));
      return { weight: { dtype: "Q4_0" as StoredData["dtype"], shape: [rows, K], data } };
    },
    ggufScheme,
  ],
  gptq: [
    (rows, K) => {
      const next = random(rows), words = (n: number) => Int32Array.from({ length: n }, () => next() * 2 ** 32 | 0);
      const group = Int32Array.from({ length: K }, (_, k) => (k * (rows % 8 + 1) + (k >> 5)) % (K / 32));
      return {
        qweight: { dtype: "I32", shape: [K / 8, rows], data: words(K / 8 * rows) },
        qzeros: { dtype: "I32", shape: [K / 32, rows / 8], data: words(K / 32 * rows / 8) },
        scales: {
          dtype: "F16",
          shape: [K / 32, rows],
          data: Float16Array.from({ length: K / 32 * rows }, () => next() / 8),
        },
        g_idx: { dtype: "I32", shape: [K], data: group.toSorted(() => next() - 0.5) },
      };
    },
    gptq({ bits: 4, groupSize: 32, v2: false }),
  ],
};

const gated: Around = { norm: true, bias: true, gate: "silu", residual: true };
const all: Around = { norm: true, bias: true, activation: "gelu", residual: true };

// one row, few and many; inputs by 4, odd, in an order of their own; halves of one matrix, of two, and ragged ones
const cases: [what: string, on: Device, Kind, M: number, K: number, outputs: number[], Around][] = [
  ["", device, "gguf", 1, 96, [40, 40], gated],
  ["", device, "gguf", 3, 64, [21, 21], gated],
  ["", device, "gguf", 1, 64, [1028, 1028], gated],
  ["", device, "gguf", 1, 32, [700, 1361], all],
  ["", device, "nf4", 4, 128, [16, 24], all],
  ["", device, "nf4", 1, 37, [12, 12], gated],
  ["", device, "nf4", 9, 64, [8, 8], gated],
  ["", device, "nf4", 6, 24, [37, 37], gated],
  ["", device, "gptq", 1, 64, [24], { ...all, activation: "gelu_tanh" }],
  ["", device, "gptq", 2, 64, [16, 24], { norm: true, gate: "gelu_tanh", residual: true }],
  ["", device, "gguf", 2, 32, [12, 12, 12], { norm: true, parts: 3 }],
  ["without subgroups ", plain, "gguf", 1, 64, [40, 40], gated],
  ["without subgroups ", plain, "nf4", 5, 64, [20, 20], { gate: "gelu" }],
  ["as a GPU ", device, "gguf", 1, 320, [40, 40], gated],
  ["as a GPU ", device, "nf4", 6, 64, [20, 20], { ...gated, norm: undefined }],
  ["", device, "int8", 1, 64, [16, 16], gated],
  ["", device, "int8", 3, 64, [20], all],
  ["", device, "int8", 4, 36, [40, 40], gated],
  ["", device, "int8", 2, 32, [12, 12, 12], { norm: true, bias: true, parts: 3 }],
  ["", device, "int8", 6, 64, [12, 12], gated],
  ["", device, "gguf", 40, 64, [40, 40], gated],
  ["", device, "gguf", 33, 32, [12, 12, 12], { norm: true, bias: true, parts: 3 }],
  ["", device, "gptq", 32, 64, [16, 24], all],
  ["", device, "nf4", 34, 24, [37, 37], gated],
  ["", device, "nf4", 32, 1024, [700, 700], gated],
  ["", device, "int8", 40, 36, [20, 20], gated],
  ["without subgroups ", plain, "nf4", 32, 64, [20, 20], gated],
  ["without subgroups ", plain, "int8", 1, 64, [20, 20], gated],
  ["as a GPU ", device, "int8", 2, 64, [16, 24], { ...all, gate: "gelu_tanh", activation: undefined }],
];

for (const [what, on, kind, M, K, outputs, around] of cases) {
  Deno.test(`QuantizedLinear.forward() ${what}fuses ${JSON.stringify(around)}: ${kind} [${M}, ${K}] x ${outputs}`, async () => {
    const [parts, scheme] = KINDS[kind], N = outputs.reduce((a, b) => a + b), width = around.gate ? N / 2 : N;
    const names = outputs.map((_, i) => `p${i}`), tensors: Record<string, StoredData> = {};
    const d = { norm: randn(K, 3), bias: randn(N, 4), residual: randn(M * width, 5) };
    for (const [i, rows] of outputs.entries()) {
      for (const [key, t] of Object.entries(parts(rows, K))) tensors[`p${i}.${key}`] = t;
      const first = outputs.slice(0, i).reduce((a, b) => a + b, 0);
      tensors[`p${i}.bias`] = { dtype: "F32", shape: [rows], data: d.bias.slice(first, first + rows) };
    }
    const as = what.includes("GPU") ? <T>(fn: () => T) => asGpu(on, fn) : <T>(fn: () => T) => fn();
    const loading = as(() => loadLayer(on, scheme, tensors, { names, inputs: K, outputs, bias: !!around.bias }));
    using linear = await loading;
    const weights = await weightsOf(linear, on), x = randn(M * K, 6);
    const w = weights.map((_, i) => weights[i % N * K + Math.floor(i / N)]!);
    using input = tensor(on, x, [M, K]);
    using y = as(() =>
      linear.forward(input, {
        ...around.norm && { norm: { weight: tensor(on, d.norm, [K]), eps: 1e-5 } },
        ...around.residual && { residual: tensor(on, d.residual, [M, width]) },
        ...{ activation: around.activation, gate: around.gate, parts: around.parts },
      })
    );
    assertEquals(y.shape, around.parts ? [around.parts, M, N / around.parts] : [M, width]);
    const want = aroundReference(x, w, N, around, d), got = await y.read() as Float32Array;
    if (kind === "int8") assert(relativeError(got, want) < 0.03, `${relativeError(got, want)}`); // x has codes too
    else assertClose("y", got, want, { rtol: 2e-5, atol: 2e-5 * Math.sqrt(K) });
    await on.stream.settled();
  });
}
