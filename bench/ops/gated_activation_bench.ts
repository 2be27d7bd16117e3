import { swiglu } from "../../src/ops/gated_activation.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
for (const [rows, width] of [[1, 4864], [128, 4864], [128, 4866]] as const) {
  const x = zeros(device, [rows, 2 * width]);
  const bytes = 4 * 3 * rows * width; // read both halves, write y
  await measure(device, { name: "swiglu", shape: `[${rows}, 2 * ${width}]`, bytes, run: () => swiglu(x) });
}
