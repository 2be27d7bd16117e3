import { poolRows } from "../../src/ops/pool_rows.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
for (const [B, tokens, dim] of [[1, 512, 384], [64, 128, 384]] as const) {
  const x = zeros(device, [B * tokens, dim]);
  const cuSeqlens = tensor(device, Array.from({ length: B + 1 }, (_, b) => b * tokens), [B + 1], "uint32");
  const bytes = 4 * (B * tokens + B) * dim;
  const run = () => poolRows(x, cuSeqlens, "mean");
  await measure(device, { name: "pool_rows mean", shape: `${B} of [${tokens}, ${dim}]`, bytes, run });
}
