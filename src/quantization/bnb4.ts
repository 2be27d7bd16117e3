/**
 * NF4 and FP4 as bitsandbytes keeps them: entries of a code book times the absmax of a block, which may itself be
 * quantized. https://arxiv.org/abs/2305.14314
 *
 * @module
 */
import { ModelFormatError } from "../errors.ts";
import { type AbsmaxPlace, blockAbsmax, quantizeCodes, repackCodes } from "../ops/pack_codes.ts";
import { packedColumns } from "../ops/pack_weight.ts";
import { codebookDims, type CodedMatrix } from "../ops/quantized_matmul.ts";
import { empty, keep, type Tensor } from "../tensor/mod.ts";
import { CODE_BOOKS, type CodeBook, NESTED_BLOCK, type NestedAbsmax, quantizeAbsmax } from "./code_books.ts";
import type { Linear } from "./linear.ts";
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
  type Lookup,
  outFeatures,
  type Scheme,
  type StoredTensor,
  type TensorReader,
} from "./scheme.ts";

const BOOK = 16; // words of the code book, before absmax

/** How a layer's words beside its codes lie. */
interface Layout {
  K: number;
  N: number;
  block: number;
  nested: boolean;
  /** A block may end anywhere in a row. */
  flat: boolean;
  /** Words: the code book, absmax, nested scales, bias. */
  words: number;
  bias: number;
  /** Of each part: its first column, its blocks, and the words at which its absmax and nested scales begin. */
  parts: { column: number; rows: number; blocks: number; absmax: number; nested: number }[];
}

function layoutOf(layer: LayerShape, block: number, nested: boolean): Layout {
  const { inputs: K, outputs } = layer, N = outFeatures(layer);
  const flat = K % block !== 0 || block < 32, perWord = nested ? 4 : 1;
  let column = 0, words = BOOK;
  const parts = outputs.map((rows) => {
    const blocks = Math.ceil(rows * K / block);
    const part = { column, rows, blocks, absmax: words, nested: 0 };
    column += rows;
    if (flat) words += Math.ceil(blocks / perWord);
    return part;
  });
  if (!flat) words += K / block * packedColumns(N) / perWord;
  for (const part of nested ? parts : []) {
    part.nested = words;
    words += 257 + Math.ceil(part.blocks / NESTED_BLOCK);
  }
  return { K, N, block, nested, flat, bias: layer.bias ? words : 0, words: words + (layer.bias ? N : 0), parts };
}

/** Where the kernels leave or find the absmax of a part's rows from `row` on. */
function placeOf({ K, N, block, flat }: Layout, part: Layout["parts"][number], row: number): AbsmaxPlace {
  if (flat) return { block, first: part.absmax + row * K / block };
  return { block, first: part.absmax + part.column + row, stride: packedColumns(N) };
}

/** Puts a part's absmax, or the codes of them, where the kernels read them. */
function placeAbsmax(words: Uint32Array, layout: Layout, index: number, absmax: Float32Array | NestedAbsmax): void {
  const { K, N, block, flat } = layout, { column, absmax: at, nested } = layout.parts[index]!;
  const [values, into] = absmax instanceof Float32Array
    ? [absmax, new Float32Array(words.buffer, 4 * at)]
    : [absmax.codes, new Uint8Array(words.buffer, 4 * at)];
  const perRow = flat ? values.length : K / block, stride = flat ? 1 : packedColumns(N), first = flat ? 0 : column;
  for (let i = 0, row = first; i < values.length; row++) {
    for (let g = 0; g < perRow; g++, i++) into[g * stride + row] = values[i]!;
  }
  if (absmax instanceof Float32Array) return;
  new Float32Array(words.buffer).set([absmax.offset, ...absmax.map, ...absmax.scales], nested);
}

function linearOf(
  reader: TensorReader,
  layout: Layout,
  { scheme, w, groups }: { scheme: string; w: Tensor; groups: Tensor },
): Linear {
  const { K, N, block, flat, nested, bias, parts } = layout;
  const dims = codebookDims(reader.device, { K, N, bias, block, flat, parts });
  const matrix: CodedMatrix = {
    kind: "codebook",
    bits: 4,
    span: 32,
    flags: { NESTED: nested, FLAT: flat },
    ...{ K, N, w, groups, dims },
  };
  return new QuantizedLinear(scheme, K, N, [matrix]);
}

/** Words with the code book and the bias in them. */
async function wordsOf(reader: TensorReader, layer: LayerShape, layout: Layout, book: Float32Array) {
  const words = new Uint32Array(layout.words), floats = new Float32Array(words.buffer);
  floats.set(book);
  floats.set(await biasOf(reader, layer), layout.bias);
  return words;
}

function bytesOf(layout: Layout, loadingBytes: number): LayerBytes {
  const { K, N, words, parts } = layout;
  return { ...codedBytes({ K, N, bits: 4, groups: words, dims: 16 + 3 * parts.length }), loadingBytes };
}

/** What {@linkcode quantizeTo4bit} takes. */
export interface Bnb4Options {
  /** The code book. */
  kind: CodeBook;
  /** Numbers that share an absmax. */
  block: number;
  /** Whether absmax is quantized too. */
  doubleQuant: boolean;
}

/** Quantizes float weights while they are loaded. */
export function quantizeTo4bit({ kind, block, doubleQuant }: Bnb4Options): Scheme {
  return {
    name: doubleQuant ? `${kind}, double` : kind,
    expects: ({ names, inputs, outputs, conv1d }) =>
      names.map((name, i) => ({
        name: `${name}.weight`,
        shape: conv1d ? [inputs, outputs[i]!] : [outputs[i]!, inputs],
        dtypes: ["F64", "F32", "F16", "BF16"],
      })),
    bytes(layer) {
      const layout = layoutOf(layer, block, doubleQuant);
      const most = Math.max(...layout.parts.map((part) => part.blocks));
      return bytesOf(layout, (doubleQuant ? exactBytes(most) : 0) + rowPieces.loadingBytes(layer));
    },
    async load(reader, layer) {
      const layout = layoutOf(layer, block, doubleQuant), { K, N, parts } = layout;
      const { device } = reader;
      using made = new DisposableStack();
      const words = await wordsOf(reader, layer, layout, CODE_BOOKS[kind]);
      const w = made.use(emptyCodes(device, K, N, 4, layer.names.join(" + ")));
      const direct = doubleQuant ? undefined : made.use(groupsOf(device, words));
      for (const [i, part] of parts.entries()) {
        using line = direct ? undefined : keep(device, empty(device, [part.blocks]));
        await rowPieces.read(reader, layer, i, block / gcd(K, block), (piece, row) => {
          const absmax = line ?? direct!;
          const place = line ? { block, first: row * K / block } : placeOf(layout, part, row);
          blockAbsmax(piece, absmax, place);
          quantizeCodes(piece, absmax, place, w, { code: kind, N, column: part.column + row });
        });
        if (line) placeAbsmax(words, layout, i, quantizeAbsmax(await line.read() as Float32Array));
      }
      const groups = direct ?? made.use(groupsOf(device, words));
      const linear = linearOf(reader, layout, { scheme: this.name, w, groups });
      made.move(); // nothing failed: they are the layer's
      return linear;
    },
  };
}

/** The state that bitsandbytes keeps beside a weight. */
interface QuantState {
  quant_type: CodeBook;
  blocksize: number;
  shape: [number, number];
  nested_blocksize?: number;
  nested_offset?: number;
}

/** Loads weights that bitsandbytes has quantized, as they are. */
export const stored4bit: Scheme = {
  name: "bitsandbytes 4-bit",
  expects: ({ names, inputs, outputs }, lookup) =>
    names.flatMap((name, i) => {
      const at = `${name}.weight`, { kind, nested, blocks } = storedForm(at, outputs[i]! * inputs, lookup);
      return [
        { name: at, shape: Math.ceil(outputs[i]! * inputs / 2) },
        { name: `${at}.absmax`, shape: [blocks], dtypes: [nested ? "U8" : "F32"] },
        { name: `${at}.quant_map`, shape: [16], dtypes: ["F32"] },
        {
          name: `${at}.quant_state.bitsandbytes__${kind}`,
          shape: lookup(`${at}.quant_state.bitsandbytes__${kind}`)?.byteLength ?? 1,
        },
        ...nested
          ? [
            { name: `${at}.nested_absmax`, shape: [Math.ceil(blocks / NESTED_BLOCK)], dtypes: ["F32"] },
            { name: `${at}.nested_quant_map`, shape: [256], dtypes: ["F32"] },
          ]
          : [],
      ];
    }),
  bytes(layer, lookup) {
    const layout = storedLayout(layer, lookup);
    return bytesOf(layout, exactBytes(Math.max(...layer.outputs) * layer.inputs / 8));
  },
  async load(reader, layer, lookup) {
    const layout = storedLayout(layer, lookup), { K, N, parts } = layout;
    using made = new DisposableStack();
    const w = made.use(emptyCodes(reader.device, K, N, 4, layer.names.join(" + ")));
    const book = await reader.numbers(`${layer.names[0]}.weight.quant_map`);
    const words = await wordsOf(reader, layer, layout, book);
    let scheme = "";
    for (const [i, { rows, column }] of parts.entries()) {
      const at = `${layer.names[i]}.weight`, form = storedForm(at, rows * K, lookup);
      const state = await stateOf(reader, at, form.kind, { rows, K, block: layout.block });
      scheme = form.nested ? `${form.kind}, double` : form.kind;
      const map = await reader.numbers(`${at}.quant_map`);
      if (!map.every((v, j) => v === book[j])) throw mixed(layer);
      using source = await reader.words(at);
      const nothing = Math.max(0, book.indexOf(0));
      repackCodes(source, w, { from: "nibbles", bits: 4, K, rows, N, column, nothing });
      placeAbsmax(words, layout, i, await storedAbsmax(reader, at, state));
    }
    const groups = made.use(groupsOf(reader.device, words));
    const linear = linearOf(reader, layout, { scheme, w, groups });
    made.move();
    return linear;
  },
};

async function storedAbsmax(
  reader: TensorReader,
  at: string,
  { nested_offset: offset }: QuantState,
): Promise<Float32Array | NestedAbsmax> {
  if (offset === undefined) return await reader.numbers(`${at}.absmax`);
  return {
    codes: await reader.bytes(`${at}.absmax`),
    scales: await reader.numbers(`${at}.nested_absmax`),
    map: await reader.numbers(`${at}.nested_quant_map`),
    offset,
  };
}

/** What the headers tell of a stored weight of `size` numbers: the block follows from how many absmax there are. */
function storedForm(at: string, size: number, lookup: Lookup) {
  const absmax: StoredTensor | undefined = lookup(`${at}.absmax`);
  const kind: CodeBook = lookup(`${at}.quant_state.bitsandbytes__fp4`) ? "fp4" : "nf4";
  const blocks = absmax?.shape[0] ?? 0;
  const block = [64, 32, 128, 256, 512, 1024, 2048, 4096].find((n) => Math.ceil(size / n) === blocks) ?? 64;
  return { kind, nested: lookup(`${at}.nested_absmax`) !== undefined, block, blocks: Math.ceil(size / block) };
}

function storedLayout(layer: LayerShape, lookup: Lookup): Layout {
  const forms = layer.names.map((name, i) => storedForm(`${name}.weight`, layer.outputs[i]! * layer.inputs, lookup));
  const [{ block, nested, kind }] = forms as [ReturnType<typeof storedForm>];
  if (!forms.every((f) => f.block === block && f.nested === nested && f.kind === kind)) throw mixed(layer);
  return layoutOf(layer, block, nested);
}

async function stateOf(
  reader: TensorReader,
  at: string,
  kind: CodeBook,
  want: { rows: number; K: number; block: number },
): Promise<QuantState> {
  const text = new TextDecoder().decode(await reader.bytes(`${at}.quant_state.bitsandbytes__${kind}`));
  const state = parsed(text), [rows, K] = state?.shape ?? [];
  if (state?.quant_type === kind && state.blocksize === want.block && rows === want.rows && K === want.K) return state;
  throw new ModelFormatError(
    `Cannot load ${at} as its quant_state must be of ${kind} in blocks of ${want.block} with shape ` +
      `[${want.rows}, ${want.K}]: current state is ${text.slice(0, 200)}`,
  );
}

function parsed(text: string): QuantState | undefined {
  try {
    return JSON.parse(text) as QuantState;
  } catch {
    return undefined;
  }
}

function mixed({ names }: LayerShape): ModelFormatError {
  return new ModelFormatError(
    `Cannot load ${names.join(" + ")} as they must be quantized alike: their code books, blocks or scales differ`,
  );
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
