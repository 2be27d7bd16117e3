import { attention, type AttentionBackend, kvLayout } from "../../src/ops/attention.ts";
import { qkvAttention } from "../../src/ops/qkv_attention.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { benchDevice, measure } from "../measure.ts";

interface Case {
  name: string;
  /** New tokens, and tokens in the cache before them. */
  tokens: number;
  past?: number;
  H?: number;
  Hkv?: number;
  Dh?: number;
  window?: number;
  backend?: AttentionBackend;
}

const cases: Case[] = [
  { name: "prefill", tokens: 128 },
  { name: "prefill", tokens: 512 },
  { name: "prefill", tokens: 512, Dh: 128 },
  { name: "prefill", tokens: 512, window: 128 },
  { name: "prefill, math", tokens: 128, backend: "math" },
  { name: "decode", tokens: 1, past: 511 },
  { name: "decode", tokens: 1, past: 4095 },
  { name: "decode", tokens: 1, past: 4095, Hkv: 4 },
  { name: "decode, tensaur-tiny", tokens: 1, past: 255, H: 8, Hkv: 2, Dh: 32 },
];

const device = await benchDevice();
for (const { name, tokens, past = 0, H = 16, Hkv = H, Dh = 64, window, backend } of cases) {
  const S = tokens + past;
  const q = zeros(device, [tokens, H, Dh]), k = zeros(device, [1, Hkv, S, Dh], "float16");
  const strides = { sequenceStride: Hkv * S * Dh, headStride: S * Dh, keyStride: Dh };
  const geometry = kvLayout(device, { heads: H, kvHeads: Hkv, ...strides, scale: 0.125, causal: true, window });
  const starts = tensor(device, [0, tokens], [2], "uint32"), pasts = tensor(device, [past], [1], "uint32");
  let pairs = 0;
  for (let i = past; i < S; i++) pairs += Math.min(i + 1, window ?? Infinity);
  await measure(device, {
    name: `attention ${name}`,
    shape: `${tokens} after ${past}, ${H}/${Hkv} × ${Dh}${window ? `, window ${window}` : ""}`,
    bytes: 8 * tokens * H * Dh + 2 * k.byteLength,
    flops: 4 * pairs * H * Dh,
    run: () => attention(q, { k, v: k, geometry, past: pasts }, starts, { backend }),
  });
}

// a decode step from the projection on: one kernel, beside the two that it is made of
const { heads, kvHeads, headDim, past } = { heads: 16, kvHeads: 4, headDim: 64, past: 511 }, S = past + 1;
const k = zeros(device, [1, kvHeads, S, headDim], "float16"), v = zeros(device, k.shape, "float16");
const geometry = kvLayout(device, {
  ...{ heads, kvHeads, scale: 0.125, causal: true },
  ...{ sequenceStride: k.size, headStride: S * headDim, keyStride: headDim },
});
const into = { k, v, geometry, past: tensor(device, [past], [1], "uint32") };
const starts = tensor(device, [0, 1], [2], "uint32"), positions = tensor(device, [past], [1], "uint32");
const qkv = zeros(device, [1, (heads + 2 * kvHeads) * headDim]), table = zeros(device, [S, 2, headDim / 2]);
for (const single of [true, false]) {
  await measure(device, {
    name: `qkv_attention${single ? "" : ", two kernels"}`,
    shape: `1 after ${past}, ${heads}/${kvHeads} × ${headDim}`,
    bytes: qkv.byteLength + 4 * heads * headDim + 2 * k.byteLength,
    flops: 4 * S * heads * headDim,
    run: () => qkvAttention({ qkv, table, positions, heads, kvHeads, headDim }, into, starts, { single }),
  });
}
