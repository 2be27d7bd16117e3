import { assertThrows } from "@std/assert";
import { ShapeError } from "../../src/errors.ts";
import { linear } from "../../src/ops/mod.ts";
import { unfold, type UnfoldOptions, unfoldReference } from "../../src/ops/unfold.ts";
import { type Tensor, tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor } from "../reference.ts";

const device = await testDevice();
const CASES: readonly [shape: [number, number, number], options: UnfoldOptions][] = [
  [[1, 1, 1], { kernelSize: 1 }],
  [[2, 3, 7], { kernelSize: 3, padding: 1 }],
  [[2, 5, 8], { kernelSize: 3, stride: 2, padding: 1 }],
  [[1, 4, 9], { kernelSize: 4, stride: 3 }],
  [[1, 2, 2], { kernelSize: 5, padding: 4 }],
];

for (const [[B, C, L], options] of CASES) {
  Deno.test(`unfold() equals its reference at [${B}, ${C}, ${L}] with ${JSON.stringify(options)}`, async () => {
    const x = randn(B * C * L), want = unfoldReference(x, [B, C, L], options);
    using y = unfold(tensor(device, x, [B, C, L]), options);
    assertClose("y", await y.read(), want, { atol: 0, rtol: 0 });
    const turned = x.map((_, j) => x[(Math.floor(j / (L * C)) * C + j % C) * L + Math.floor(j / C) % L]!);
    using last = unfold(tensor(device, turned, [B, L, C]), { ...options, channelsLast: true });
    assertClose("channels last", await last.read(), want, { atol: 0, rtol: 0 });
  });
}

interface Case {
  inputs: Record<"x" | "weight" | "bias", GoldenTensor>;
  outputs: { out: GoldenTensor };
  params: { stride: number; padding: number; groups: number };
}
for (const { name, inputs, outputs, params, tolerance } of await goldenCases<Case>("data/ops/misc", "conv1d")) {
  if (params.groups !== 1) continue;
  Deno.test(`unfold() and a product equal torch's convolution at ${name}`, async () => {
    const put = (t: GoldenTensor, shape = t.shape): Tensor => tensor(device, t.data as Float32Array, shape);
    const [out = 0, C = 0, K = 0] = inputs.weight.shape, { stride, padding } = params;
    using windows = unfold(put(inputs.x), { kernelSize: K, stride, padding });
    using y = linear(windows, put(inputs.weight, [out, C * K]), put(inputs.bias));
    const got = await y.read(), [, , O = 0] = outputs.out.shape; // torch's is [B, out, O]
    const turned = got.map((_, j) => got[(Math.floor(j / (O * out)) * O + j % O) * out + Math.floor(j / O) % out]!);
    assertClose("out", turned, outputs.out.data as Float32Array, tolerance);
  });
}

Deno.test("unfold() refuses windows that do not fit", () => {
  const x = tensor(device, randn(6), [1, 2, 3]);
  for (const options of [{ kernelSize: 4 }, { kernelSize: 0 }, { kernelSize: 1, stride: 0 }, { kernelSize: 1.5 }]) {
    assertThrows(() => unfold(x, options), ShapeError, "Cannot run unfold");
  }
});
