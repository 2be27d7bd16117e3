import { rmsNorm } from "../../src/ops/rms_norm.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
for (const [rows, dim] of [[1, 4096], [512, 768], [1024, 2048]] as const) {
  const x = zeros(device, [rows, dim]), weight = zeros(device, [dim]);
  const bytes = 4 * (2 * rows * dim + dim); // read x and weight, write y
  await measure(device, { name: "rms_norm", shape: `[${rows}, ${dim}]`, bytes, run: () => rmsNorm(x, weight) });
}
