/** Keys and values in codes: the values of quanto and HQQ, and attention over them. */
import { assert } from "@std/assert";
import { emptyKvCodes, flattenKv, type GroupMode, type KvScheme, quantizeKv } from "../../src/ops/kv_quantization.ts";
import { quantizedAttention } from "../../src/ops/quantized_attention.ts";
import { attentionReference, kvLayout } from "../../src/ops/attention.ts";
import type { Device } from "../../src/gpu/mod.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor } from "../reference.ts";

const device = await testDevice();

interface QuantCase {
  params: { backend: "quanto" | "hqq"; nbits: number; axis: number; group_size: number; shape: number[] };
  inputs: { x: GoldenTensor };
  outputs: { dequantized: GoldenTensor };
}

/** x [Hkv, S, Dh] of one sequence through codes and back. */
async function roundTrip(x: Float32Array, [, kvHeads, S, headDim]: number[], scheme: KvScheme): Promise<Float32Array> {
  const spans = { kvHeads: kvHeads!, headDim: headDim!, lengths: [S!] };
  using words = emptyKvCodes(device, spans, scheme);
  using packed = tensor(device, tokenMajor(x, kvHeads!, S!, headDim!), [S!, kvHeads!, headDim!]);
  using cuSeqlens = tensor(device, [0, S!], [2], "uint32");
  using flat = flattenKv(words, spans, scheme, 1, { packed, cuSeqlens });
  quantizeKv(flat, words, spans, scheme, 1);
  using rest = tensor(device, new Float32Array(2 * kvHeads! * 64 * headDim!), [2, 1, kvHeads!, 64, headDim!]);
  using counts = tensor(device, [0, S!], [2], "uint32");
  using back = flattenKv(words, spans, scheme, 1, { words, rest, counts });
  return (await back.read() as Float32Array).subarray(0, x.length);
}

/** [Hkv, S, Dh] as [S, Hkv, Dh]. */
function tokenMajor(x: Float32Array, H: number, S: number, D: number): Float32Array {
  return Float32Array.from(x, (_, i) => x[((Math.floor(i / D) % H) * S + Math.floor(i / D / H)) * D + i % D]!);
}

function modeOf(backend: string, axis: number): GroupMode {
  if (backend === "quanto") return axis === 0 ? "consecutive" : "channel";
  return axis === 1 ? "consecutive" : "strided";
}

for (const { name, params: p, inputs, outputs } of await goldenCases<QuantCase>("data/ops/kv_quant", "kv_quant")) {
  if (p.shape[0] !== 1) continue;
  Deno.test(`quantizeKv() gives the values of quanto and HQQ: ${name}`, async () => {
    const mode = modeOf(p.backend, p.axis);
    const scheme = { backend: p.backend, bits: p.nbits, group: p.group_size, keys: mode, values: mode, wide: true };
    const got = await roundTrip(inputs.x.data as Float32Array, p.shape, scheme);
    const want = outputs.dequantized.data as Float32Array;
    // a code on the edge between two may round either way: count those
    const step = Math.max(...want) - Math.min(...want),
      far = got.filter((x, i) => !(Math.abs(x - want[i]!) < 2e-3 * step));
    assert(far.length <= want.length / 200, `${far.length} of ${want.length} differ`);
  });
}

const plain: Device = Object.create(device, { features: { value: { ...device.features, subgroups: false } } });
const [runs, any] = ["consecutive", "strided"] as const;
// bits, group, modes of keys and values, Dh, tokens in codes and rest of each sequence, new tokens
const cases: [
  bits: number,
  group: number,
  keys: GroupMode,
  values: GroupMode,
  dim: number,
  rows: [number, number, number][],
  more?: { window?: number; softcap?: number; heads?: number; split?: number; on?: Device },
][] = [
  [4, 16, "consecutive", "consecutive", 16, [[12, 3, 1], [70, 0, 2]]],
  [2, 16, "channel", any, 8, [[16, 5, 1]]],
  [8, 32, any, "channel", 32, [[64, 1, 3], [0, 2, 1]], { softcap: 2 }],
  [4, 64, runs, runs, 64, [[300, 9, 1]], { window: 40 }],
  [4, 64, runs, runs, 64, [[300, 9, 1]], { window: 40, on: plain }],
  [8, 16, runs, runs, 48, [[40, 3, 2], [0, 1, 1], [21, 0, 1]], { softcap: 2 }],
  [2, 128, runs, runs, 32, [[260, 30, 1], [8, 2, 1]], { split: 3072, heads: 6 }],
];
for (const [bits, group, keys, values, dim, rows, more = {}] of cases) {
  const { window, softcap = 0, heads: H = 4, split, on = device } = more;
  for (const dtype of [dim === 64 ? "float16" : "float32"] as const) {
    Deno.test(
      `quantizedAttention() over ${bits} bits, groups of ${group} ${keys} and ${values}, ${
        JSON.stringify(rows)
      }, rest in ${dtype} ${JSON.stringify({ ...more, on: more.on && "without subgroups" })}`,
      async () => {
        const Hkv = 2, B = rows.length, R = 64;
        const scheme: KvScheme = { backend: "quanto", bits, group, keys, values, wide: dtype === "float32" };
        const spans = { kvHeads: Hkv, headDim: dim, lengths: rows.map(([coded]) => coded) };
        using words = emptyKvCodes(device, spans, scheme);
        const total = spans.lengths.reduce((sum, n) => sum + n, 0);
        using cu = tensor(device, starts(spans.lengths), [B + 1], "uint32");
        for (const part of [0, 1] as const) {
          using packed = tensor(device, randn(Math.max(1, total) * Hkv * dim, part), [Math.max(1, total), Hkv, dim]);
          using x = flattenKv(words, spans, scheme, part, { packed, cuSeqlens: cu });
          quantizeKv(x, words, spans, scheme, part);
        }
        const noise = randn(2 * B * Hkv * R * dim, 3);
        using rest = tensor(device, noise, [2, B, Hkv, R, dim], dtype);
        using counts = tensor(device, [...rows.map(([, n]) => n), ...spans.lengths], [2 * B], "uint32");
        const tokens = rows.reduce((sum, [, , n]) => sum + n, 0), queries = randn(tokens * H * dim, 4);
        using q = tensor(on, queries, [tokens, H, dim]);
        using cuSeqlens = tensor(device, starts(rows.map(([, , n]) => n)), [B + 1], "uint32");
        const strides = { sequenceStride: 0, headStride: 0, keyStride: 0 };
        using geometry = kvLayout(device, {
          heads: H,
          kvHeads: Hkv,
          scale: 1,
          causal: true,
          counts: "past",
          ...strides,
        });
        const options = { scale: 0.3, window, softcap, split: split === undefined ? split : { keys: split, geometry } };
        using o = quantizedAttention(q, { words, rest, counts }, cuSeqlens, Hkv, scheme, options);
        const got = await o.read();
        const all = { kvHeads: Hkv, headDim: dim, lengths: rows.map(([coded, old, n]) => coded + old + n) };
        using to = emptyKvCodes(device, all, scheme);
        const flat: Float32Array[] = [];
        for (const part of [0, 1] as const) {
          using x = flattenKv(to, all, scheme, part, { words, rest, counts });
          flat.push(await x.read() as Float32Array);
        }
        const sizes = { H, Hkv, dim, group, window, softcap };
        assertAttends(got as Float32Array, queries, flat, rows, sizes);
      },
    );
  }
}

/** Each row and head of `got` is attention over the keys and values in `flat`, which begin at whole groups of words. */
function assertAttends(
  got: Float32Array,
  queries: Float32Array,
  flat: readonly Float32Array[],
  rows: readonly (readonly [coded: number, old: number, n: number])[],
  { H, Hkv, dim, group, window, softcap }: {
    H: number;
    Hkv: number;
    dim: number;
    group: number;
    window?: number;
    softcap: number;
  },
): void {
  const unit = 32 * group;
  let base = 0, token = 0;
  for (const [b, [coded, old, n]] of rows.entries()) {
    const S = coded + old + n;
    for (let h = 0; h < H; h++) {
      const g = Math.floor(h * Hkv / H);
      const [k, v] = flat.map((x) => x.subarray(base + g * S * dim, base + (g + 1) * S * dim));
      const mine = Float32Array.from(
        { length: n * dim },
        (_, i) => queries[((token + Math.floor(i / dim)) * H + h) * dim + i % dim]!,
      );
      const want = attentionReference(
        mine,
        k!,
        v!,
        dim,
        0.3,
        (i) => [Math.max(0, coded + old + i + 1 - (window ?? Infinity)), coded + old + i + 1],
        softcap,
      );
      const mineGot = Float32Array.from(
        want,
        (_, i) => got[((token + Math.floor(i / dim)) * H + h) * dim + i % dim]!,
      );
      assertClose(`row ${b} head ${h}`, mineGot, want, { rtol: 1e-4, atol: 1e-4 });
    }
    base += Math.ceil(S * Hkv * dim / unit) * unit;
    token += n;
  }
}

function starts(lengths: readonly number[]): number[] {
  return lengths.reduce((sums, n) => [...sums, sums.at(-1)! + n], [0]);
}
