import { assert, assertEquals } from "@std/assert";
import { BLOCK_FORMATS, blockFormat, type BlockName, dequantizeBlocks } from "../../src/quantization/gguf_blocks.ts";
import { quantizeToBlocks, type WrittenBlock } from "../../src/quantization/gguf_quantize.ts";
import { randn } from "../helpers.ts";
import { type GoldenCase, goldenCases, type GoldenTensor } from "../reference.ts";

interface BlockCase extends GoldenCase {
  params: { type: BlockName };
  inputs?: { x?: GoldenTensor };
  outputs: { blocks: GoldenTensor; dequantized: GoldenTensor };
}

function bits(x: ArrayLike<number>): number[] {
  return [...new Uint32Array(Float32Array.from(x).buffer)];
}

for (const { name, params: { type }, inputs, outputs } of await goldenCases<BlockCase>("data/ops/gguf", "gguf")) {
  const format = blockFormat(type);
  if (!format) continue;
  const blocks = Uint8Array.from(outputs.blocks.data as Uint8Array), want = outputs.dequantized.data as Float32Array;
  Deno.test(`dequantizeBlocks() has ggml's bits: ${name}`, () => {
    const out = new Float32Array(want.length);
    dequantizeBlocks(format, blocks, out);
    assertEquals(bits(out), bits(want));
  });
  const x = inputs?.x?.data as Float32Array | undefined;
  if (x && (type === "Q4_0" || type === "Q8_0")) {
    Deno.test(`quantizeToBlocks() has ggml's bits: ${name}`, () => {
      assertEquals(quantizeToBlocks(type, Float32Array.from(x)), blocks);
    });
  }
}

// zeros, one number, only positive, only negative, tiny, a single outlier
const rows: [what: string, make: (i: number) => number][] = [
  ["zeros", () => 0],
  ["one number", (i) => i === 77 ? -3 : 0],
  ["positive", (i) => 1 + i / 100],
  ["negative", (i) => -1 - i / 100],
  ["tiny", (i) => Math.sin(i) * 1e-6],
  ["an outlier", (i) => i === 3 ? 50 : Math.cos(i)],
];

for (const name of ["Q4_0", "Q8_0", "Q4_K"] as WrittenBlock[]) {
  Deno.test(`quantizeToBlocks() comes near what it is given: ${name}`, () => {
    const format = BLOCK_FORMATS[name];
    for (const [what, make] of rows) {
      const x = Float32Array.from({ length: 512 }, (_, i) => make(i)), out = new Float32Array(512);
      dequantizeBlocks(format, quantizeToBlocks(name, x), out);
      const size = format.size, steps = name === "Q8_0" ? 200 : 12;
      for (let at = 0; at < 512; at += size) {
        const block = x.subarray(at, at + size), width = Math.max(...block) - Math.min(0, ...block);
        const worst = Math.max(...block.map((v, i) => Math.abs(v - out[at + i]!)));
        assert(worst <= Math.max(width, Math.abs(Math.min(...block))) / steps + 1e-6, `${what}: ${worst} of ${width}`);
      }
    }
  });
}

Deno.test("quantizeToBlocks() is nearer with minima: Q4_K against Q4_0 on normal numbers", () => {
  const x = randn(4096, 7),
    errors = (["Q4_0", "Q4_K"] as const).map((name) => {
      const out = new Float32Array(x.length);
      dequantizeBlocks(BLOCK_FORMATS[name], quantizeToBlocks(name, x), out);
      return Math.sqrt(out.reduce((sum, v, i) => sum + (v - x[i]!) ** 2, 0) / x.length);
    });
  assert(errors[1]! < 0.9 * errors[0]! && errors[0]! < 0.11, `${errors}`);
});
