import { rotaryEmbedding } from "../../src/ops/rotary_embedding.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
for (const [tokens, heads, headDim] of [[1, 32, 128], [512, 32, 64]] as const) {
  const x = zeros(device, [tokens, heads, headDim]), table = zeros(device, [tokens, 2, headDim / 2]);
  const positions = zeros(device, [tokens], "uint32");
  const bytes = 4 * (2 * x.size + table.size + tokens); // read x, table and positions, write y
  await measure(device, {
    name: "rotary_embedding",
    shape: `[${tokens}, ${heads}, ${headDim}]`,
    bytes,
    run: () => rotaryEmbedding(x, table, positions),
  });
}
