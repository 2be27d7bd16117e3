import { type Device, kernel, type Launch, type SubgroupMatrices } from "../gpu/mod.ts";
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

/** Launches the kernel for x [M, K] and a matrix [K, N] of `dtype`; the rest is as matmul_packed.ts binds it. */
export function launchSubgroupMatrix(
  device: Device,
  dtype: Dtype,
  { M, N }: { M: number; N: number },
  launched: Pick<Launch, "flags" | "overrides" | "bindings">,
  tile?: MatrixTile,
): void {
  const type = matrixType(device, dtype)!, shape = (device.features.subgroupMatrix as SubgroupMatrices)[type]!;
  const { subgroupMaxSize: LANES = 0 } = device.info as GPUAdapterInfo & { subgroupMaxSize?: number };
  const { down, across, rows, columns, depth } = tile ?? matrixTile(LANES, type, M, N);
  const ROWS = Math.max(1, rows / shape.M), COLUMNS = Math.max(1, columns / shape.N), DEPTH = Math.max(depth, shape.K);
  const height = down * ROWS * shape.M, width = across * COLUMNS * shape.N;
  const units = DEPTH / (type === "f16" ? 8 : 4) / (down * across * LANES); // of 16 bytes, of each row, for each thread
  const sides = { SIDE_M: shape.M, SIDE_N: shape.N, SIDE_K: shape.K };
  const counts = { DOWN: down, ACROSS: across, ROWS, COLUMNS, X_UNITS: height * units, W_UNITS: width * units };
  const grid = [Math.ceil(N / width), Math.ceil(M / height), 1] as const;
  launch(device, { ...launched, consts: { LANES, ...sides, ...counts, DEPTH }, grid });
}
