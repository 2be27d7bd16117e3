import { qkvRope } from "../../src/ops/qkv_rope.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
for (
  const [tokens, heads, kvHeads, headDim, norm] of [[1, 16, 8, 128, true], [512, 16, 8, 128, true], [
    512,
    9,
    3,
    64,
    false,
  ]] as const
) {
  const qkv = zeros(device, [tokens, (heads + 2 * kvHeads) * headDim]), table = zeros(device, [tokens, 2, headDim / 2]);
  const positions = zeros(device, [tokens], "uint32"), weight = norm ? zeros(device, [headDim]) : undefined;
  const bytes = 4 * (2 * qkv.size + table.size + tokens); // read qkv, table and positions, write q, k and v
  await measure(device, {
    name: norm ? "qkv_rope, norms" : "qkv_rope",
    shape: `[${tokens}, ${heads}+2·${kvHeads}, ${headDim}]`,
    bytes,
    run: () => qkvRope(qkv, table, positions, { heads, kvHeads, headDim, qNorm: weight, kNorm: weight }),
  });
}
