/**
 * NF4 and FP4 as bitsandbytes keeps them: entries of a code book times the absmax of a block, which may itself be
 * quantized. https://arxiv.org/abs/2305.14314
 *
 * @module
 */
import { ModelFormatError } from "../errors.ts";
import { blockAbsmax, quantizeCodes, repackCodes } from "../ops/pack_codes.ts";
import { empty, keep } from "../tensor/mod.ts";
import {
  absmaxPlace,
  bytesOf,
  gcd,
  type Layout,
  layoutOf,
  linearOf,
  ownBlocks,
  placeAbsmax,
  rowsOfBlocks,
  wordsOf,
} from "./bnb4_layout.ts";
import { CODE_BOOKS, type CodeBook, NESTED_BLOCK, type NestedAbsmax, quantizeAbsmax } from "./code_books.ts";
import { rowPieces } from "./row_pieces.ts";
import {
  emptyCodes,
  exactBytes,
  groupsOf,
  type LayerShape,
  type Lookup,
  type Scheme,
  type StoredTensor,
  type TensorReader,
} from "./scheme.ts";

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
      const line = doubleQuant ? exactBytes(Math.max(...wholeOf(layer).outputs) * layer.inputs / block) : 0;
      return bytesOf(layout, line + rowPieces.loadingBytes(doubleQuant ? wholeOf(layer) : layer));
    },
    sliceUnit: ({ inputs }) => rowsOfBlocks(inputs, block, doubleQuant),
    async load(reader, layer) {
      const layout = layoutOf(layer, block, doubleQuant), { K, N, parts } = layout;
      const { device } = reader;
      using made = new DisposableStack();
      const words = await wordsOf(reader, layer, layout, CODE_BOOKS[kind]);
      const w = made.use(emptyCodes(device, K, N, 4, layer.names.join(" + ")));
      const direct = doubleQuant ? undefined : made.use(groupsOf(device, words));
      for (const [i, part] of parts.entries()) {
        const multiple = block / gcd(K, block), whole = wholeOf(layer), first = layer.slice?.first ?? 0;
        using line = direct ? undefined : keep(device, empty(device, [Math.ceil(whole.outputs[i]! * K / block)]));
        const inLine = (row: number) => ({ block, first: row * K / block });
        if (line && layer.slice) { // absmax is quantized over all of them
          await rowPieces.read(reader, whole, i, multiple, (piece, row) => blockAbsmax(piece, line, inLine(row)));
        }
        await rowPieces.read(reader, layer, i, multiple, (piece, row) => {
          const absmax = line ?? direct!, place = line ? inLine(first + row) : absmaxPlace(layout, part, row);
          if (!line || !layer.slice) blockAbsmax(piece, absmax, place);
          quantizeCodes(piece, absmax, place, w, { code: kind, N, column: part.column + row });
        });
        if (!line) continue;
        placeAbsmax(words, layout, i, ownBlocks(layer, block, quantizeAbsmax(await line.read() as Float32Array)));
      }
      const groups = direct ?? made.use(groupsOf(device, words));
      const linear = linearOf(reader, layer, layout, { scheme: this.name, w, groups });
      made.move(); // nothing failed: they are the layer's
      return linear;
    },
  };
}

/** The part that a slice is one of. */
function wholeOf(layer: LayerShape): LayerShape {
  return layer.slice ? { ...layer, outputs: [layer.slice.of], slice: undefined } : layer;
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
  sliceUnit(layer, lookup) {
    const { block, nested } = storedLayout(layer, lookup);
    return rowsOfBlocks(layer.inputs, block, nested);
  },
  async load(reader, layer, lookup) {
    const layout = storedLayout(layer, lookup), { K, N, parts } = layout;
    using made = new DisposableStack();
    const w = made.use(emptyCodes(reader.device, K, N, 4, layer.names.join(" + ")));
    const book = await reader.numbers(`${layer.names[0]}.weight.quant_map`);
    const words = await wordsOf(reader, layer, layout, book);
    let scheme = "";
    for (const [i, { rows, column }] of parts.entries()) {
      const at = `${layer.names[i]}.weight`, all = wholeOf(layer).outputs[i]!, first = layer.slice?.first ?? 0;
      const form = storedForm(at, all * K, lookup);
      const state = await stateOf(reader, at, form.kind, { rows: all, K, block: layout.block });
      scheme = form.nested ? `${form.kind}, double` : form.kind;
      const map = await reader.numbers(`${at}.quant_map`);
      if (!map.every((v, j) => v === book[j])) throw mixed(layer);
      using source = await reader.words(at, { start: first * K / 2, end: Math.ceil((first + rows) * K / 2) });
      const nothing = Math.max(0, book.indexOf(0));
      repackCodes(source, w, { from: "nibbles", bits: 4, K, rows, N, column, nothing });
      placeAbsmax(words, layout, i, ownBlocks(layer, layout.block, await storedAbsmax(reader, at, state)));
    }
    const groups = made.use(groupsOf(reader.device, words));
    const linear = linearOf(reader, layer, layout, { scheme, w, groups });
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
  const { outputs } = wholeOf(layer);
  const forms = layer.names.map((name, i) => storedForm(`${name}.weight`, outputs[i]! * layer.inputs, lookup));
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
