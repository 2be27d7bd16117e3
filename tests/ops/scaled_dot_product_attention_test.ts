import { assertEquals } from "@std/assert";
import {
  type HostSdpaOptions,
  type HostTensor,
  scaledDotProductAttention,
  scaledDotProductAttentionReference,
  type SdpaOptions,
} from "../../src/ops/scaled_dot_product_attention.ts";
import { decode, type Dtype, encode, tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor } from "../reference.ts";

const device = await testDevice();

// PyTorch's own numbers

interface SdpaGolden {
  inputs: Record<"q" | "k" | "v", GoldenTensor> & { mask?: GoldenTensor; alibi_slopes?: GoldenTensor };
  params: { scale: number; causal?: "bottom_right" | "top_left"; window?: number; softcap?: number };
  outputs: { out: GoldenTensor };
}

for (const { name, inputs, params, outputs, tolerance } of await goldenCases<SdpaGolden>("data/ops/sdpa")) {
  Deno.test(`scaledDotProductAttention() equals PyTorch: ${name}`, async () => {
    const { q, k, v, mask, alibi_slopes: slopes } = inputs;
    const put = (t: GoldenTensor) => tensor(device, t.data as Float32Array, t.shape, t.dtype as Dtype);
    using y = scaledDotProductAttention(put(q), put(k), put(v), {
      scale: params.scale,
      isCausal: params.causal && (params.causal === "top_left" ? "topLeft" : "bottomRight"),
      enableGqa: true,
      slidingWindow: params.window,
      softcap: params.softcap,
      alibiSlopes: slopes && Array.from(slopes.data as Float32Array),
      attnMask: mask &&
        (mask.dtype === "float32" ? put(mask) : tensor(device, Array.from(mask.data, Number), mask.shape, "uint32")),
    });
    const want = outputs.out.data as Float32Array;
    assertEquals(y.shape, outputs.out.shape);
    const most = want.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
    const f32 = { rtol: 1e-5, atol: 1e-5 * most };
    const rounded = { rtol: tolerance!.rtol + (q.dtype === "bfloat16" ? 2 ** -8 : 2 ** -11), atol: tolerance!.atol };
    assertClose("y", await y.read(), want, q.dtype === "float32" ? f32 : rounded);
  });
}
