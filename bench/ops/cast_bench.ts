import { cast } from "../../src/ops/cast.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
const n = 2 ** 21;
const x = zeros(device, [n]);
for (const dtype of ["float16", "bfloat16"] as const) {
  const y = cast(x, dtype);
  await measure(device, { name: `cast to ${dtype}`, shape: `[${n}]`, bytes: 6 * n, run: () => cast(x, dtype) });
  await measure(device, { name: `cast ${dtype}`, shape: `[${n}]`, bytes: 6 * n, run: () => cast(y, "float32") });
}
