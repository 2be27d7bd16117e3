import { attention, kvLayout } from "../../src/ops/attention.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
const H = 16, Dh = 64;
// new tokens, tokens in the cache before them, heads of keys and values: prefill, then decode
for (const [T, past, Hkv] of [[256, 0, 16], [1, 511, 16], [1, 4095, 16], [1, 4095, 4]] as const) {
  const capacity = T + past, causal = true;
  const q = zeros(device, [T, H, Dh]), k = zeros(device, [1, Hkv, capacity, Dh], "float16");
  const strides = { sequenceStride: Hkv * capacity * Dh, headStride: capacity * Dh, keyStride: Dh };
  const geometry = kvLayout(device, { heads: H, kvHeads: Hkv, ...strides, scale: 0.125, causal });
  const cuSeqlens = tensor(device, [0, T], [2], "uint32"), pasts = tensor(device, [past], [1], "uint32");
  const pairs = T * past + (T * (T + 1)) / 2;
  await measure(device, {
    name: "attention f16",
    shape: `${T} after ${past}, heads ${H}/${Hkv}`,
    bytes: 8 * T * H * Dh + 2 * k.byteLength,
    flops: 4 * pairs * H * Dh,
    run: () => attention(q, { k, v: k, geometry, past: pasts }, cuSeqlens),
  });
}
