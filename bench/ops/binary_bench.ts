import { add } from "../../src/ops/binary.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
for (const [rows, dim] of [[1, 4096], [512, 768], [512, 4096]] as const) {
  const a = zeros(device, [rows, dim]), bias = zeros(device, [dim]);
  const shape = `[${rows}, ${dim}]`, bytes = 4 * rows * dim;
  await measure(device, { name: "add", shape, bytes: 3 * bytes, run: () => add(a, a) });
  await measure(device, { name: "add", shape: `${shape}, [${dim}]`, bytes: 2 * bytes, run: () => add(a, bias) });
}
