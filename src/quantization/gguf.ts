/**
 * Layers of GGUF files: their blocks' codes and scales as they are, in the layout that the kernels multiply.
 *
 * @module
 */
import { NotSupportedError } from "../errors.ts";
import { repackCodes } from "../ops/pack_codes.ts";
import { packedColumns } from "../ops/pack_weight.ts";
import { blockDims, type CodedMatrix } from "../ops/quantized_matmul.ts";
import { tensor } from "../tensor/mod.ts";
import { type BlockFormat, blockFormat, unpackedBlock } from "./gguf_blocks.ts";
import { QuantizedLinear } from "./quantized_linear.ts";
import { split } from "./split.ts";
import {
  biasOf,
  codedBytes,
  emptyCodes,
  exactBytes,
  groupsOf,
  type LayerBytes,
  type LayerShape,
  type Lookup,
  outFeatures,
  placeOf,
  type Quantization,
  type Scheme,
  type TensorReader,
} from "./scheme.ts";

const PIECE = 2 * 2 ** 20; // codes that are unpacked and uploaded at a time

/** Neighbouring parts of a layer that have one format, and so share a matrix. */
interface Run {
  format: BlockFormat;
  parts: { name: string; rows: number; column: number }[];
  N: number;
}

/** Words of scales, steps and minima, and where each begins; 0 where the format has none. */
interface Layout {
  dmin: number;
  sc: number;
  m: number;
  /** Of steps of 6 bits, 4 of which are at `sc`, the other 2. */
  high: number;
  bias: number;
  words: number;
}

function layoutOf({ format: { size, span, minima, bits }, N }: Run, K: number, bias: boolean): Layout {
  const stride = packedColumns(N), shared = K / size * stride / 2, steps = size > span ? K / span * stride / 4 : 0;
  const dmin = minima ? shared : 0, sc = steps ? shared + dmin : 0;
  const one = bits === 2, six = bits === 3; // Q2_K: both steps in one byte; Q3_K: steps of 6 bits
  const m = minima && steps ? sc + (one ? 0 : steps) : 0, high = six ? sc + steps / 2 : 0;
  const end = shared + dmin + (six ? 0.75 : m > sc ? 2 : 1) * steps;
  return { dmin, sc, m, high, bias: bias ? end : 0, words: end + (bias ? N : 0) };
}

/** The runs of a layer; undefined where it has no blocks. */
function runsOf({ names, outputs }: LayerShape, lookup: Lookup): Run[] | undefined {
  const formats = names.map((name) => blockFormat(lookup(`${name}.weight`)?.dtype ?? ""));
  if (formats.every((format) => format === undefined)) return undefined;
  const runs: Run[] = [];
  for (const [i, format] of formats.entries()) {
    if (!format) {
      throw new NotSupportedError(
        `Cannot load ${names.join(" + ")} as all or none of them must be in blocks: ${names[i]} is not`,
        { hint: "Pass a dtype: then all of them are loaded as numbers." },
      );
    }
    let run = runs.at(-1);
    if (run?.format !== format) runs.push(run = { format, parts: [], N: 0 });
    run.parts.push({ name: names[i]!, rows: outputs[i]!, column: run.N });
    run.N += outputs[i]!;
  }
  return runs;
}

/**
 * How the layers of GGUF files are packed: as the file has them.
 *
 * @param bits what most of their codes have
 */
export function ggufQuantization(bits: number): Quantization {
  return {
    method: "gguf",
    bits,
    schemeOf(layer, lookup) {
      const runs = runsOf(layer, lookup);
      return runs && split(blocks(runs));
    },
  };
}

function blocks(runs: readonly Run[]): Scheme {
  const name = [...new Set(runs.map(({ format }) => format.name.toLowerCase()))].join(" + ");
  return {
    name,
    expects: ({ names, inputs, outputs }, lookup) =>
      names.map((name, i) => ({
        name: `${name}.weight`,
        shape: [outputs[i]!, inputs],
        dtypes: [lookup(`${name}.weight`)!.dtype],
      })),
    bytes(layer, lookup): LayerBytes {
      const { inputs: K, bias } = layer;
      const all = runsOf(layer, lookup)!.map((run) => {
        const { words } = layoutOf(run, K, bias);
        return codedBytes({ K, N: run.N, bits: run.format.bits, groups: words, dims: 16 });
      });
      const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0);
      return {
        byteLength: sum(all.map(({ byteLength }) => byteLength)),
        bufferBytes: Math.max(...all.map(({ bufferBytes }) => bufferBytes)),
        loadingBytes: exactBytes(Math.max(PIECE, K) / 4),
      };
    },
    async load(reader, layer, lookup) {
      const bias = await biasOf(reader, layer);
      using made = new DisposableStack();
      const matrices: CodedMatrix[] = [];
      let column = 0;
      for (const run of runsOf(layer, lookup)!) {
        const matrix = await matrixOf(reader, layer, run, column, bias);
        for (const t of [matrix.w, matrix.groups, matrix.dims]) made.use(t);
        matrices.push(matrix);
        column += run.N;
      }
      made.move(); // nothing failed: they are the layer's
      return new QuantizedLinear(name, layer.inputs, outFeatures(layer), matrices);
    },
  };
}

async function matrixOf(
  reader: TensorReader,
  layer: LayerShape,
  run: Run,
  first: number,
  bias: Float32Array,
): Promise<CodedMatrix> {
  const { format: { bits, span, size, zero, bytes }, parts, N } = run, { device } = reader, K = layer.inputs;
  const layout = layoutOf(run, K, layer.bias), words = new Uint32Array(layout.words);
  if (layer.bias) new Float32Array(words.buffer).set(bias.subarray(first, first + N), layout.bias);
  using made = new DisposableStack();
  const w = made.use(emptyCodes(device, K, N, bits, layer.names.join(" + ")));
  const step = Math.max(1, Math.floor(PIECE / K));
  for (const { name, rows, column } of parts) {
    const start = (layer.slice?.first ?? 0) * K / size * bytes;
    const source = await reader.bytes(`${name}.weight`, { start, end: start + rows * K / size * bytes });
    for (let row = 0; row < rows; row += step) {
      const count = Math.min(step, rows - row);
      const codes = unpackRows(run, layout, words, { source, row, count, column: column + row, K });
      using piece = tensor(device, new Uint32Array(codes.buffer), [codes.length / 4], "uint32");
      repackCodes(piece, w, { from: "bytes", bits, K, rows: count, N, column: column + row, nothing: 0 });
      await device.stream.drain(); // bounds what waits to be uploaded
    }
  }
  const groups = made.use(groupsOf(device, words));
  const { dmin, sc, m, high } = layout, place = placeOf(layer);
  const dims = blockDims(device, {
    ...{ K, N, outFeatures: place.outFeatures, column: place.column + first, bias: layout.bias },
    ...{ span, zero, dmin, sc, m, high, size },
  });
  made.move();
  const column = place.column + first;
  return { kind: "integer", bits, span, flags: { BLOCKS: true }, K, N, column, bias: layer.bias, w, groups, dims };
}

/** Codes [count, K] of some rows; their scales go into `words`. */
function unpackRows(
  { format, N }: Run,
  { dmin, sc, m, high }: Layout,
  words: Uint32Array<ArrayBuffer>,
  { source, row, count, column, K }: {
    source: Uint8Array;
    row: number;
    count: number;
    column: number;
    K: number;
  },
): Uint8Array<ArrayBuffer> {
  const { size, span } = format, perRow = K / size, groups = size / span, stride = packedColumns(N);
  const halves = new Float16Array(words.buffer), steps = new Uint8Array(words.buffer);
  const codes = new Uint8Array(count * K), block = unpackedBlock(format);
  for (let n = 0; n < count; n++) {
    for (let b = 0; b < perRow; b++) {
      format.unpack(source, ((row + n) * perRow + b) * format.bytes, block);
      codes.set(block.codes, n * K + b * size);
      const at = b * stride + column + n;
      halves[at] = block.d;
      if (dmin) halves[2 * dmin + at] = block.dmin;
      if (!sc) continue;
      for (let g = 0; g < groups; g++) {
        const to = (b * groups + g) * stride + column + n;
        if (high) {
          putSix(words, { sc, high }, block.sc[g]! + 32, { row: b * groups + g, column: column + n, stride });
          continue;
        }
        steps[4 * sc + to] = m === sc ? block.sc[g]! | block.m[g]! << 4 : block.sc[g]!;
        if (m > sc) steps[4 * m + to] = block.m[g]!;
      }
    }
  }
  return codes;
}

/** Puts a step of 6 bits where integer_groups.wgsl reads it: 4 bits of 2 groups by 4 columns a word, 2 of 4 by 4. */
function putSix(
  words: Uint32Array,
  { sc, high }: Pick<Layout, "sc" | "high">,
  step: number,
  { row, column, stride }: { row: number; column: number; stride: number },
): void {
  const place = (perWord: number) => (Math.floor(row / perWord) * stride + column) >> 2;
  words[sc + place(2)]! |= (step & 15) << 16 * (row % 2) + 4 * (column % 4);
  words[high + place(4)]! |= step >> 4 << 8 * (row % 4) + 2 * (column % 4);
}
