/**
 * GPTQ and AWQ: integer codes of 2, 3, 4 or 8 bits, each group of inputs with a scale and a zero for every output.
 * https://arxiv.org/abs/2210.17323, https://arxiv.org/abs/2306.00978
 *
 * @module
 */
import { ModelFormatError, NotSupportedError } from "../errors.ts";
import { type CodeSource, repackCodes } from "../ops/pack_codes.ts";
import { packedColumns } from "../ops/pack_weight.ts";
import { type CodeBits, type CodedMatrix, integerDims } from "../ops/quantized_matmul.ts";
import { type Tensor, tensor } from "../tensor/mod.ts";
import { QuantizedLinear } from "./quantized_linear.ts";
import {
  biasOf,
  codedBytes,
  emptyCodes,
  exactBytes,
  groupsOf,
  type LayerShape,
  outFeatures,
  placeOf,
  type Scheme,
  type TensorReader,
} from "./scheme.ts";

/** How a checkpoint's groups are made. */
export interface GroupSettings {
  /** Bits of a code. */
  bits: CodeBits;
  /** Inputs of a group; K or more: one group. */
  groupSize: number;
}

/** Codes, scales and zeros of a part of a layer, before they go to the GPU. */
interface Part {
  name: string;
  rows: number;
  column: number;
  scales: Float16Array; // [groups, rows]
  zeros: Uint8Array; // [groups, rows]
  /** Which input each row of the matrix is, where they do not lie in order. */
  permutation?: Uint32Array;
}

/** How the groups of one matrix lie: scales as f16 of 4 columns in 2 words, zeros of 4 columns, bias. */
function layoutOf({ bits, groupSize }: GroupSettings, K: number, N: number, bias: boolean) {
  const group = fineGroup(groupSize, K), groups = Math.ceil(K / group);
  const zeroBits = bits <= 4 ? 4 : 8;
  const zeros = groups * packedColumns(N) / 2;
  const end = zeros + Math.ceil(groups * packedColumns(N) * zeroBits / 32);
  return {
    group,
    groups,
    zeroBits,
    zeros,
    bias: bias ? end : 0,
    words: end + (bias ? N : 0),
    span: group < 32 ? 16 : 32,
  } as const;
}

/** The largest group that the kernels take, of which `groupSize` is a multiple. */
function fineGroup(groupSize: number, K: number): number {
  if (groupSize >= K) return K;
  const power = groupSize & -groupSize;
  if (power >= 16) return power;
  throw new NotSupportedError(
    `Cannot load the weights as a group must be a multiple of 16 inputs: current group_size is ${groupSize}`,
  );
}

/** A scheme of such groups, whose tensors `read` knows. */
function groupScheme(
  name: string,
  from: CodeSource,
  settings: GroupSettings,
  { expects, read }: {
    expects: Scheme["expects"];
    read: (reader: TensorReader, layer: LayerShape, index: number) => Promise<Omit<Part, "name" | "rows" | "column">>;
  },
): Scheme {
  const { bits } = settings;
  return {
    name,
    expects,
    sliceUnit: () => 8,
    bytes(layer, lookup) {
      const K = layer.inputs, N = outFeatures(layer), { words } = layoutOf(settings, K, N, layer.bias);
      const permuted = layer.names.some((name) => lookup(`${name}.g_idx`));
      const bytes = codedBytes({ K, N, bits, groups: words, dims: 16 + (permuted ? K * layer.names.length : 0) });
      return { ...bytes, loadingBytes: exactBytes(Math.max(...layer.outputs) * K * bits / 32) };
    },
    async load(reader, layer) {
      const bias = await biasOf(reader, layer), parts: Part[] = [];
      let column = 0;
      const whole = layer.slice ? { ...layer, outputs: [layer.slice.of] } : layer;
      for (const [i, name] of layer.names.entries()) {
        const rows = layer.outputs[i]!, { scales, zeros, permutation } = await read(reader, whole, i);
        parts.push({ name, rows, column, scales: own(layer, scales), zeros: own(layer, zeros), permutation });
        column += rows;
      }
      using made = new DisposableStack();
      const matrices: CodedMatrix[] = [];
      for (const run of runsOf(parts)) {
        const matrix = await matrixOf(reader, layer, run, { from, settings, bias });
        for (const t of [matrix.w, matrix.groups, matrix.dims]) made.use(t);
        matrices.push(matrix);
      }
      made.move(); // nothing failed: they are the layer's
      return new QuantizedLinear(name, layer.inputs, column, matrices);
    },
  };
}

/** Of rows that have a word for `perWord` outputs each, the words of a layer's own outputs. */
function own<T extends Float16Array | Uint8Array | Uint32Array>({ slice }: LayerShape, words: T, perWord = 1): T {
  if (!slice) return words;
  const stride = slice.of / perWord, first = slice.first / perWord, count = slice.count / perWord;
  return words.filter((_, i) => i % stride >= first && i % stride < first + count) as T;
}

/** The codes of a part, or of a slice of it, on the GPU. */
async function codesOf(reader: TensorReader, layer: LayerShape, name: string, from: CodeSource): Promise<Tensor> {
  if (!layer.slice) return await reader.words(`${name}.qweight`);
  const all = new Uint32Array((await reader.bytes(`${name}.qweight`)).buffer);
  const words = own(layer, all, from === "awq" ? 8 : 1);
  return tensor(reader.device, words, [words.length], "uint32");
}

/** Parts that take their inputs in one order share a matrix. */
function runsOf(parts: readonly Part[]): Part[][] {
  const runs: Part[][] = [];
  for (const part of parts) {
    const before = runs.at(-1);
    if (before && sameOrder(before[0]!.permutation, part.permutation)) before.push(part);
    else runs.push([part]);
  }
  return runs;
}

function sameOrder(a?: Uint32Array, b?: Uint32Array): boolean {
  return a === b || a !== undefined && b !== undefined && a.every((k, i) => k === b[i]);
}

async function matrixOf(
  reader: TensorReader,
  layer: LayerShape,
  parts: readonly Part[],
  { from, settings, bias }: { from: CodeSource; settings: GroupSettings; bias: Float32Array },
): Promise<CodedMatrix> {
  const { bits } = settings, { device } = reader;
  const K = layer.inputs,
    N = parts.reduce((sum, { rows }) => sum + rows, 0),
    [{ column: first, permutation }] = parts as [Part];
  const layout = layoutOf(settings, K, N, layer.bias), words = new Uint32Array(layout.words), place = placeOf(layer);
  for (const part of parts) placeGroups(words, layout, settings, { ...part, column: part.column - first, N });
  if (layer.bias) new Float32Array(words.buffer).set(bias.subarray(first, first + N), layout.bias);
  using made = new DisposableStack();
  const w = made.use(emptyCodes(device, K, N, bits, layer.names.join(" + ")));
  for (const { name, rows, column } of parts) {
    using source = await codesOf(reader, layer, name, from);
    repackCodes(source, w, { from, bits, K, rows, N, column: column - first, nothing: 0, permutation });
  }
  const groups = made.use(groupsOf(device, words));
  const dims = integerDims(device, {
    ...{ K, N, outFeatures: place.outFeatures, column: place.column + first, bias: layout.bias, permutation },
    ...{ group: layout.group, span: layout.span, zeroBits: layout.zeroBits, zeros: layout.zeros },
  });
  made.move();
  const flags = { PERMUTED: permutation !== undefined }, column = place.column + first;
  return { kind: "integer", bits, span: layout.span, flags, K, N, column, bias: layer.bias, w, groups, dims };
}

/** Puts scales and zeros of a part where the kernels read them. */
function placeGroups(
  words: Uint32Array<ArrayBuffer>,
  { group, groups, zeroBits, zeros: at }: ReturnType<typeof layoutOf>,
  { groupSize }: GroupSettings,
  { scales, zeros, rows, column, N }: Part & { N: number },
): void {
  const halves = new Float16Array(words.buffer), stride = packedColumns(N);
  for (let g = 0; g < groups; g++) {
    const stored = Math.floor(g * group / groupSize);
    for (let n = 0; n < rows; n++) {
      const to = g * stride + column + n, bit = to * zeroBits;
      halves[to] = scales[stored * rows + n]!;
      words[at + (bit >> 5)]! |= zeros[stored * rows + n]! << (bit & 31);
    }
  }
}

/** GPTQ: codes in streams along the inputs, zeros along the outputs; `g_idx` names the group of each input. */
export function gptq(settings: GroupSettings & { v2: boolean }): Scheme {
  const { bits, v2 } = settings;
  return groupScheme(`gptq ${bits}-bit`, "streams", settings, {
    expects: ({ names, inputs, outputs }, lookup) =>
      names.flatMap((name, i) => {
        const groups = Math.max(1, Math.ceil(inputs / settings.groupSize)), N = outputs[i]!;
        return [
          { name: `${name}.qweight`, shape: [Math.ceil(inputs * bits / 32), N], dtypes: ["I32", "U32"] },
          { name: `${name}.qzeros`, shape: [groups, Math.ceil(N * bits / 32)], dtypes: ["I32", "U32"] },
          { name: `${name}.scales`, shape: [groups, N], dtypes: ["F16", "BF16", "F32"] },
          ...lookup(`${name}.g_idx`) ? [{ name: `${name}.g_idx`, shape: [inputs], dtypes: ["I32", "U32", "I64"] }] : [],
        ];
      }),
    async read(reader, { names, inputs, outputs }, index) {
      const name = names[index]!, N = outputs[index]!;
      const packed = new Uint32Array((await reader.bytes(`${name}.qzeros`)).buffer);
      const mask = (1 << bits) - 1, perRow = Math.ceil(N * bits / 32), groups = packed.length / perRow;
      const zeros = Uint8Array.from({ length: groups * N }, (_, i) => {
        const bit = i % N * bits, at = Math.floor(i / N) * perRow + (bit >> 5), over = (bit & 31) + bits - 32;
        const stored = packed[at]! >>> (bit & 31) | (over > 0 ? packed[at + 1]! << (bits - over) : 0);
        return (stored + (v2 ? 0 : 1)) & mask; // the first format keeps them one less
      });
      const permutation = await permutationOf(reader, `${name}.g_idx`, inputs, settings.groupSize);
      return { scales: Float16Array.from(await reader.numbers(`${name}.scales`)), zeros, permutation };
    },
  });
}

/** Inputs in the order of their groups, or undefined where they lie so. */
async function permutationOf(
  reader: TensorReader,
  name: string,
  K: number,
  groupSize: number,
): Promise<Uint32Array | undefined> {
  if (!reader.has(name)) return undefined;
  const bytes = await reader.bytes(name);
  const groups = bytes.byteLength === 8 * K
    ? Int32Array.from(new BigInt64Array(bytes.buffer), Number)
    : new Int32Array(bytes.buffer);
  const order = Uint32Array.from(groups.keys()).sort((a, b) => groups[a]! - groups[b]! || a - b);
  const wrong = order.findIndex((k, i) => groups[k] !== Math.floor(i / groupSize));
  if (wrong >= 0) {
    throw new ModelFormatError(
      `Cannot load ${name} as each group must have ${groupSize} inputs: input ${order[wrong]} has group ${
        groups[order[wrong]!]
      }`,
    );
  }
  return order.some((k, i) => k !== i) ? order : undefined;
}

const AWQ_ORDER = [0, 4, 1, 5, 2, 6, 3, 7]; // which nibble of a word holds each of its eight columns

/** AWQ's "gemm" order: eight columns in a word, interleaved. */
export function awq(settings: GroupSettings): Scheme {
  return groupScheme("awq 4-bit", "awq", settings, {
    expects: ({ names, inputs, outputs }) =>
      names.flatMap((name, i) => {
        const groups = Math.max(1, Math.ceil(inputs / settings.groupSize)), N = outputs[i]!;
        return [
          { name: `${name}.qweight`, shape: [inputs, N / 8], dtypes: ["I32", "U32"] },
          { name: `${name}.qzeros`, shape: [groups, N / 8], dtypes: ["I32", "U32"] },
          { name: `${name}.scales`, shape: [groups, N], dtypes: ["F16", "BF16", "F32"] },
        ];
      }),
    async read(reader, { names, outputs }, index) {
      const name = names[index]!, N = outputs[index]!;
      const packed = new Uint32Array((await reader.bytes(`${name}.qzeros`)).buffer);
      const zeros = Uint8Array.from({ length: packed.length * 8 }, (_, i) => {
        return packed[Math.floor(i / N) * N / 8 + (i % N >> 3)]! >>> 4 * AWQ_ORDER[i % 8]! & 15;
      });
      return { scales: Float16Array.from(await reader.numbers(`${name}.scales`)), zeros };
    },
  });
}
