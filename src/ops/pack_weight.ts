import { ShapeError } from "../errors.ts";
import { type Device, kernel } from "../gpu/mod.ts";
import tileWgsl from "../shaders/pack_tile.wgsl" with { type: "text" };
import wgsl from "../shaders/pack_weight.wgsl" with { type: "text" };
import { bytesPerElement, type Dtype, empty, floatFlags, formatShape, type Tensor, tensor } from "../tensor/mod.ts";

const launch = kernel("pack_weight", wgsl), launchTile = kernel("pack_tile", tileWgsl);
const CPU_STRIP = 32;
const STRIP = 16, TILE = 4, BLOCK = 8 * TILE;

/** Where a piece of a weight goes in a packed matrix. */
export interface PackOptions {
  /** The piece is `[columns, rows]` of the packed matrix, as torch's Linear keeps it. Default false. */
  transpose?: boolean;
  /** First column of the packed matrix that the piece fills. Default 0. */
  column?: number;
  /** First row of the packed matrix that the piece fills. Default 0. */
  row?: number;
  /** Which of the piece's columns, or rows with `transpose`, are packed: from where, and how many. Default: all. */
  columns?: readonly [start: number, count: number];
  /** Which of the others. */
  rows?: readonly [start: number, count: number];
  /** Columns of a strip, a multiple of 8: strips lie one after the other. Default: all columns in one. */
  strip?: number;
}

/** Columns of a strip of a layer's weight on `device`: a CPU reads its memory fastest in order; undefined for all. */
export function stripOf(device: Device): number | undefined {
  return device.isCpu ? CPU_STRIP : undefined;
}

/** Columns of a packed matrix of `n` columns: the next multiple of 4. */
export function packedColumns(n: number): number {
  return Math.ceil(n / 4) * 4;
}

/** An empty packed matrix [rows, packedColumns(columns)]. */
export function emptyPacked(
  like: Device,
  rows: number,
  columns: number,
  dtype: Dtype,
  label?: string,
): Tensor {
  return empty(like, [rows, packedColumns(columns)], dtype, { exact: true, label });
}

/**
 * Writes a piece of a weight into the packed matrix `w` that `matmul` reads, converted to its dtype.
 *
 * @param x [rows, cols] float32, float16 or bfloat16
 * @param w [K, packedColumns(N)] float32, float16 or bfloat16; changed in place
 * @throws {ShapeError} if the piece does not fit
 */
export function packWeight(x: Tensor, w: Tensor, options: PackOptions = {}): void {
  const { transpose = false, column = 0, row = 0 } = options;
  const [n = 0, cols = 0] = x.shape;
  const [K = 0, stride = 0] = w.shape;
  const strip = Math.min(options.strip ?? stride, stride);
  const [across, down] = transpose ? [n, cols] : [cols, n];
  const { columns: [left, columns] = [0, across], rows: [top, rows] = [0, down] } = options;
  const within = left + columns <= across && top + rows <= down;
  if (x.shape.length !== 2 || w.shape.length !== 2 || column + columns > stride || row + rows > K || !within) {
    throw new ShapeError(
      `Cannot pack a weight as it must fit into ${formatShape(w.shape)} at row ${row}, column ${column}: ` +
        `current shape is ${formatShape(x.shape)}${transpose ? ", transposed" : ""}`,
    );
  }
  if (!transpose && x.dtype === w.dtype && columns === cols && cols === stride && strip === stride) { // it lies as it shall
    const line = stride * bytesPerElement(w.dtype), from = x.byteOffset + top * line, to = w.byteOffset + row * line;
    return x.device.stream.copy(x.buffer.gpu, from, w.buffer.gpu, to, rows * line);
  }
  const words = w.dtype === "float32" ? columns : Math.ceil((column + columns) / 2) - Math.floor(column / 2);
  using params = tensor(x.device, [cols, stride, column, row, columns, rows, left, top, strip, K], [10], "uint32");
  const flags = { ...xFlags(x.dtype), ...dtypeFlags(w.dtype) }, bindings = { x, params, w };
  if (transpose && [cols, column, columns, rows, left, top].every((n) => n % TILE === 0)) {
    return launchTile(x.device, { flags, bindings, grid: [Math.ceil(columns / BLOCK) * Math.ceil(rows / BLOCK)] });
  }
  launch(x.device, {
    flags: { ...flags, TRANSPOSE: transpose },
    bindings,
    grid: [Math.ceil((words * Math.ceil(rows / STRIP)) / 64)],
  });
}

/** `@if` flags of a weight's dtype: F32, F16 or BF16. */
export function dtypeFlags(dtype: Dtype): Record<string, boolean> {
  return { F32: dtype === "float32", ...floatFlags(dtype) };
}

function xFlags(dtype: Dtype): Record<string, boolean> {
  return { X_F32: dtype === "float32", ...floatFlags(dtype, "X_") };
}
