import { argmax } from "../../src/ops/argmax.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
for (const [rows, n] of [[1, 49_152], [1, 151_936], [8, 151_936]] as const) {
  const x = zeros(device, [rows, n]);
  await measure(device, { name: "argmax", shape: `[${rows}, ${n}]`, bytes: 4 * rows * n, run: () => argmax(x) });
}
