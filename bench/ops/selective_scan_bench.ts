import { causalConv1d } from "../../src/ops/causal_conv1d.ts";
import { selectiveScan } from "../../src/ops/selective_scan.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice(), I = 1536, N = 16, K = 4, R = 48;
for (const T of [1, 256]) {
  const cuSeqlens = tensor(device, [0, T], [2], "uint32"), xz = zeros(device, [T, 2 * I]);
  const conv = { weight: zeros(device, [I, K]), bias: zeros(device, [I]), states: zeros(device, [1, I, K]), cuSeqlens };
  const shape = `[${T}, ${I}]`;
  await measure(device, { name: "causal_conv1d", shape, bytes: 8 * T * I, run: () => causalConv1d(xz, conv) });
  const u = zeros(device, [T, I]);
  const scan = {
    dt: zeros(device, [T, I]),
    aLog: zeros(device, [I, N]),
    bc: zeros(device, [T, R + 2 * N]),
    d: zeros(device, [I]),
    z: xz,
    states: zeros(device, [1, I, N]),
    cuSeqlens,
  };
  await measure(device, { name: "selective_scan", shape, bytes: 16 * T * I, run: () => selectiveScan(u, scan) });
}
