import { int8Dims, int8Matmul, int8Threshold } from "../../src/ops/int8_matmul.ts";
import { packedColumns } from "../../src/ops/pack_weight.ts";
import {
  type CodeBits,
  codebookDims,
  type CodedMatrix,
  codeWords,
  integerDims,
  quantizedMatmul,
} from "../../src/ops/quantized_matmul.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { empty } from "../../src/tensor/mod.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();

/** A matrix of zero codes in groups of 128 with a zero each, or of NF4 in blocks of 64, or of LLM.int8(). */
function matrixOf(kind: CodedMatrix["kind"], bits: CodeBits, K: number, N: number): CodedMatrix {
  const stride = packedColumns(N), count = K / 128, zeroBits = bits <= 4 ? 4 : 8;
  const integerWords = count * stride / 2 + count * stride * zeroBits / 32;
  const words = { integer: integerWords, codebook: 16 + K / 64 * stride, int8: stride }[kind];
  const dims = {
    integer: () => integerDims(device, { K, N, group: 128, span: 32, zeroBits, zeros: count * stride / 2 }),
    codebook: () =>
      codebookDims(device, { K, N, block: 64, flat: false, parts: [{ column: 0, absmax: 16, nested: 0 }] }),
    int8: () => int8Dims(device, K, N),
  }[kind]();
  const w = zeros(device, [codeWords(K, N, bits)], "uint32"), groups = zeros(device, [words], "uint32");
  return { kind, bits, span: 32, flags: {}, K, N, w, groups, dims };
}

const schemes: [name: string, kind: CodedMatrix["kind"], bits: CodeBits][] = [
  ["q4", "integer", 4],
  ["q8", "integer", 8],
  ["nf4", "codebook", 4],
  ["int8", "int8", 8],
];

// one row (decode), a few (speculation, small batches), many (prefill)
for (const [M, K, N] of [[1, 4096, 4096], [4, 1024, 4096], [256, 512, 512]] as const) {
  for (const [name, kind, bits] of schemes) {
    const x = zeros(device, [M, K]), matrix = matrixOf(kind, bits, K, N);
    const params = int8Threshold(device, K, 6);
    await measure(device, {
      name: `quantized_matmul ${name}`,
      shape: `[${M}, ${K}] x [${K}, ${N}]`,
      bytes: 4 * M * K + matrix.w.byteLength + matrix.groups.byteLength + 4 * M * N,
      flops: 2 * M * K * N,
      run: () => {
        if (kind === "int8") return int8Matmul(x, matrix, params, 6);
        const y = empty(device, [M, N]);
        quantizedMatmul(x, matrix, y);
        return y;
      },
    });
  }
}
