import { attention, attentionReference, attentionWeights, kvLayout, storeKv } from "../../src/ops/attention.ts";
import { decode, type Dtype, encode, tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";

const device = await testDevice();

interface Case {
  name: string;
  lengths: number[];
  past?: number[];
  H: number;
  Hkv: number;
  Dh: number;
  causal?: boolean;
  window?: number;
  dtype?: Dtype;
}

const cases: Case[] = [
  { name: "one token", lengths: [1], H: 1, Hkv: 1, Dh: 2 },
  { name: "ragged encoder batch", lengths: [5, 1, 70], H: 4, Hkv: 4, Dh: 16, causal: false },
  { name: "ragged causal batch, grouped heads", lengths: [7, 66, 1, 3], H: 4, Hkv: 2, Dh: 12 },
  { name: "an empty sequence", lengths: [3, 0, 2], H: 2, Hkv: 1, Dh: 8 },
  { name: "window over packed keys", lengths: [140], H: 2, Hkv: 2, Dh: 8, window: 5 },
  { name: "cache, decode", lengths: [1, 1], past: [130, 0], H: 8, Hkv: 2, Dh: 32 },
  { name: "cache, chunked prefill", lengths: [9, 3], past: [64, 2], H: 2, Hkv: 2, Dh: 80 },
  { name: "cache, window", lengths: [1, 40], past: [100, 30], H: 2, Hkv: 1, Dh: 16, window: 8 },
  { name: "cache in float16", lengths: [2, 1], past: [3, 65], H: 4, Hkv: 2, Dh: 16, dtype: "float16" },
  { name: "the largest head", lengths: [2], past: [3], H: 1, Hkv: 1, Dh: 256 },
  { name: "an odd head", lengths: [2], past: [3], H: 2, Hkv: 1, Dh: 7 },
];

for (const c of cases) {
  Deno.test(`attention() equals its reference: ${c.name}`, async () => {
    const { lengths, H, Hkv, Dh, causal = true, window = 0, dtype = "float32" } = c;
    const B = lengths.length, past = c.past ?? lengths.map(() => 0);
    const T = lengths.reduce((a, b) => a + b, 0), capacity = 192;
    const starts = lengths.reduce((s, n) => [...s, s.at(-1)! + n], [0]);
    const cu = tensor(device, starts, [B + 1], "uint32");
    const round = (x: Float32Array) => Float32Array.from(decode(encode(x, dtype).slice().buffer, dtype));
    const q = randn(T * H * Dh), k = round(randn(T * Hkv * Dh, 2)), v = round(randn(T * Hkv * Dh, 3));
    const oldK = round(randn(B * Hkv * capacity * Dh, 4)), oldV = round(randn(B * Hkv * capacity * Dh, 5));
    const scale = 1 / Math.sqrt(Dh);
    const strides = c.past
      ? { sequenceStride: Hkv * capacity * Dh, headStride: capacity * Dh, keyStride: Dh }
      : { sequenceStride: 0, headStride: Dh, keyStride: Hkv * Dh };
    const geometry = kvLayout(device, { heads: H, kvHeads: Hkv, ...strides, window, scale, causal });
    const qT = tensor(device, q, [T, H, Dh]),
      kT = tensor(device, k, [T, Hkv, Dh]),
      vT = tensor(device, v, [T, Hkv, Dh]);
    let kv: Parameters<typeof attention>[1] = { k: kT, v: vT, geometry };
    if (c.past) {
      const cached = {
        k: tensor(device, oldK, [B, Hkv, capacity, Dh], dtype),
        v: tensor(device, oldV, [B, Hkv, capacity, Dh], dtype),
        past: tensor(device, past, [B], "uint32"),
        geometry,
      };
      storeKv(kT, vT, cached, cu);
      kv = cached;
    }
    using o = attention(qT, kv, cu);
    const S = Math.max(...lengths.map((n, b) => n + past[b]!));
    using p = attentionWeights(qT, kv, cu, S);
    const got = await o.read() as Float32Array, probabilities = await p.read() as Float32Array;

    for (const [b, n] of lengths.entries()) {
      const keys = past[b]! + n;
      for (let h = 0; h < H; h++) {
        const g = Math.floor(h * Hkv / H);
        const rows = (x: Float32Array, heads: number, head: number) =>
          Float32Array.from(
            { length: n * Dh },
            (_, i) => x[((starts[b]! + Math.floor(i / Dh)) * heads + head) * Dh + i % Dh]!,
          );
        const all = (old: Float32Array, x: Float32Array) =>
          Float32Array.from([
            ...old.subarray((b * Hkv + g) * capacity * Dh, ((b * Hkv + g) * capacity + past[b]!) * Dh),
            ...rows(x, Hkv, g),
          ]);
        const sees = (i: number): readonly [number, number] => {
          const end = causal ? past[b]! + i + 1 : keys;
          return [window ? Math.max(0, past[b]! + i + 1 - window) : 0, end];
        };
        const want = attentionReference(rows(q, H, h), all(oldK, k), all(oldV, v), Dh, scale, sees);
        assertClose(`o, sequence ${b}, head ${h}`, rows(got, H, h), want, { atol: 2e-6 });
        for (let i = 0; i < n; i++) {
          const line = probabilities.subarray((h * T + starts[b]! + i) * S, (h * T + starts[b]! + i + 1) * S);
          const [from, to] = sees(i);
          const seen = line.subarray(from, to).reduce((a, x) => a + x, 0);
          assertClose("weights seen, weights in all", [seen, line.reduce((a, x) => a + x, 0)], [1, 1], { atol: 1e-5 });
        }
      }
    }
  });
}

Deno.test("attention() stays finite with scores of ±1e4", async () => {
  const q = tensor(device, [100, 100, -100, -100], [2, 1, 2]), k = tensor(device, [70, 70, -70, -70], [2, 1, 2]);
  const v = tensor(device, [1, 2, 3, 4], [2, 1, 2]);
  const geometry = kvLayout(device, {
    heads: 1,
    kvHeads: 1,
    sequenceStride: 0,
    headStride: 2,
    keyStride: 2,
    scale: 1,
    causal: false,
  });
  using o = attention(q, { k, v, geometry }, tensor(device, [0, 2], [2], "uint32"));
  assertClose("o", await o.read(), [1, 2, 3, 4]);
});
