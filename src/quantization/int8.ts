/**
 * LLM.int8(): each row of a weight is 127 steps to its absmax, rows of the input likewise, and columns of the input with
 * outliers are multiplied as they are. https://arxiv.org/abs/2208.07339
 *
 * @module
 */
import { NotSupportedError } from "../errors.ts";
import { sizeClass } from "../gpu/pool.ts";
import { INT8_DIMS, int8Dims, int8Threshold } from "../ops/int8_matmul.ts";
import { blockAbsmax, quantizeCodes, repackCodes } from "../ops/pack_codes.ts";
import { packedColumns } from "../ops/pack_weight.ts";
import type { Tensor } from "../tensor/mod.ts";
import { QuantizedLinear } from "./quantized_linear.ts";
import { rowPieces } from "./row_pieces.ts";
import {
  biasOf,
  codedBytes,
  emptyCodes,
  exactBytes,
  groupsOf,
  type LayerBytes,
  type LayerShape,
  outFeatures,
  ownRows,
  placeOf,
  type Scheme,
  type TensorReader,
} from "./scheme.ts";

/** Absmax of each output, then the bias. */
async function wordsOf(reader: TensorReader, layer: LayerShape): Promise<Float32Array<ArrayBuffer>> {
  const bias = await biasOf(reader, layer), begin = packedColumns(outFeatures(layer));
  const floats = new Float32Array(begin + bias.length);
  floats.set(bias, begin);
  return floats;
}

function linearOf(
  reader: TensorReader,
  layer: LayerShape,
  w: Tensor,
  groups: Tensor,
  threshold: number,
): QuantizedLinear {
  const K = layer.inputs, N = outFeatures(layer), { device } = reader;
  const { bias } = layer, place = placeOf(layer);
  const dims = int8Dims(device, { K, N, ...place, bias: bias ? packedColumns(N) : 0 });
  const matrix = {
    kind: "int8",
    bits: 8,
    span: 32,
    flags: {},
    K,
    N,
    column: place.column,
    bias,
    w,
    groups,
    dims,
  } as const;
  return new QuantizedLinear("int8", K, N, [matrix], { threshold, params: int8Threshold(device, K, threshold) });
}

function bytesOf(layer: LayerShape, loadingBytes: number): LayerBytes {
  const N = outFeatures(layer), groups = packedColumns(N) + (layer.bias ? N : 0);
  const { byteLength, bufferBytes } = codedBytes({ K: layer.inputs, N, bits: 8, groups, dims: INT8_DIMS });
  return { byteLength: byteLength + (layer.slice?.column ? 0 : sizeClass(8)), bufferBytes, loadingBytes }; // one of them all
}

/** Quantizes float weights while they are loaded. */
export function quantizeToInt8(threshold: number): Scheme {
  return {
    name: "int8",
    expects: ({ names, inputs, outputs, conv1d }) =>
      names.map((name, i) => ({
        name: `${name}.weight`,
        shape: conv1d ? [inputs, outputs[i]!] : [outputs[i]!, inputs],
        dtypes: ["F64", "F32", "F16", "BF16"],
      })),
    bytes: (layer) => bytesOf(layer, rowPieces.loadingBytes(layer)),
    async load(reader, layer) {
      const K = layer.inputs, N = outFeatures(layer);
      using made = new DisposableStack();
      const w = made.use(emptyCodes(reader.device, K, N, 8, layer.names.join(" + ")));
      const groups = made.use(groupsOf(reader.device, new Uint32Array((await wordsOf(reader, layer)).buffer)));
      let column = 0;
      for (const [i, rows] of layer.outputs.entries()) {
        await rowPieces.read(reader, layer, i, 1, (piece, row) => {
          const place = { block: K, first: column + row, stride: packedColumns(N) };
          blockAbsmax(piece, groups, place);
          quantizeCodes(piece, groups, place, w, { code: "int8", N, column: column + row });
        });
        column += rows;
      }
      const linear = linearOf(reader, layer, w, groups, threshold);
      made.move(); // nothing failed: they are the layer's
      return linear;
    },
  };
}

/** Loads weights that bitsandbytes has quantized, as they are. */
export function storedInt8(threshold: number): Scheme {
  return {
    name: "int8",
    expects: ({ names, inputs, outputs }, lookup) =>
      names.flatMap((name, i) => [
        { name: `${name}.weight`, shape: [outputs[i]!, inputs], dtypes: ["I8"] },
        { name: `${name}.SCB`, shape: [outputs[i]!], dtypes: ["F32"] },
        ...lookup(`${name}.weight_format`) ? [{ name: `${name}.weight_format`, shape: [], dtypes: ["U8"] }] : [],
      ]),
    bytes: (layer) => bytesOf(layer, exactBytes(Math.max(...layer.outputs) * layer.inputs / 4)),
    async load(reader, layer, lookup) {
      const K = layer.inputs, N = outFeatures(layer);
      using made = new DisposableStack();
      const w = made.use(emptyCodes(reader.device, K, N, 8, layer.names.join(" + ")));
      const words = await wordsOf(reader, layer);
      let column = 0;
      for (const [i, name] of layer.names.entries()) {
        await checkFormat(reader, name, lookup(`${name}.weight_format`) !== undefined);
        const { first, count } = layer.slice ?? { first: 0, count: layer.outputs[i]! };
        using source = await reader.words(`${name}.weight`, { start: first * K, end: (first + count) * K });
        repackCodes(source, w, { from: "bytes", bits: 8, K, rows: count, N, column, nothing: 0 });
        words.set(ownRows(layer, await reader.numbers(`${name}.SCB`)), column);
        column += layer.outputs[i]!;
      }
      const groups = made.use(groupsOf(reader.device, new Uint32Array(words.buffer)));
      const linear = linearOf(reader, layer, w, groups, threshold);
      made.move();
      return linear;
    },
  };
}

/** Older releases kept some weights in the order of a GPU's tiles. */
async function checkFormat(reader: TensorReader, name: string, given: boolean): Promise<void> {
  const format = given ? (await reader.bytes(`${name}.weight_format`))[0] : 0;
  if (format === 0) return;
  throw new NotSupportedError(
    `Cannot load ${name} as its weight_format must be 0, rows: current value is ${format}`,
    { hint: "Save the model again with a current release of bitsandbytes." },
  );
}
