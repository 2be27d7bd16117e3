import { topK } from "../../src/ops/top_k.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
for (const [rows, V, k] of [[1, 32_000, 1], [4, 32_000, 8], [4, 151_936, 8]] as const) {
  const x = zeros(device, [rows, V]);
  const run = () => topK(x, k).indices;
  await measure(device, { name: "top_k", shape: `[${rows}, ${V}], k ${k}`, bytes: 8 * rows * V, run });
}
