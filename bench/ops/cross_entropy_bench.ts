import { crossEntropy } from "../../src/ops/cross_entropy.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
for (const [rows, V] of [[128, 2048], [64, 32_000], [16, 151_936]] as const) {
  const x = zeros(device, [rows, V]), targets = zeros(device, [rows], "uint32");
  const run = () => crossEntropy(x, targets);
  await measure(device, { name: "cross_entropy", shape: `[${rows}, ${V}]`, bytes: 4 * rows * (V + 2), run });
}
