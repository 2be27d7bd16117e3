import { blockAbsmax, quantizeCodes } from "../../src/ops/pack_codes.ts";
import { codeWords } from "../../src/ops/quantized_matmul.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
// a piece of a weight as the loader reads it, to NF4 and to LLM.int8()
for (const [rows, K] of [[128, 4096], [1024, 512]] as const) {
  for (const code of ["nf4", "int8"] as const) {
    const block = code === "nf4" ? 64 : K, bits = code === "nf4" ? 4 : 8;
    const x = zeros(device, [rows, K]), w = zeros(device, [codeWords(K, rows, bits)], "uint32");
    const absmax = zeros(device, [rows * K / block]), place = { block, first: 0, stride: rows };
    await measure(device, {
      name: `quantize ${code}`,
      shape: `[${rows}, ${K}]`,
      bytes: 2 * x.byteLength + w.byteLength, // read twice: once for absmax
      run: () => {
        blockAbsmax(x, absmax, place);
        quantizeCodes(x, absmax, place, w, { code, N: rows, column: 0 });
      },
    });
  }
}
