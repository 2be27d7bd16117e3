import { type Device, kernel } from "../gpu/mod.ts";
import absmaxWgsl from "../shaders/block_absmax.wgsl" with { type: "text" };
import quantizeWgsl from "../shaders/quantize_codes.wgsl" with { type: "text" };
import repackWgsl from "../shaders/repack_codes.wgsl" with { type: "text" };
import { type Dtype, floatFlags, type Tensor, tensor } from "../tensor/mod.ts";
import { wholeVectors } from "./launching.ts";
import { packedColumns } from "./pack_weight.ts";
import { type CodeBits, codeStrip, LOW_BITS } from "./quantized_matmul.ts";

const absmaxKernel = kernel("block_absmax", absmaxWgsl);
const quantizeKernel = kernel("quantize_codes", quantizeWgsl);
const repackKernel = kernel("repack_codes", repackWgsl);
const WIDEST = 512; // numbers of a block that one thread reads; above, a workgroup shares them

/** Where absmax lies: that of block g of row r at `first + g * stride + r`, or of block b of all at `first + b`. */
export interface AbsmaxPlace {
  /** Numbers of a block: a power of 2, or those of a row. */
  block: number;
  /** Word of the first block of the first row. */
  first: number;
  /** Words from one block of a row to the next, or undefined where all blocks lie in a row-major line. */
  stride?: number;
}

/**
 * The largest size in each block of some rows of a matrix.
 *
 * @param x [rows, K] float32, float16 or bfloat16
 * @param y float32 numbers, or the words of them; changed in place
 */
export function blockAbsmax(x: Tensor, y: Tensor, { block, first, stride }: AbsmaxPlace): void {
  const [rows = 0, K = 0] = x.shape;
  const WIDE = block > WIDEST && !x.device.isCpu;
  const X_OCTETS = K % 32 === 0 && block % 32 === 0;
  const blocks = stride === undefined ? Math.ceil(rows * K / block) : rows * Math.ceil(K / block);
  using params = tensor(x.device, [rows, K, block, stride ?? 0, first], [5], "uint32");
  absmaxKernel(x.device, {
    flags: { ...sourceFlags(x.dtype), FLAT: stride === undefined, WIDE, X_OCTETS },
    bindings: { x: X_OCTETS ? wholeVectors(x) : x, params, y },
    grid: [WIDE ? blocks : Math.ceil(blocks / 64)],
  });
}

/** Codes that numbers can be quantized to. */
export type NumberCode = "nf4" | "fp4" | "int8";

/** What stands beyond the last number of a row: the code of 0. */
const NOTHING: Readonly<Record<NumberCode, number>> = { nf4: 7, fp4: 0, int8: 0 };

/**
 * Quantizes some rows of a matrix into columns of the coded matrix `w`.
 *
 * @param x [rows, K] float32, float16 or bfloat16
 * @param absmax as {@linkcode blockAbsmax} left it at `place`
 * @param w [K / 32, bits, packedColumns(N)] uint32 in strips as codes.wgsl has them; changed in place
 * @param column the column of `w` that is the first row of `x`
 */
export function quantizeCodes(
  x: Tensor,
  absmax: Tensor,
  place: AbsmaxPlace,
  w: Tensor,
  { code, N, column }: { code: NumberCode; N: number; column: number },
): void {
  const [rows = 0, K = 0] = x.shape;
  const { block, first, stride } = place;
  const bits = code === "int8" ? 8 : 4;
  const strip = codeStrip(x.device) ?? packedColumns(N);
  const shift = block >= K && stride !== undefined ? 31 : Math.log2(block);
  const list = [rows, K, packedColumns(N), column, bits, 0, NOTHING[code], strip, shift, stride ?? 0, first];
  using params = tensor(x.device, list, [list.length], "uint32");
  quantizeKernel(x.device, {
    flags: {
      ...sourceFlags(x.dtype),
      [code.toUpperCase()]: true,
      FLAT: stride === undefined,
      X_OCTETS: K % 32 === 0 && block % 32 === 0,
    },
    bindings: { x: wholeVectors(x), absmax, params, w },
    grid: [Math.ceil(rows * Math.ceil(K / 32) / 64)],
  });
}

/** How codes lie in a checkpoint's tensor; see repack_codes.wgsl. */
export type CodeSource = "nibbles" | "bytes" | "streams" | "awq";

/** What {@linkcode repackCodes} takes. */
export interface RepackOptions {
  /** How the codes lie. */
  from: CodeSource;
  /** Bits of a code. */
  bits: CodeBits;
  /** Inputs. */
  K: number;
  /** Outputs that `source` has. */
  rows: number;
  /** Columns of `w`. */
  N: number;
  /** The column of `w` that is the first output of `source`. */
  column: number;
  /** The code of 0, for what lies beyond K. */
  nothing: number;
  /** Which input of `source` each row of `w` is. */
  permutation?: ArrayLike<number>;
}

/** Brings a checkpoint's codes into columns of the coded matrix `w`. */
export function repackCodes(source: Tensor, w: Tensor, options: RepackOptions): void {
  const { from, bits, K, rows, N, column, nothing, permutation } = options;
  const low = LOW_BITS[bits];
  const list = new Uint32Array(9 + (permutation?.length ?? 0));
  const strip = codeStrip(source.device) ?? packedColumns(N);
  list.set([rows, K, packedColumns(N), column, low, bits - low, nothing, strip, bits]);
  if (permutation) list.set(permutation, 9);
  using params = tensor(source.device, list, [list.length], "uint32");
  repackKernel(source.device, {
    flags: { [from.toUpperCase()]: true, PERMUTED: permutation !== undefined },
    bindings: { source, params, w },
    grid: [Math.ceil(rows * Math.ceil(K / 32) / 64)],
  });
}

function sourceFlags(dtype: Dtype): Record<string, boolean> {
  return { X_F32: dtype === "float32", ...floatFlags(dtype, "X_") };
}

/** Codes [N, K] as `w` holds them on `device`, in plain loops: what the kernels must write. */
export function packCodesReference(
  device: Device,
  codes: ArrayLike<number>,
  { N, K, bits }: { N: number; K: number; bits: CodeBits },
): Uint32Array {
  const stride = packedColumns(N), strip = codeStrip(device) ?? stride, low = LOW_BITS[bits], high = bits - low;
  const rows = Math.ceil(K / 32) * bits, w = new Uint32Array(rows * stride);
  const put = (row: number, n: number, shift: number, value: number) => {
    const begin = n - n % strip, width = Math.min(strip, stride - begin);
    w[begin * rows + row * width + n % strip]! |= value << shift;
  };
  for (let n = 0; n < N; n++) {
    for (let k = 0; k < K; k++) {
      const code = codes[n * K + k]! & ((1 << bits) - 1), base = Math.floor(k / 32) * bits, at = k % 32;
      put(base + Math.floor(at * low / 32), n, at * low % 32, code & ((1 << low) - 1));
      if (high > 0) put(base + low + Math.floor(at * high / 32), n, at * high % 32, code >> low);
    }
  }
  return w;
}
