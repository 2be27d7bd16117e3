import { assert, assertEquals, assertThrows } from "@std/assert";
import { RuntimeError } from "../../src/errors.ts";
import {
  attention,
  type AttentionBackend,
  type AttentionCase,
  chooseAttention,
  type KvLayout,
  kvLayout,
} from "../../src/ops/attention.ts";
import { scaledDotProductAttentionReference } from "../../src/ops/scaled_dot_product_attention.ts";
import type { Device } from "../../src/gpu/mod.ts";
import { decode, type Dtype, encode, type Tensor, tensor } from "../../src/tensor/mod.ts";
import { asGpu, assertClose, randn, testDevice } from "../helpers.ts";

const device = await testDevice(), plain = await testDevice({ features: { subgroups: false } });

/** A packed batch: queries of each sequence, and its keys if they are not as many. */
interface Batch {
  lengths: number[];
  keys?: number[];
  H: number;
  Hkv: number;
  Dh: number;
  Ev?: number;
  dtype?: Dtype;
  options?: Partial<Omit<KvLayout, "bias">>;
  bias?: "float" | "mask" | "finite";
}

const slopes = [0.5, 0.25, 0.125, 0.0625], sinks = [0.3, -1, 2, 0];
const cases: [name: string, batch: Batch][] = [
  ["16 bits, causal, ragged", { lengths: [19, 1, 40, 0, 8], H: 4, Hkv: 2, Dh: 16, dtype: "float16" }],
  ["bfloat16", { lengths: [9, 3], H: 4, Hkv: 2, Dh: 16, dtype: "bfloat16" }],
  ["more keys than queries, aligned at the end", { lengths: [3, 20], keys: [33, 21], H: 4, Hkv: 2, Dh: 16 }],
  ["more keys than queries, aligned at the start", {
    lengths: [3, 20],
    keys: [33, 9],
    H: 4,
    Hkv: 2,
    Dh: 16,
    options: { causal: "topLeft" },
  }],
  ["cross attention", { lengths: [5, 2], keys: [17, 0], H: 4, Hkv: 2, Dh: 16, options: { causal: false } }],
  ["fewer keys than queries: the first see none", { lengths: [12], keys: [5], H: 4, Hkv: 2, Dh: 16 }],
  ["a window on both sides", { lengths: [50], H: 4, Hkv: 2, Dh: 16, options: { causal: false, window: 4 } }],
  ["a causal window", { lengths: [50, 3], H: 4, Hkv: 2, Dh: 16, options: { window: 7 } }],
  ["soft cap", { lengths: [20, 7], H: 4, Hkv: 2, Dh: 16, options: { softcap: 0.7 } }],
  ["ALiBi and sinks", { lengths: [20, 7], H: 4, Hkv: 2, Dh: 16, options: { alibiSlopes: slopes, sinks } }],
  ["an added bias with hidden keys", { lengths: [20, 7], H: 4, Hkv: 2, Dh: 16, bias: "float" }],
  ["a mask", { lengths: [20, 7], H: 4, Hkv: 2, Dh: 16, options: { causal: false }, bias: "mask" }],
  ["a finite bias of -1e30", { lengths: [9], H: 4, Hkv: 2, Dh: 16, options: { causal: false }, bias: "finite" }],
  ["decode of 4 packed heads", { lengths: [1, 1, 1], keys: [90, 1, 33], H: 4, Hkv: 1, Dh: 16, dtype: "float16" }],
  ["a group of 3 heads, a chunk of 2 tokens", { lengths: [2, 2], keys: [9, 70], H: 6, Hkv: 2, Dh: 16 }],
  ["a group of 9 heads", { lengths: [1, 1], keys: [9, 20], H: 9, Hkv: 1, Dh: 16, options: { causal: false } }],
  ["values of another length", { lengths: [11, 2], H: 2, Hkv: 1, Dh: 12, Ev: 20 }],
  ["odd lengths in 16 bits", { lengths: [11, 2], H: 2, Hkv: 1, Dh: 5, Ev: 3, dtype: "float16" }],
];

/** Runs `b`, and gives what came beside what must come, sequence after sequence. */
async function run(
  b: Batch,
  backend?: AttentionBackend,
  on = device,
  as = (_: Device, fn: () => Tensor) => fn(),
): Promise<[got: number[], want: number[]]> {
  const { lengths, keys = lengths, H, Hkv, Dh, Ev = Dh, dtype = "float32", options = {} } = b;
  const sum = (ns: number[]) => ns.reduce((s, n) => [...s, s.at(-1)! + n], [0]);
  const starts = sum(lengths), keyStarts = sum(keys), T = starts.at(-1)!, K = keyStarts.at(-1)!;
  const round = (x: Float32Array) => decode(encode(x, dtype).slice().buffer, dtype) as ArrayLike<number>;
  const q = randn(T * H * Dh, 1), k = round(randn(K * Hkv * Dh, 2)), v = round(randn(K * Hkv * Ev, 3));
  const L = Math.max(...lengths), S = Math.max(...keys), noise = randn(H * L * S, 4);
  const values = Float32Array.from(noise, (x, i) => {
    const hidden = i % 3 === 0 || i % (L * S) < S; // the first query of each head sees nothing
    return b.bias === "mask" ? (hidden ? 0 : 7) : hidden ? (b.bias === "finite" ? -1e30 : -Infinity) : x;
  });
  const strides = { sequenceStride: 0, headStride: Dh, keyStride: Hkv * Dh };
  const layout: KvLayout = {
    heads: H,
    kvHeads: Hkv,
    ...strides,
    values: { sequenceStride: 0, headStride: Ev, keyStride: Hkv * Ev },
    scale: 0.3,
    causal: true,
    bias: b.bias && { strides: [0, L * S, S, 1], mask: b.bias === "mask" },
    ...options,
  };
  const put = (data: ArrayLike<number>, shape: number[], kind?: Dtype) =>
    tensor(on, Float32Array.from(data), shape, kind);
  const call = { backend, bias: b.bias && put(values, [H, L, S], b.bias === "mask" ? "uint32" : "float32") };
  const kv = {
    k: put(k, [K, Hkv, Dh], dtype),
    v: put(v, [K, Hkv, Ev], dtype),
    geometry: kvLayout(on, layout),
    cuSeqlensK: put(keyStarts, [keyStarts.length], "uint32"),
  };
  const x = put(q, [T, H, Dh]), cu = put(starts, [starts.length], "uint32");
  using o = as(on, () => attention(x, kv, cu, call));
  const got: number[] = [], want: number[] = [], all = await o.read();
  for (const [i, n] of lengths.entries()) {
    got.push(...all.subarray(starts[i]! * H * Ev, starts[i + 1]! * H * Ev));
    want.push(...one(i, n));
  }
  return [got, want];

  /** Sequence `i` of `n` queries by the float64 reference, token by token. */
  function one(i: number, n: number): number[] {
    const s = keys[i]!, from = starts[i]!, fromK = keyStarts[i]!;
    const heads = (x: ArrayLike<number>, at: number, rows: number, count: number, width: number) =>
      Float64Array.from({ length: count * rows * width }, (_, e) => {
        const d = e % width, row = Math.floor(e / width) % rows, h = Math.floor(e / width / rows);
        return x[((at + row) * count + h) * width + d]!;
      });
    const bias = Array.from({ length: H * n * s }, (_, e) => {
      const j = e % s, row = Math.floor(e / s) % n, h = Math.floor(e / s / n);
      return values[(h * L + row) * S + j]!;
    });
    const { causal, window, ...rest } = layout;
    const y = scaledDotProductAttentionReference(
      { data: heads(q, from, n, H, Dh), shape: [1, H, n, Dh] },
      { data: heads(k, fromK, s, Hkv, Dh), shape: [1, Hkv, s, Dh] },
      { data: heads(v, fromK, s, Hkv, Ev), shape: [1, Hkv, s, Ev] },
      {
        isCausal: causal === true ? "bottomRight" : causal,
        scale: rest.scale,
        softcap: rest.softcap,
        slidingWindow: window,
        alibiSlopes: rest.alibiSlopes as number[],
        sinks: rest.sinks as number[],
        attnMask: b.bias && { data: bias, shape: [1, H, n, s], bool: b.bias === "mask" },
      },
    );
    return Array.from(
      { length: n * H * Ev },
      (_, e) => y[(Math.floor(e / Ev) % H * n + Math.floor(e / Ev / H)) * Ev + e % Ev]!,
    );
  }
}

for (const [name, batch] of cases) {
  for (const backend of ["the kernel chosen", "math"] as const) {
    Deno.test(`attention() by ${backend} equals float64: ${name}`, async () => {
      const [got, want] = await run(batch, backend === "math" ? backend : undefined);
      assert(want.some((x) => x !== 0));
      assertClose("o", got, want, { rtol: 1e-5, atol: 4e-6 });
    });
  }
}

for (const [name, batch] of cases.filter(([name]) => /^16 bits|added bias|4 packed/.test(name))) {
  Deno.test(`attention() as on a GPU without subgroups, and with, equals float64: ${name}`, async () => {
    for (const on of [plain, device]) {
      const [got, want] = await run(batch, undefined, on, asGpu);
      assertClose("o", got, want, { rtol: 1e-5, atol: 4e-6 });
    }
  });
}

Deno.test("attention() equals itself when the keys of a query are split", async () => {
  const [H, Dh, S] = [4, 16, 5000];
  const q = tensor(device, randn(2 * H * Dh), [2, H, Dh]), past = tensor(device, [S - 1, 130], [2], "uint32");
  const k = tensor(device, randn(2 * 2 * S * Dh, 2), [2, 2, S, Dh]),
    v = tensor(device, randn(2 * 2 * S * Dh, 3), k.shape);
  const strides = { sequenceStride: 2 * S * Dh, headStride: S * Dh, keyStride: Dh };
  const geometry = kvLayout(device, { heads: H, kvHeads: 2, ...strides, scale: 0.3, causal: true, sinks });
  const starts = tensor(device, [0, 1, 2], [3], "uint32");
  const { splits } = chooseAttention({ ...decodeCase, heads: H, kvHeads: 2, sequences: 2, tokens: 2, keys: S });
  assert(splits > 1);
  using o = attention(q, { k, v, geometry, past }, starts);
  using whole = attention(q, { k, v, geometry, past }, starts, { backend: "math" });
  assertClose("o", await o.read(), await whole.read(), { rtol: 1e-5, atol: 1e-6 });
});

const decodeCase: AttentionCase = {
  dtype: "float16",
  headDim: 64,
  tokens: 1,
  sequences: 1,
  heads: 16,
  kvHeads: 4,
  keys: 512,
  subgroup: 8,
  cpu: true,
};

const choices: [name: string, given: Partial<AttentionCase>, want: Partial<ReturnType<typeof chooseAttention>>][] = [
  ["decode packs the heads of a group", {}, { kernel: "flash", body: "subgroup", rows: 4, pack: 4, splits: 1 }],
  ["long decode splits its keys", { keys: 32768 }, { splits: 2 }],
  ["a GPU is kept busy", { keys: 32768, cpu: false, subgroup: 32 }, { splits: 64 }],
  ["float32 keys", { dtype: "float32" }, { kernel: "efficient" }],
  ["a bias", { bias: true }, { kernel: "efficient" }],
  ["prefill", { tokens: 300, sequences: 2, headDim: 80 }, { rows: 8, pack: 1, splits: 1 }],
  ["prefill of short heads on a CPU", { tokens: 300, sequences: 2 }, { rows: 16, pack: 1, splits: 1 }],
  ["prefill with soft caps", { tokens: 300, softcap: true }, { rows: 16, keysPerLane: 1 }],
  ["prefill with a bias", { tokens: 300, bias: true }, { rows: 8, keysPerLane: 1 }],
  ["prefill on a GPU", { tokens: 300, cpu: false, subgroup: 32 }, { rows: 8, keysPerLane: 1 }],
  ["a short chunk", { tokens: 5 }, { rows: 8, pack: 4 }],
  ["long heads", { tokens: 300, headDim: 256 }, { rows: 4, pack: 1 }],
  ["no subgroups", { subgroup: 0 }, { body: "workgroup" }],
  ["no subgroups, prefill on a CPU", { subgroup: 0, tokens: 300 }, { body: "rows" }],
  ["subgroups that are too small", { subgroup: 4 }, { body: "workgroup" }],
  ["math", { enabled: ["math"] }, { kernel: "math", body: "matrix" }],
];
for (const [name, given, want] of choices) {
  Deno.test(`chooseAttention() knows ${name}, and says why`, () => {
    const choice = chooseAttention({ ...decodeCase, ...given });
    assertEquals({ ...choice, ...want }, choice);
    assert(choice.why.length > 0);
  });
}

Deno.test("chooseAttention() refuses flash for float32", () =>
  void assertThrows(
    () => chooseAttention({ ...decodeCase, dtype: "float32", enabled: ["flash"] }),
    RuntimeError,
    "No available kernel. Aborting execution.",
  ));
