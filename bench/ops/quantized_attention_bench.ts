import { attention, kvLayout } from "../../src/ops/attention.ts";
import { emptyKvCodes, type KvScheme } from "../../src/ops/kv_quantization.ts";
import { quantizedAttention } from "../../src/ops/quantized_attention.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { benchDevice, measure } from "../measure.ts";

const H = 16, Hkv = 4, Dh = 64;
const device = await benchDevice();
for (const S of [512, 4096]) {
  const q = zeros(device, [1, H, Dh]), starts = tensor(device, [0, 1], [2], "uint32");
  const flops = 4 * S * H * Dh, shape = `1 after ${S - 1}, ${H}/${Hkv} × ${Dh}`;
  const k = zeros(device, [1, Hkv, S, Dh], "float16"), pasts = tensor(device, [S - 1], [1], "uint32");
  const strides = { sequenceStride: Hkv * S * Dh, headStride: S * Dh, keyStride: Dh };
  const geometry = kvLayout(device, { heads: H, kvHeads: Hkv, ...strides, scale: 0.125, causal: true });
  await measure(device, {
    name: "attention float16",
    shape,
    bytes: 8 * H * Dh + 2 * k.byteLength,
    flops,
    run: () => attention(q, { k, v: k, geometry, past: pasts }, starts),
  });
  for (const bits of [8, 4, 2]) {
    const scheme = { backend: "quanto", bits, group: 64, keys: "consecutive", values: "consecutive" } as const;
    const narrow: KvScheme = { ...scheme, wide: false };
    const words = emptyKvCodes(device, { kvHeads: Hkv, headDim: Dh, lengths: [S - 64] }, narrow);
    const rest = zeros(device, [2, 1, Hkv, 64, Dh], "float16"), counts = tensor(device, [63, S - 64], [2], "uint32");
    await measure(device, {
      name: `quantized_attention ${bits} bits`,
      shape,
      bytes: 8 * H * Dh + words.byteLength + rest.byteLength,
      flops,
      run: () => quantizedAttention(q, { words, rest, counts }, starts, Hkv, narrow, { scale: 0.125 }),
    });
  }
}
