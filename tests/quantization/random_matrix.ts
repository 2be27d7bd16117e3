/** Random matrices of integer codes. */
import { assertEquals } from "@std/assert";
import type { Device } from "../../src/gpu/mod.ts";
import { packCodesReference } from "../../src/ops/pack_codes.ts";
import { packedColumns } from "../../src/ops/pack_weight.ts";
import { type CodeBits, type CodedMatrix, codeWords, integerDims } from "../../src/ops/quantized_matmul.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { random } from "../helpers.ts";

/** Random codes with random scales and zeros: the matrix on the GPU, and its numbers [N, K]. */
export function randomMatrix(on: Device, bits: CodeBits, K: number, N: number, G: number): [CodedMatrix, Float32Array] {
  const next = random(bits * K + N), stride = packedColumns(N), count = Math.ceil(K / G);
  const codes = Uint8Array.from({ length: N * K }, () => next() * 2 ** bits);
  const zeroBits = bits <= 4 ? 4 : 8, zeros = count * stride / 2;
  const words = new Uint32Array(zeros + Math.ceil(count * stride * zeroBits / 32));
  const scales = new Float16Array(words.buffer);
  const zeroOf = (g: number, n: number) =>
    words[zeros + ((g * stride + n) * zeroBits >> 5)]! >>>
      ((g * stride + n) * zeroBits & 31) & (2 ** zeroBits - 1);
  for (let i = 0; i < count * stride; i++) {
    scales[i] = next() + 0.1;
    words[zeros + (i * zeroBits >> 5)]! |= Math.floor(next() * 2 ** bits) << (i * zeroBits & 31);
  }
  const group = G >= K ? K : G, span = G < 32 ? 16 : 32;
  const weights = Float32Array.from(codes, (code, i) => {
    const n = Math.floor(i / K), g = Math.floor(i % K / G);
    return scales[g * stride + n]! * (code - zeroOf(g, n));
  });
  const packed = packCodesReference(on, codes, { N, K, bits });
  assertEquals(packed.length, codeWords(K, N, bits));
  return [{
    kind: "integer",
    flags: {},
    ...{ bits, span, K, N },
    w: tensor(on, packed, [packed.length], "uint32"),
    groups: tensor(on, words, [words.length], "uint32"),
    dims: integerDims(on, { K, N, group, span, zeroBits, zeros }),
  }, weights];
}
