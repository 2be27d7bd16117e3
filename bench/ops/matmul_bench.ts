import { matmulPacked, packedMatrix } from "../../src/ops/matmul_packed.ts";
import { stripOf } from "../../src/ops/pack_weight.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
// one row (decode), a few (speculation, small batches), many (prefill, encoders)
const shapes = [[1, 4096, 4096], [4, 1024, 4096], [256, 512, 512], [512, 512, 512], [1024, 1024, 1024]] as const;
const large = device.isCpu ? [] : [[4096, 4096, 4096]] as const;
for (const [M, K, N] of [...shapes, ...large]) {
  for (const dtype of ["float32", "float16"] as const) {
    const x = zeros(device, [M, K]),
      w = zeros(device, [K, N], dtype),
      matrix = packedMatrix(w, N, { strip: stripOf(device) });
    const bytes = 4 * M * K + w.byteLength + 4 * M * N;
    await measure(device, {
      name: `matmul ${dtype === "float32" ? "f32" : "f16"}`,
      shape: `[${M}, ${K}] x [${K}, ${N}]`,
      bytes,
      flops: 2 * M * K * N,
      run: () => matmulPacked(x, matrix),
    });
  }
}
