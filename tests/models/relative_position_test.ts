import { assertEquals } from "@std/assert";
import { attention, kvLayout } from "../../src/ops/attention.ts";
import { attentionWeights } from "../../src/ops/mod.ts";
import { relativeBuckets } from "../../src/models/relative_position.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";
import { goldenCases } from "../reference.ts";

interface Case {
  inputs: { relative: number[] };
  outputs: { buckets?: number[]; out?: number[] };
  params: { num_buckets: number; max_distance: number; bidirectional: boolean };
}

Deno.test("relativeBuckets() has exact buckets near by, wide ones farther off, and later keys in the upper half", () => {
  assertEquals([...relativeBuckets(8, 4, true)], [3, 3, 2, 1, 0, 5, 6, 7, 7]);
  assertEquals([...relativeBuckets(4, 3, false)], [3, 2, 1, 0, 0, 0, 0]);
});

for (const { name, inputs, outputs, params } of await goldenCases<Case>("data/ops/misc", "t5_relative_bucket")) {
  Deno.test(`relativeBuckets() equals transformers' at ${name}`, () => {
    const M = params.max_distance, all = relativeBuckets(params.num_buckets, M, params.bidirectional);
    const got = inputs.relative.map((place) => all[Math.max(-M, Math.min(M, place)) + M]!);
    assertEquals(got, Object.values(outputs)[0]);
  });
}

const device = await testDevice();
for (const causal of [true, false]) {
  for (const backend of ["efficient", "math"] as const) {
    Deno.test(`attention() adds a relative bias by the places of ragged sequences: ${backend}, causal ${causal}`, async () => {
      const H = 2, Dh = 4, M = 3, tokens = [1, 6, 3], keys = [7, 6, 5], scale = 0.7;
      const sum = (all: number[]) => all.reduce((s, n) => [...s, s.at(-1)! + n], [0]);
      const [qs, ks] = [sum(tokens), sum(keys)], T = qs.at(-1)!, S = ks.at(-1)!;
      const q = randn(T * H * Dh, 1),
        k = randn(S * H * Dh, 2),
        v = randn(S * H * Dh, 3),
        bias = randn((2 * M + 1) * H, 4);
      const put = (x: Float32Array, shape: number[]) => tensor(device, x, shape);
      const relativeBias = put(bias, [2 * M + 1, H]);
      const strides = { sequenceStride: 0, headStride: Dh, keyStride: H * Dh };
      const geometry = kvLayout(device, { heads: H, kvHeads: H, scale, causal, relativeBias, ...strides });
      const kv = {
        k: put(k, [S, H, Dh]),
        v: put(v, [S, H, Dh]),
        geometry,
        cuSeqlensK: tensor(device, ks, [4], "uint32"),
      };
      const cuSeqlens = tensor(device, qs, [4], "uint32");
      using o = attention(put(q, [T, H, Dh]), kv, cuSeqlens, { bias: relativeBias, backend });
      const want = new Float32Array(T * H * Dh), weights = new Float32Array(H * T * 7);
      for (const [b, n] of tokens.entries()) {
        for (let h = 0; h < H; h++) {
          for (let i = 0; i < n; i++) {
            const place = keys[b]! - n + i, at = (x: number, h: number) => (x * H + h) * Dh;
            const scores = Array.from({ length: causal ? place + 1 : keys[b]! }, (_, j) => {
              const far = Math.max(-M, Math.min(M, j - place)) + M;
              let s = 0;
              for (let d = 0; d < Dh; d++) s += q[at(qs[b]! + i, h) + d]! * k[at(ks[b]! + j, h) + d]!;
              return Math.exp(s * scale + bias[far * H + h]!);
            });
            const total = scores.reduce((a, x) => a + x, 0);
            scores.forEach((x, j) => {
              weights[(h * T + qs[b]! + i) * 7 + j] = x / total;
              for (let d = 0; d < Dh; d++) want[at(qs[b]! + i, h) + d]! += x / total * v[at(ks[b]! + j, h) + d]!;
            });
          }
        }
      }
      assertClose("o", await o.read(), want, { atol: 1e-5, rtol: 1e-5 });
      using p = attentionWeights(put(q, [T, H, Dh]), kv, cuSeqlens, 7, { bias: relativeBias });
      assertClose("weights", await p.read(), weights, { atol: 1e-5, rtol: 1e-5 });
    });
  }
}
