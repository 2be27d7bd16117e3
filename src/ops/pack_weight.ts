import { ShapeError } from "../errors.ts";
import { kernel } from "../gpu/mod.ts";
import tileWgsl from "../shaders/pack_tile.wgsl" with { type: "text" };
import wgsl from "../shaders/pack_weight.wgsl" with { type: "text" };
import { bytesPerElement, type Dtype, empty, floatFlags, formatShape, type Tensor, tensor } from "../tensor/mod.ts";

const launch = kernel("pack_weight", wgsl), launchTile = kernel("pack_tile", tileWgsl);
const STRIP = 16, TILE = 4, BLOCK = 8 * TILE;

/** Where a piece of a weight goes in a packed matrix. */
export interface PackOptions {
  /** The piece is `[columns, rows]` of the packed matrix, as torch's Linear keeps it. Default false. */
  transpose?: boolean;
  /** First column of the packed matrix that the piece fills. Default 0. */
  column?: number;
  /** First row of the packed matrix that the piece fills. Default 0. */
  row?: number;
}

/** Columns of a packed matrix of `n` columns: the next multiple of 4. */
export function packedColumns(n: number): number {
  return Math.ceil(n / 4) * 4;
}

/** An empty packed matrix [rows, packedColumns(columns)]. */
export function emptyPacked(
  like: Tensor["device"],
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
export function packWeight(x: Tensor, w: Tensor, { transpose = false, column = 0, row = 0 }: PackOptions = {}): void {
  const [rows = 0, cols = 0] = x.shape;
  const [K = 0, stride = 0] = w.shape;
  const [columns, depth] = transpose ? [rows, cols] : [cols, rows];
  if (x.shape.length !== 2 || w.shape.length !== 2 || column + columns > stride || row + depth > K) {
    throw new ShapeError(
      `Cannot pack a weight as it must fit into ${formatShape(w.shape)} at row ${row}, column ${column}: ` +
        `current shape is ${formatShape(x.shape)}${transpose ? ", transposed" : ""}`,
    );
  }
  if (!transpose && x.dtype === w.dtype && cols === stride && x.byteLength % 4 === 0) { // it lies as it shall
    const start = w.byteOffset + row * stride * bytesPerElement(w.dtype);
    return x.device.stream.copy(x.buffer.gpu, x.byteOffset, w.buffer.gpu, start, x.byteLength);
  }
  const words = w.dtype === "float32" ? columns : Math.ceil((column + columns) / 2) - Math.floor(column / 2);
  using params = tensor(x.device, [rows, cols, stride, column, row], [5], "uint32");
  const flags = { ...xFlags(x.dtype), ...dtypeFlags(w.dtype) }, bindings = { x, params, w };
  if (transpose && [rows, cols, column].every((n) => n % TILE === 0)) {
    return launchTile(x.device, { flags, bindings, grid: [Math.ceil(rows / BLOCK) * Math.ceil(cols / BLOCK)] });
  }
  launch(x.device, {
    flags: { ...flags, TRANSPOSE: transpose },
    bindings,
    grid: [Math.ceil((words * Math.ceil(depth / STRIP)) / 64)],
  });
}

/** `@if` flags of a weight's dtype: F32, F16 or BF16. */
export function dtypeFlags(dtype: Dtype): Record<string, boolean> {
  return { F32: dtype === "float32", ...floatFlags(dtype) };
}

function xFlags(dtype: Dtype): Record<string, boolean> {
  return { X_F32: dtype === "float32", ...floatFlags(dtype, "X_") };
}
