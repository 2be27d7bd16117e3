import { transpose } from "../../src/ops/transpose.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
for (const [M, N] of [[512, 512], [2048, 2048], [1000, 1030]] as const) {
  const x = zeros(device, [M, N]);
  await measure(device, { name: "transpose", shape: `[${M}, ${N}]`, bytes: 8 * M * N, run: () => transpose(x) });
}
