import { sampleLogits } from "../../src/ops/sample_logits.ts";
import { samplingParams, type SamplingSettings } from "../../src/ops/sampling_params.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
const settings: [name: string, settings: SamplingSettings][] = [
  ["temperature", {}],
  ["top k", { topK: 50 }],
  ["top p", { topP: 0.9 }],
  ["top k and p", { temperature: 0.7, topK: 50, topP: 0.9 }],
];
for (const [rows, vocab] of [[1, 32_000], [1, 151_936], [8, 32_000]] as const) {
  // nearly normal, since how often the row is read depends on its shape
  const uniform = () => Math.random() + Math.random() + Math.random() + Math.random() - 2;
  const logits = tensor(device, Float32Array.from({ length: rows * vocab }, () => 5 * uniform()), [rows, vocab]);
  const step = zeros(device, [1], "uint32"), bytes = 4 * rows * vocab; // read logits
  for (const [name, s] of settings) {
    const params = samplingParams(device, s);
    await measure(device, {
      name: "sample_logits",
      shape: `[${rows}, ${vocab}] ${name}`,
      bytes,
      run: () => sampleLogits(logits, params, step),
    });
  }
}
