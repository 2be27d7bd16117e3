import { gelu, silu } from "../../src/ops/unary.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
for (const [rows, dim] of [[1, 4096], [512, 3072]] as const) {
  const x = zeros(device, [rows, dim]);
  const shape = `[${rows}, ${dim}]`, bytes = 4 * 2 * rows * dim;
  await measure(device, { name: "gelu", shape, bytes, run: () => gelu(x) });
  await measure(device, { name: "gelu tanh", shape, bytes, run: () => gelu(x, { approximate: "tanh" }) });
  await measure(device, { name: "silu", shape, bytes, run: () => silu(x) });
}
