import { embedding, gatherRows } from "../../src/ops/gather_rows.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
for (const [tokens, dim] of [[1, 4096], [512, 768]] as const) {
  const index = zeros(device, [tokens], "uint32");
  const table = zeros(device, [1000, dim]), halves = zeros(device, [1000, dim], "float16");
  const shape = `${tokens} of [1000, ${dim}]`, elements = tokens * dim;
  await measure(device, { name: "gather_rows", shape, bytes: 8 * elements, run: () => gatherRows(table, index) });
  await measure(device, { name: "embedding f16", shape, bytes: 6 * elements, run: () => embedding(index, halves) });
}
