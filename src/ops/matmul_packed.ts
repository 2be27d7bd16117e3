import { type Device, type Kernel, kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/matmul.wgsl" with { type: "text" };
import columnsWgsl from "../shaders/matmul_columns.wgsl" with { type: "text" };
import fewWgsl from "../shaders/matmul_few.wgsl" with { type: "text" };
import manyWgsl from "../shaders/matmul_many.wgsl" with { type: "text" };
import rowWgsl from "../shaders/matmul_row.wgsl" with { type: "text" };
import tileWgsl from "../shaders/matmul_tile.wgsl" with { type: "text" };
import { type Dtype, elements, empty, type Tensor, tensor } from "../tensor/mod.ts";
import { add } from "./binary.ts";
import { gatedActivation } from "./gated_activation.ts";
import { subgroupLanes } from "./launching.ts";
import { launchSubgroupMatrix, matrixType } from "./matmul_subgroup_matrix.ts";
import { dtypeFlags, packedColumns } from "./pack_weight.ts";
import { rmsNorm } from "./rms_norm.ts";

const KERNELS = {
  matmul: kernel("matmul", wgsl),
  matmul_columns: kernel("matmul_columns", columnsWgsl),
  matmul_few: kernel("matmul_few", fewWgsl),
  matmul_many: kernel("matmul_many", manyWgsl),
  matmul_row: kernel("matmul_row", rowWgsl),
  matmul_tile: kernel("matmul_tile", tileWgsl),
} satisfies Record<string, Kernel>;

/** Activations that a matmul can apply to its sums. */
export type Activation = "identity" | "silu" | "gelu" | "gelu_tanh" | "relu" | "tanh";

/** All of them, in the order in which activated.wgsl numbers them. */
export const ACTIVATIONS: readonly Activation[] = ["identity", "silu", "gelu", "gelu_tanh", "relu", "tanh"];

/** What happens to the sums before they are stored: `act(sum + bias) + residual`. */
export interface Epilogue {
  /** [N] float32. */
  bias?: Tensor;
  /** Default identity. */
  activation?: Activation;
  /** Of the shape of the result, float32. */
  residual?: Tensor;
}

/** What a linear layer does around its product, in this order; each part is optional. */
export interface Fusion {
  /** First: the RMS norm of each row of `x`. `weight` is [in] float32. */
  norm?: { weight: Tensor; eps: number };
  /** What the sums, bias included, pass through. Default identity; not together with `gate`. */
  activation?: Activation;
  /** The first half of the outputs passes through this and multiplies the second: the result is [T, out / 2]. */
  gate?: Activation;
  /** The outputs come as this many blocks of columns, one after the other: [parts, T, out / parts]. Not with `gate`. */
  parts?: number;
  /** Last: what is added, of the shape of the result, float32. */
  residual?: Tensor;
}

/** A matrix as the matmul kernels read it. */
export interface PackedMatrix {
  /** [K, packedColumns(N)] (or [Z, K, packedColumns(N)]) float32, float16 or bfloat16. */
  readonly w: Tensor;
  /** Rows. */
  readonly K: number;
  /** Columns. */
  readonly N: number;
  /** Columns of the result, of which this matrix may make a part. */
  readonly width: number;
  /** Column of the result that is this matrix's first. */
  readonly offset: number;
  /** Columns of a strip, see linear.wgsl. */
  readonly strip: number;
  /** (K, N, packedColumns(N) / 4, width, offset, a quarter of the columns of a strip) as uint32. */
  readonly dims: Tensor;
}

/** The {@linkcode PackedMatrix} of `w`, whose N columns are those of the result from `offset` on; `strip` as `packWeight` was told. */
export function packedMatrix(
  w: Tensor,
  N: number,
  { width = N, offset = 0, strip = packedColumns(N) }: { width?: number; offset?: number; strip?: number } = {},
): PackedMatrix {
  const K = w.shape.at(-2)!, dims = [K, N, packedColumns(N) / 4, width, offset, strip / 4];
  return { w, K, N, width, offset, strip, dims: tensor(w.device, dims, [dims.length], "uint32") };
}

/** A kernel for a product, how many rows a thread holds, and why. */
export interface MatmulChoice {
  kernel: keyof typeof KERNELS | "matmul_subgroup_matrix";
  rows: number;
  why: string;
}

/** What of a device decides between kernels. */
export interface MatmulTraits {
  /** Whether the GPU is a program on the CPU. */
  isCpu: boolean;
  /** Lanes of the smallest subgroup; 0 without subgroups. */
  lanes: number;
  /** Whether subgroup matrices multiply by weights of `dtype`. Default: by none. */
  hasMatrices?: (dtype: Dtype) => boolean;
}

/** Sizes of a product. */
export interface MatmulShape {
  M: number;
  K: number;
  N: number;
  /** Matrices. Default 1. */
  batch?: number;
  /** Of the weights. Default float32. */
  dtype?: Dtype;
  /** Whether eight weights, and eight outputs, lie side by side in 16 and 32 bytes. Default false. */
  wide?: boolean;
}

/** The kernel for x [M, K] and w [K, N], or `batch` of them. */
export function matmulKernel(
  { isCpu, lanes, hasMatrices }: MatmulTraits,
  { M, K, N, batch = 1, dtype = "float32", wide = false }: MatmulShape,
): MatmulChoice {
  const rows = M >= 5 ? 8 : M >= 3 ? 4 : Math.max(1, M);
  if (batch > 1) return { kernel: "matmul", rows, why: "a batch of matrices" };
  if (K % 4 !== 0) return { kernel: "matmul", rows, why: "K does not divide by 4" };
  const many = M > 16 && Math.ceil(M / 64) * Math.ceil(N / 64) >= 32; // tiles enough for a GPU
  if (hasMatrices?.(dtype) && (isCpu ? M > 4 : many)) {
    return { kernel: "matmul_subgroup_matrix", rows: 8, why: "subgroup matrices, many rows" };
  }
  if (!isCpu) {
    if (many) return { kernel: "matmul_tile", rows: 4, why: "a GPU, many rows: tiles in its memory" };
    return { kernel: "matmul", rows, why: "a GPU, few tiles: threads share the sum over K" };
  }
  if (lanes >= 8) {
    if (M === 1 && wide) return { kernel: "matmul_row", rows, why: "a CPU with subgroups, a row by 16-bit weights" };
    if (M <= 4) return { kernel: "matmul_few", rows, why: "a CPU with subgroups, few rows" };
    return { kernel: "matmul_many", rows: M <= 8 ? 8 : 16, why: "a CPU with subgroups, many rows" };
  }
  if (M <= 4) return { kernel: "matmul", rows, why: "a CPU without subgroups, few rows" };
  return { kernel: "matmul_columns", rows: 8, why: "a CPU without subgroups, many rows: 8 x 8 sums a thread" };
}

/** What of `device` decides. */
export function matmulTraits(device: Device): MatmulTraits {
  const hasMatrices = (dtype: Dtype) => matrixType(device, dtype) !== undefined;
  return { isCpu: device.isCpu, lanes: subgroupLanes(device), hasMatrices };
}

/** Rows up to which a kernel norms them itself. */
export const FEW = 4;
const TURNED = [512, 1024]; // numbers of a row of x that matmul_columns turns, where a workgroup has room for 8 rows
const SLICES = [8, 4, 16]; // threads that share a sum on a GPU, the default first

/**
 * The product of x [..., M, K] float32 with a packed matrix and what stands around it, in one kernel where it can be.
 *
 * @param y the tensor to write to, where the matrix makes only a part of it
 * @returns [..., M, N] float32; [..., M, N / 2] with a gate, [parts, M, N / parts] with parts
 */
export function matmulPacked(
  x: Tensor,
  matrix: PackedMatrix,
  { bias, norm, gate, ...rest }: Fusion & Epilogue = {},
  y?: Tensor,
): Tensor {
  const M = rowsOf(x, matrix);
  if (norm && M > FEW) {
    using h = rmsNorm(x, norm.weight, norm.eps);
    return matmulPacked(h, matrix, { bias, gate, ...rest }, y);
  }
  if (gate && matrix.N % 8 !== 0) {
    using both = matmulPacked(x, matrix, { bias, norm });
    if (!rest.residual) return gatedActivation(both, gate);
    using gated = gatedActivation(both, gate);
    return add(gated, rest.residual);
  }
  const { parts = 1 } = rest;
  const width = matrix.width / (gate ? 2 : parts);
  y ??= empty(x.device, parts > 1 ? [parts, x.size / matrix.K, width] : [...x.shape.slice(0, -1), width]);
  run(x, matrix, { bias, norm, gate, ...rest }, y, M);
  return y;
}

/** M: rows of x that one matrix multiplies. */
function rowsOf(x: Tensor, { w, K }: PackedMatrix): number {
  return x.size / K / batchOf(w);
}

function batchOf(w: Tensor): number {
  return w.shape.length > 2 ? elements(w.shape.slice(0, -2)) : 1;
}

/** Threads that share a sum; for one row on a GPU as many as were fastest there. */
function slicesOf(device: Device, { w, K, N }: PackedMatrix, rows: number): number {
  if (device.isCpu || rows > FEW) return 1;
  if (rows > 1 || batchOf(w) > 1) return SLICES[0]!;
  const key = `slices of the sum of a row of ${K} by ${K} x ${N} ${w.dtype}`;
  const most = device.limits.maxComputeInvocationsPerWorkgroup / 32;
  return Number(device.tuning.choice(key, () =>
    SLICES.filter((slices) => slices <= most).map((slices) => ({
      name: `${slices}`,
      run() {
        using x = empty(device, [1, K]);
        using y = empty(device, [1, N]);
        using scratch = empty(device, [K, packedColumns(N)], w.dtype);
        const matrix = packedMatrix(scratch, N);
        run(x, matrix, {}, y, 1, slices);
        matrix.dims.dispose();
      },
    }))));
}

function run(
  x: Tensor,
  matrix: PackedMatrix,
  fusion: Fusion & Epilogue,
  y: Tensor,
  M: number,
  slices?: number,
): void {
  const { w, dims, K, N, width, offset } = matrix;
  const { bias, residual, norm, gate, activation = gate ?? "identity", parts = gate ? 2 : 1 } = fusion;
  const { device } = x, batch = batchOf(w), columns = packedColumns(N) / (gate ? 8 : 4);
  const byFour = N % 4 === 0 && offset % 4 === 0 && (width / parts) % 4 === 0;
  const wide = w.dtype !== "float32" && byFour && N % (gate ? 16 : 8) === 0;
  const { kernel, rows } = matmulKernel(matmulTraits(device), { M, K, N, batch, wide, dtype: w.dtype });
  const flags: Record<string, boolean> = {
    ...dtypeFlags(w.dtype),
    BIAS: bias !== undefined,
    RESIDUAL: residual !== undefined,
    N_BY_4: byFour,
    GATED: !!gate,
  };
  const bindings = { w, dims, bias, residual, y, norm: norm?.weight };
  const overrides = { ACTIVATION: ACTIVATIONS.indexOf(activation), PARTS: parts, ...norm ? { EPS: norm.eps } : {} };
  const lanes = columns > 128 ? 32 : kernel === "matmul_row" ? 16 : 8; // of narrow matrices each core gets an equal part
  const tiles = (lanes: number, rows: number) => [Math.ceil(columns / lanes), Math.ceil(M / rows), batch] as const;
  if (kernel === "matmul_columns") {
    const room = device.limits.maxComputeWorkgroupStorageSize / (4 * rows), grid = tiles(gate ? 32 : 64, rows);
    const turns = TURNED.find((depth) => K <= depth && depth <= room), consts = { DEPTH: turns ?? TURNED[0]! };
    const variant = { ...flags, [turns ? "SHARED" : "APART"]: true };
    KERNELS.matmul_columns(device, { flags: variant, consts, overrides, bindings: { ...bindings, x }, grid });
  } else if (kernel === "matmul_subgroup_matrix") {
    launchSubgroupMatrix(device, w.dtype, { M, N }, { flags, overrides, bindings: { ...bindings, x } });
  } else if (kernel === "matmul_tile") {
    KERNELS.matmul_tile(device, { flags, overrides, bindings: { ...bindings, x }, grid: tiles(gate ? 8 : 16, 64) });
  } else if (kernel === "matmul") {
    const consts = { ROWS: rows, SLICES: slices ?? slicesOf(device, matrix, rows) };
    Object.assign(flags, { NORM: !!norm, K_BY_4: K % 4 === 0, SPLIT: consts.SLICES > 1 });
    KERNELS.matmul(device, { flags, consts, overrides, bindings: { ...bindings, x }, grid: tiles(32, rows) });
  } else if (kernel === "matmul_row") {
    const LANES = lanes / 2; // which hold twice as many columns
    Object.assign(flags, { SUBGROUPS: true, WIDE: true, NORM: !!norm });
    const bound = { ...bindings, x }, grid = [Math.ceil(columns / lanes * (gate ? 2 : 1)), 1, 1] as const;
    KERNELS.matmul_row(device, { flags, consts: { LANES }, overrides, bindings: bound, grid });
  } else {
    Object.assign(flags, { SUBGROUPS: true, [`R${rows}`]: true, ...norm ? { NORM: true } : {} });
    const grid = tiles(gate ? lanes / 2 : lanes, rows), consts = { LANES: lanes }; // of a gate, half of the lanes
    KERNELS[kernel](device, { flags, consts, overrides, bindings: { ...bindings, x }, grid });
  }
}
