/**
 * Tensaur on the peers' work, in the peers' form: a line of JSON a measurement.
 *
 *     deno run -A bench/peers/ours.ts ops [milliseconds a case]
 *     deno run -A bench/peers/ours.ts llm FOLDER DTYPE [passes] [prompt] [tokens]
 */
import { loadModel, openDevice, stream } from "../../mod.ts";
import type { WeightDtype } from "../../mod.ts";
import type { Device } from "../../src/gpu/mod.ts";
import { attention, kvLayout } from "../../src/ops/attention.ts";
import { layerNorm } from "../../src/ops/layer_norm.ts";
import { matmulPacked, packedMatrix } from "../../src/ops/matmul_packed.ts";
import { packedColumns } from "../../src/ops/pack_weight.ts";
import { codeWords, integerDims, quantizedMatmul } from "../../src/ops/quantized_matmul.ts";
import { rmsNorm } from "../../src/ops/rms_norm.ts";
import { softmax } from "../../src/ops/softmax.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { type Dtype, empty, tensor, tidy } from "../../src/tensor/mod.ts";
import { spent } from "../ceilings.ts";
import type { PeerLine } from "./table.ts";

const SHORT = { float32: "f32", float16: "f16" } as const;
const CHAIN = 20; // ms

function say(line: Omit<PeerLine, "peer" | "backend">): void {
  console.log(JSON.stringify({ peer: "tensaur", backend: "wgpu", ...line }));
}

type Case = [name: string, dtype: string, run: (device: Device) => () => void];

function gemm(M: number, n: number, name: string, dtype: "float32" | "float16"): Case {
  return [name, SHORT[dtype], (device) => {
    const x = zeros(device, [M, n]), matrix = packedMatrix(zeros(device, [n, n], dtype), n);
    return () => void matmulPacked(x, matrix);
  }];
}

function q4(device: Device): () => void {
  const n = 4096, group = 32, stride = packedColumns(n), count = n / group;
  const w = zeros(device, [codeWords(n, n, 4)], "uint32");
  const groups = zeros(device, [count * stride / 2 + count * stride / 8], "uint32");
  const dims = integerDims(device, { K: n, N: n, group, span: 32, zeroBits: 4, zeros: count * stride / 2 });
  const matrix = { kind: "integer", bits: 4, span: 32, flags: {}, K: n, N: n, w, groups, dims } as const;
  const x = zeros(device, [1, n]);
  return () => {
    using y = empty(device, [1, n]);
    quantizedMatmul(x, matrix, y);
  };
}

function attend(name: string, tokens: number, keys: number, Hkv: number, dtype: Dtype & keyof typeof SHORT): Case {
  return [name, SHORT[dtype], (device) => {
    const H = 16, Dh = 64, past = keys - tokens;
    const noise = (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i));
    const q = tensor(device, noise(tokens * H * Dh), [tokens, H, Dh]);
    const k = tensor(device, noise(Hkv * keys * Dh), [1, Hkv, keys, Dh], dtype);
    const v = tensor(device, noise(Hkv * keys * Dh), [1, Hkv, keys, Dh], dtype);
    const strides = { sequenceStride: Hkv * keys * Dh, headStride: keys * Dh, keyStride: Dh };
    const geometry = kvLayout(device, { heads: H, kvHeads: Hkv, ...strides, scale: Dh ** -0.5, causal: true });
    const starts = tensor(device, [0, tokens], [2], "uint32"), before = tensor(device, [past], [1], "uint32");
    return () => void attention(q, { k, v, geometry, past: before }, starts, {});
  }];
}

const ROWS = 1024, COLUMNS = 2048;
const CASES: readonly Case[] = [
  gemm(512, 512, "gemm_512", "float32"),
  gemm(1024, 1024, "gemm_1024", "float32"),
  gemm(1024, 1024, "gemm_1024", "float16"),
  gemm(1, 4096, "gemv_4096", "float32"),
  ["q4_gemv_4096", "q4f32", q4],
  attend("attn_prefill_mha", 1024, 1024, 16, "float32"),
  attend("attn_prefill_gqa", 1024, 1024, 4, "float32"),
  attend("attn_decode_mha", 1, 4096, 16, "float32"),
  attend("attn_decode_gqa", 1, 4096, 4, "float32"),
  ["rmsnorm_1024x2048", "f32", (device) => {
    const x = zeros(device, [ROWS, COLUMNS]), w = zeros(device, [COLUMNS]);
    return () => void rmsNorm(x, w);
  }],
  ["layernorm_1024x2048", "f32", (device) => {
    const x = zeros(device, [ROWS, COLUMNS]), w = zeros(device, [COLUMNS]);
    return () => void layerNorm(x, w, w);
  }],
  ["softmax_1024x2048", "f32", (device) => {
    const x = zeros(device, [ROWS, COLUMNS]);
    return () => void softmax(x);
  }],
];

async function ops(budget: number): Promise<void> {
  await using device = await openDevice();
  for (const [name, dtype, make] of CASES) {
    const run = make(device), once = () => tidy(device, run);
    await spent(device, once, 1); // compiles
    const { wall } = await spent(device, once, 1), length = Math.max(1, Math.ceil(CHAIN / wall));
    let best = Infinity, n = 0;
    for (const end = performance.now() + budget; n < 3 || performance.now() < end; n++) {
      best = Math.min(best, (await spent(device, once, length)).wall / length);
    }
    say({ case: name, dtype, ms_min: best, n });
  }
}

async function llm(path: string, dtype: WeightDtype, passes: number, prompt: number, tokens: number): Promise<void> {
  await using device = await openDevice();
  using model = await loadModel(path, { device, dtype, warmUp: [prompt] });
  const inputIds = [Array.from({ length: prompt }, (_, i) => i * 7 % 4000 + 3)];
  const pass = async (maxNewTokens: number) => {
    const start = performance.now();
    let first = 0, last = 0;
    for await (const _ of stream(model, { inputIds }, { doSample: false, eosTokenId: null, maxNewTokens })) {
      last = performance.now();
      first ||= last;
    }
    return { first: first - start, rest: last - first };
  };
  await pass(1);
  const name = path.split("/").at(-1), short = SHORT[dtype as keyof typeof SHORT];
  say({ case: `${name}_startup_first_token`, dtype: short, ms_min: performance.now(), n: 1 });
  await pass(3);
  const runs: Awaited<ReturnType<typeof pass>>[] = [];
  for (let i = 0; i < passes; i++) runs.push(await pass(tokens + 1));
  const least = (key: "first" | "rest") => Math.min(...runs.map((run) => run[key]));
  const report = (what: string, ms: number, count: number) =>
    say({ case: `${name}_${what}${count}`, dtype: short, ms_min: ms, n: passes, tok_s: 1000 * count / ms });
  report("prefill", least("first"), prompt);
  report("decode", least("rest"), tokens);
}

const [what, ...rest] = Deno.args;
if (what === "ops") await ops(Number(rest[0] ?? 500));
else {
  const [path = "", dtype = "float16", passes = "3", prompt = "256", tokens = "64"] = rest;
  await llm(path, dtype as WeightDtype, Number(passes), Number(prompt), Number(tokens));
}
