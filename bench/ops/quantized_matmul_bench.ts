import { int8Dims, int8Matmul, int8Threshold } from "../../src/ops/int8_matmul.ts";
import { packedColumns } from "../../src/ops/pack_weight.ts";
import {
  blockDims,
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
    int8: () => int8Dims(device, { K, N }),
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
        const y = empty(device, [M, N]);
        if (kind === "int8") int8Matmul(x, [matrix], params, 6, y);
        else quantizedMatmul(x, matrix, y);
        return y;
      },
    });
  }
}

/** How scales lie: groups of so many inputs, each with a zero; or GGUF's blocks, with groups and steps of their scales. */
const layouts: [name: string, bits: CodeBits, span: 32 | 16, size: number, steps: "none" | "halves" | "bytes"][] = [
  ["groups of 16", 4, 16, 16, "none"],
  ["groups of 32", 4, 32, 32, "none"],
  ["groups of 64", 4, 32, 64, "none"],
  ["groups of 128", 4, 32, 128, "none"],
  ["one group", 4, 32, 2048, "none"],
  ["Q4_0", 4, 32, 32, "none"],
  ["Q4_K", 4, 32, 256, "bytes"],
  ["Q2_K", 2, 16, 256, "halves"],
  ["Q6_K", 6, 16, 256, "bytes"],
];

for (const [name, bits, span, size, steps] of layouts) {
  const K = 2048, N = 2048, stride = packedColumns(N), count = K / size, isBlocks = name.startsWith("Q");
  const d = count * stride / 2, least = name.endsWith("_K") && bits < 6 ? d : 0, sc = d + least;
  const each = K / span * stride / 4, m = steps === "halves" ? sc : sc + each;
  const words = isBlocks ? (steps === "none" ? d : m + each) : d + count * stride / 8;
  const dims = isBlocks
    ? blockDims(device, {
      ...{ K, N, span, size, zero: 8, dmin: least },
      ...steps === "none" ? { sc: 0, m: 0 } : { sc, m },
    })
    : integerDims(device, { K, N, group: size, span, zeroBits: 4, zeros: d });
  const w = zeros(device, [codeWords(K, N, bits)], "uint32"), groups = zeros(device, [words], "uint32");
  const matrix: CodedMatrix = { kind: "integer", bits, span, flags: { BLOCKS: isBlocks }, K, N, w, groups, dims };
  const x = zeros(device, [1, K]);
  await measure(device, {
    name: "quantized_matmul scales",
    shape: `${name}, [1, ${K}] x [${K}, ${N}]`,
    bytes: 4 * K + w.byteLength + groups.byteLength + 4 * N,
    flops: 2 * K * N,
    run: () => {
      const y = empty(device, [1, N]);
      quantizedMatmul(x, matrix, y);
      return y;
    },
  });
}
