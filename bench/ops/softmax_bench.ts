import { softmax } from "../../src/ops/softmax.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
for (const [rows, n] of [[1, 151_936], [12 * 128, 128], [1024, 2048]] as const) {
  const x = zeros(device, [rows, n]);
  const bytes = 4 * 2 * rows * n;
  await measure(device, { name: "softmax", shape: `[${rows}, ${n}]`, bytes, run: () => softmax(x) });
}
