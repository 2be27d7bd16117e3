/**
 * Tensaur on the peers' work, in the peers' form: a line of JSON a measurement.
 *
 *     deno run -A bench/peers/ours.ts ops [milliseconds a case] [pattern of cases]
 *     deno run -A bench/peers/ours.ts llm FOLDER DTYPE [passes; 0: only the start] [prompt] [tokens]
 */
import process from "node:process";
import { loadModel, openDevice, stream } from "../../mod.ts";
import type { WeightDtype } from "../../mod.ts";
import type { Device } from "../../src/gpu/mod.ts";
import { attention, kvLayout } from "../../src/ops/attention.ts";
import { layerNorm } from "../../src/ops/layer_norm.ts";
import { matmulPacked, packedMatrix } from "../../src/ops/matmul_packed.ts";
import { packedColumns, stripOf } from "../../src/ops/pack_weight.ts";
import {
  codebookDims,
  type CodedMatrix,
  codeWords,
  integerDims,
  quantizedMatmul,
} from "../../src/ops/quantized_matmul.ts";
import { rmsNorm } from "../../src/ops/rms_norm.ts";
import { softmax } from "../../src/ops/softmax.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { type Dtype, empty, tensor, tidy } from "../../src/tensor/mod.ts";
import { type Spent, spent } from "../ceilings.ts";
import type { PeerLine } from "./table.ts";

const SHORT = { float32: "f32", float16: "f16", q4_0: "q4" } as const;
const CHAIN = 20; // ms

function say(line: Omit<PeerLine, "peer" | "backend">): void {
  console.log(JSON.stringify({ peer: "tensaur", backend: "wgpu", ...line }));
}

type Case = [name: string, dtype: string, run: (device: Device) => () => void];

function gemm(M: number, n: number, name: string, dtype: "float32" | "float16"): Case {
  return [name, SHORT[dtype], (device) => {
    const x = zeros(device, [M, n]), strip = stripOf(device); // as a model's layers lie
    const matrix = packedMatrix(zeros(device, [n, n], dtype), n, { strip });
    return () => void matmulPacked(x, matrix);
  }];
}

const WIDTH = 4096; // of matrices in 4 bits

function q4(device: Device): CodedMatrix {
  const K = WIDTH, N = WIDTH, group = 32, stride = packedColumns(N), zeros_ = K / group * stride / 2;
  const w = zeros(device, [codeWords(K, N, 4)], "uint32"), groups = zeros(device, [zeros_ * 5 / 4], "uint32");
  const dims = integerDims(device, { K, N, group, span: 32, zeroBits: 4, zeros: zeros_ });
  return { kind: "integer", bits: 4, span: 32, flags: {}, K, N, w, groups, dims };
}

function nf4(device: Device): CodedMatrix {
  const K = WIDTH, N = WIDTH, block = 64, parts = [{ column: 0, absmax: 16, nested: 0 }];
  const w = zeros(device, [codeWords(K, N, 4)], "uint32");
  const groups = zeros(device, [16 + K / block * packedColumns(N)], "uint32");
  const dims = codebookDims(device, { K, N, block, flat: false, parts });
  return { kind: "codebook", bits: 4, span: 32, flags: {}, K, N, w, groups, dims };
}

function coded(name: string, dtype: string, make: (device: Device) => CodedMatrix): Case {
  return [name, dtype, (device) => {
    const matrix = make(device), x = zeros(device, [1, WIDTH]);
    return () => {
      using y = empty(device, [1, WIDTH]);
      quantizedMatmul(x, matrix, y);
    };
  }];
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
  coded("q4_gemv_4096", "q4f32", q4),
  coded("nf4_gemv_4096", "nf4", nf4),
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

async function ops(budget: number, pattern: RegExp): Promise<void> {
  await using device = await openDevice();
  for (const [name, dtype, make] of CASES.filter(([name]) => pattern.test(name))) {
    const run = make(device), once = () => tidy(device, run);
    await spent(device, once, 1); // compiles
    const { wall } = await spent(device, once, 1), length = Math.max(1, Math.ceil(CHAIN / wall));
    let best = Infinity, least = Infinity, n = 0;
    for (const end = performance.now() + budget; n < 3 || performance.now() < end; n++) {
      const { wall, cpu } = await spent(device, once, length);
      best = Math.min(best, wall / length), least = Math.min(least, cpu / length);
    }
    say({ case: name, dtype, ms_min: best, cpu_ms: least, n });
  }
}

async function llm(path: string, dtype: WeightDtype | "q4_0", passes: number, prompt: number, tokens: number) {
  const opening = performance.now();
  await using device = await openDevice();
  const loading = performance.now();
  const file = dtype === "q4_0" ? `${path}-q4_0.gguf` : path, warmUp = [prompt];
  using model = await loadModel(file, { device, warmUp, ...dtype !== "q4_0" && { dtype } });
  const loaded = performance.now();
  const inputIds = [Array.from({ length: prompt }, (_, i) => i * 7 % 4000 + 3)];
  const pass = async (maxNewTokens: number) => {
    const start = clock();
    let first = start, last = start;
    for await (const _ of stream(model, { inputIds }, { doSample: false, eosTokenId: null, maxNewTokens })) {
      last = clock();
      if (first === start) first = last;
    }
    return { first: less(first, start), rest: less(last, first) };
  };
  await pass(1);
  const name = path.split("/").at(-1), short = SHORT[dtype as keyof typeof SHORT], end = performance.now();
  const stages = { imports: opening, device: loading - opening, load: loaded - loading, prompt: end - loaded };
  say({ case: `${name}_startup_first_token`, dtype: short, ms_min: end, cpu_ms: clock().cpu, n: 1, stages });
  if (passes === 0) return;
  await pass(3);
  const runs: Awaited<ReturnType<typeof pass>>[] = [];
  for (let i = 0; i < passes; i++) runs.push(await pass(tokens + 1));
  for (const [what, key, count] of [["prefill", "first", prompt], ["decode", "rest", tokens]] as const) {
    const ms = Math.min(...runs.map((run) => run[key].wall)), cpu_ms = Math.min(...runs.map((run) => run[key].cpu));
    say({ case: `${name}_${what}${count}`, dtype: short, ms_min: ms, cpu_ms, n: passes, tok_s: 1000 * count / ms });
  }
}

/** Milliseconds by the clock, and of all threads. */
function clock(): Spent {
  const { user, system } = process.cpuUsage();
  return { wall: performance.now(), cpu: (user + system) / 1000 };
}

const less = (a: Spent, b: Spent): Spent => ({ wall: a.wall - b.wall, cpu: a.cpu - b.cpu });

const [what, ...rest] = Deno.args;
if (what === "ops") await ops(Number(rest[0] ?? 500), new RegExp(`^(${rest[1] ?? ".*"})$`));
else {
  const [path = "", dtype = "float16", passes = "3", prompt = "256", tokens = "64"] = rest;
  await llm(path, dtype as WeightDtype | "q4_0", Number(passes), Number(prompt), Number(tokens));
}
