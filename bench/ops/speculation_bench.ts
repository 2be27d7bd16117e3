import { acceptDrawn, draftSettings, draftToken, type SpeculationBuffers } from "../../src/ops/speculation.ts";
import { samplingParams } from "../../src/ops/sampling_params.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
const words = (...data: number[]) => tensor(device, data, [data.length], "uint32");
for (const V of [2048, 32_000, 151_936]) {
  const rows = 4, p = zeros(device, [rows, V]), q = zeros(device, [rows - 1, V]), params = samplingParams(device);
  const buffers = {
    window: words(...Array(9).fill(0)),
    steps: words(0, 1, 2, 3),
    state: words(0, 3, 3, 1, ...Array(13).fill(0)),
  };
  const given = buffers as unknown as SpeculationBuffers;
  const input = { tokens: words(0), positions: words(0), settings: words(...draftSettings(V, 0.4, [2])) };
  const last = p.rows(0, 1);
  await measure(device, {
    name: "draft_token",
    shape: `[1, ${V}]`,
    bytes: 4 * V,
    run: () => draftToken(last, input, given),
  });
  await measure(device, {
    name: "accept_drawn",
    shape: `[${rows}, ${V}]`,
    bytes: 4 * V * (2 * rows - 1),
    run: () => acceptDrawn(p, { q, params }, given),
  });
}
