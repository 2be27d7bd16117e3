/**
 * Products by subgroup matrices, tile by tile, beside the same without: `TENSAUR_TEST_PROVIDER=dawn` on a GPU that has them.
 * On a CPU they are slower, and run only where `TENSAUR_TEST_RUNG=matrix` asks for them.
 */
import { launchSubgroupMatrix, type MatrixTile, tileFits } from "../../src/ops/matmul_subgroup_matrix.ts";
import { matmulPacked, packedMatrix } from "../../src/ops/matmul_packed.ts";
import { stripOf } from "../../src/ops/pack_weight.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { empty } from "../../src/tensor/mod.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice(), { f16 } = device.features.subgroupMatrix || {};
const without: typeof device = Object.create(device, {
  features: { value: { ...device.features, subgroupMatrix: false } },
});
const shapes = device.isCpu ? [[128, 512, 512]] as const : [[4096, 4096, 4096], [512, 4096, 4096]] as const;
const { subgroupMaxSize: lanes = 0 } = device.info as GPUAdapterInfo & { subgroupMaxSize?: number };

// subgroups down and across, rows and columns of each, depth
const tiles = [[2, 2, 64, 64, 32], [2, 2, 32, 32, 32], [2, 2, 64, 64, 16], [2, 2, 64, 64, 64], [2, 4, 64, 32, 32]]
  .concat([[4, 2, 32, 64, 32], [2, 4, 64, 64, 32], [4, 4, 32, 32, 32], [1, 2, 64, 64, 32], [2, 2, 16, 16, 16]])
  .map(([down = 1, across = 1, rows = 1, columns = 1, depth = 1]): MatrixTile => ({
    down,
    across,
    rows,
    columns,
    depth,
  }))
  .filter((tile) => f16 && tile.rows * tile.columns / lanes <= 128 && tileFits(device.limits, lanes, "f16", f16, tile));

for (const [M, K, N] of f16 ? shapes : []) {
  const shape = `[${M}, ${K}] x [${K}, ${N}]`, flops = 2 * M * K * N, bytes = 4 * M * K + 2 * K * N + 4 * M * N;
  const named = (name: string, run: () => unknown) => measure(device, { name, shape, bytes, flops, run });
  for (const [name, on] of [["matrices, none", without], ["matrices, chosen", device]] as const) {
    const x = zeros(on, [M, K]), matrix = packedMatrix(zeros(on, [K, N], "float16"), N, { strip: stripOf(on) });
    await named(name, () => matmulPacked(x, matrix));
  }
  const w = zeros(device, [K, N], "float16"), { dims } = packedMatrix(w, N), y = empty(device, [M, N]);
  const bindings = { w, dims, y, x: zeros(device, [M, K]) }, overrides = { ACTIVATION: 0, PARTS: 1 };
  for (const tile of tiles) {
    const { down, across, rows, columns, depth } = tile;
    await named(`matrices ${down}x${across} ${rows}x${columns}x${depth}`, () => {
      launchSubgroupMatrix(
        device,
        "float16",
        { M, N },
        { flags: { F16: true, N_BY_4: true }, overrides, bindings },
        tile,
      );
    });
  }
}
