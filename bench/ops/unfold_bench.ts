import { unfold } from "../../src/ops/unfold.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
for (const [C, L, stride] of [[80, 3000, 1], [384, 3000, 2]] as const) {
  const x = zeros(device, [1, C, L]), options = { kernelSize: 3, stride, padding: 1 };
  const bytes = 4 * C * L * (1 + 3 / stride); // read x once, write y
  await measure(device, { name: "unfold", shape: `[1, ${C}, ${L}] / ${stride}`, bytes, run: () => unfold(x, options) });
}
