import { type Device, kernel, type Launch, type SubgroupMatrices, type SubgroupMatrix } from "../gpu/mod.ts";
import wgsl from "../shaders/matmul_subgroup_matrix.wgsl" with { type: "text" };
import type { Dtype } from "../tensor/mod.ts";

const launch = kernel("matmul_subgroup_matrix", wgsl);

/** What a workgroup multiplies at a time. */
export interface MatrixTile {
  /** Subgroups above each other. */
  down: number;
  /** Subgroups side by side. */
  across: number;
  /** Rows of a subgroup. */
  rows: number;
  /** Columns of a subgroup. */
  columns: number;
  /** Columns of x, and rows of w, that go through workgroup memory at a time. */
  depth: number;
}

/** Workgroups from which on the larger tile is taken: fewer do not fill a large GPU. */
const FILLED = 128;

/** The type in which subgroup matrices multiply by weights of `dtype` on `device`; undefined where they do not. */
export function matrixType(device: Device, dtype: Dtype): "f16" | "f32" | undefined {
  const type = dtype === "float32" ? "f32" : "f16";
  return device.features.subgroupMatrix && device.features.subgroupMatrix[type] ? type : undefined;
}

/**
 * The tile for a product of M rows and N columns by subgroups of `lanes` threads, each of which holds 32 or 128 of its sums.
 * On a CPU, which has few lanes, compilers take long for more.
 */
export function matrixTile(lanes: number, type: "f16" | "f32", M: number, N: number): MatrixTile {
  const large = lanes >= 32 && Math.ceil(M / 128) * Math.ceil(N / 128) >= FILLED;
  const side = large ? 64 : lanes >= 16 ? 32 : 16;
  return { down: 2, across: 2, rows: side, columns: side, depth: (type === "f16" ? 32 : 16) / (lanes >= 16 ? 1 : 2) };
}

/** Whether a device of such limits runs `tile`, and its threads share the loads evenly. */
export function tileFits(
  limits: Pick<GPUSupportedLimits, "maxComputeInvocationsPerWorkgroup" | "maxComputeWorkgroupStorageSize">,
  lanes: number,
  type: "f16" | "f32",
  shape: SubgroupMatrix,
  tile: MatrixTile,
): boolean {
  const { threads, unit, height, width, consts } = sizesOf(lanes, type, shape, tile), { DEPTH } = consts;
  const row = (numbers: number, unit: number) => 16 * (numbers / unit + 1); // bytes
  const loaded = height * row(DEPTH, unit) + DEPTH * row(width, unit), stored = tile.down * shape.M * row(width, 4);
  return [consts.X_UNITS, consts.W_UNITS, threads * unit / DEPTH, threads * unit / width].every(Number.isInteger) &&
    threads <= limits.maxComputeInvocationsPerWorkgroup &&
    Math.max(loaded, stored) + 4 <= limits.maxComputeWorkgroupStorageSize;
}

/** Launches the kernel for x [M, K] and a matrix [K, N] of `dtype`; the rest is as matmul_packed.ts binds it. */
export function launchSubgroupMatrix(
  device: Device,
  dtype: Dtype,
  { M, N }: { M: number; N: number },
  launched: Pick<Launch, "flags" | "overrides" | "bindings">,
  tile?: MatrixTile,
): void {
  const type = matrixType(device, dtype)!, shape = (device.features.subgroupMatrix as SubgroupMatrices)[type]!;
  const { subgroupMaxSize = 0 } = device.info as GPUAdapterInfo & { subgroupMaxSize?: number };
  tile ??= matrixTile(subgroupMaxSize, type, M, N);
  const { height, width, consts } = sizesOf(subgroupMaxSize, type, shape, tile);
  launch(device, { ...launched, consts, grid: [Math.ceil(N / width), Math.ceil(M / height), 1] });
}

/** What a workgroup has, and the constants of its shader. */
function sizesOf(LANES: number, type: "f16" | "f32", shape: SubgroupMatrix, tile: MatrixTile) {
  const { down: DOWN, across: ACROSS, rows, columns, depth } = tile, { M: SIDE_M, N: SIDE_N, K: SIDE_K } = shape;
  const ROWS = Math.max(1, rows / SIDE_M), COLUMNS = Math.max(1, columns / SIDE_N), DEPTH = Math.max(depth, SIDE_K);
  const height = DOWN * ROWS * SIDE_M, width = ACROSS * COLUMNS * SIDE_N, threads = DOWN * ACROSS * LANES;
  const unit = type === "f16" ? 8 : 4; // numbers of 16 bytes
  const X_UNITS = height * DEPTH / unit / threads, W_UNITS = width * DEPTH / unit / threads;
  const consts = { LANES, SIDE_M, SIDE_N, SIDE_K, DOWN, ACROSS, ROWS, COLUMNS, DEPTH, X_UNITS, W_UNITS };
  return { height, width, threads, unit, consts };
}
