import { layerNorm } from "../../src/ops/layer_norm.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
for (const [rows, dim] of [[1, 4096], [512, 384], [512, 768], [1024, 2048]] as const) {
  const x = zeros(device, [rows, dim]), w = zeros(device, [dim]);
  const bytes = 4 * (2 * rows * dim + 2 * dim); // read x, weight and bias, write y
  await measure(device, { name: "layer_norm", shape: `[${rows}, ${dim}]`, bytes, run: () => layerNorm(x, w, w) });
}
