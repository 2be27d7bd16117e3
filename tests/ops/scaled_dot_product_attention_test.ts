/** What PyTorch computes, by each kernel that can, and by the plain loops that every other test of attention trusts. */
import { assertEquals } from "@std/assert";
import {
  type HostTensor,
  scaledDotProductAttention,
  scaledDotProductAttentionReference,
} from "../../src/ops/scaled_dot_product_attention.ts";
import { sdpaKernel, type SdpBackends } from "../../src/ops/sdpa_kernel.ts";
import { type Dtype, tensor, tidy } from "../../src/tensor/mod.ts";
import { assertClose, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor } from "../reference.ts";

const device = await testDevice();
// each kernel must be compiled for each size of head, so the plain suite takes the one that would be chosen
const KERNELS: SdpBackends[] = Deno.env.get("TENSAUR_TEST_FULL") === "1" ? [{}, "efficient", "math"] : [{}];

interface SdpaGolden {
  inputs: Record<"q" | "k" | "v", GoldenTensor> & { mask?: GoldenTensor; alibi_slopes?: GoldenTensor };
  params: { scale: number; causal?: "bottom_right" | "top_left"; window?: number; softcap?: number };
  outputs: { out: GoldenTensor };
}

/** The options of a case, but for its mask. */
function optionsOf({ inputs, params }: SdpaGolden) {
  return {
    scale: params.scale,
    isCausal: params.causal && (params.causal === "top_left" ? "topLeft" : "bottomRight"),
    slidingWindow: params.window,
    softcap: params.softcap,
    alibiSlopes: inputs.alibi_slopes && Array.from(inputs.alibi_slopes.data as Float32Array),
  } as const;
}

const cases = await goldenCases<SdpaGolden>("data/ops/sdpa");
for (const kernel of KERNELS) {
  const by = typeof kernel === "string" ? ` by ${kernel}` : "";
  for (const c of cases) {
    Deno.test(`scaledDotProductAttention() equals PyTorch${by}: ${c.name}`, async () => {
      const { q, k, v, mask } = c.inputs, want = c.outputs.out.data as Float32Array;
      const put = (t: GoldenTensor) => tensor(device, t.data as Float32Array, t.shape, t.dtype as Dtype);
      const bool = (t: GoldenTensor) => tensor(device, Array.from(t.data, Number), t.shape, "uint32");
      using y = tidy(device, () => {
        const attnMask = mask && (mask.dtype === "float32" ? put(mask) : bool(mask));
        const options = { ...optionsOf(c), attnMask, enableGqa: true };
        return sdpaKernel(kernel, () => scaledDotProductAttention(put(q), put(k), put(v), options));
      });
      assertEquals(y.shape, c.outputs.out.shape);
      const most = want.reduce((m, x) => Math.max(m, Math.abs(x)), 0), { rtol, atol } = c.tolerance!;
      const ulp = { float32: 0, float16: 2 ** -11, bfloat16: 2 ** -8 }[q.dtype as "float32"]; // the result is rounded too
      assertClose("y", await y.read(), want, ulp ? { rtol: rtol + ulp, atol } : { rtol: 1e-5, atol: 1e-5 * most });
    });
  }
}

for (const c of cases) {
  Deno.test(`scaledDotProductAttentionReference() equals PyTorch: ${c.name}`, () => {
    const { q, k, v, mask } = c.inputs;
    const host = ({ data, shape }: GoldenTensor): HostTensor => ({ data: Float64Array.from(data, Number), shape });
    const attnMask = mask && { ...host(mask), bool: mask.dtype !== "float32" };
    const got = scaledDotProductAttentionReference(host(q), host(k), host(v), { ...optionsOf(c), attnMask });
    assertClose("y", got, c.outputs.out.data as Float32Array, q.dtype === "float32" ? { rtol: 1e-5 } : c.tolerance);
  });
}
