import { type Device, kernel } from "../gpu/mod.ts";
import fewWgsl from "../shaders/int8_few.wgsl" with { type: "text" };
import matmulWgsl from "../shaders/int8_matmul.wgsl" with { type: "text" };
import outliersWgsl from "../shaders/int8_outliers.wgsl" with { type: "text" };
import quantizeWgsl from "../shaders/int8_quantize.wgsl" with { type: "text" };
import roundWgsl from "../shaders/int8_round.wgsl" with { type: "text" };
import { empty, keep, type Tensor, tensor } from "../tensor/mod.ts";
import { rowVariant, subgroupLanes } from "./launching.ts";
import { ACTIVATIONS, FEW, type Fusion } from "./matmul_packed.ts";
import { packedColumns } from "./pack_weight.ts";
import {
  type CodedMatrix,
  type DimsOptions,
  stripOverride,
  tile,
  unpackedMatmul,
  unpacksFirst,
} from "./quantized_matmul.ts";
import { rmsNorm } from "./rms_norm.ts";

const outliers = kernel("int8_outliers", outliersWgsl);
const quantize = kernel("int8_quantize", quantizeWgsl);
const round = kernel("int8_round", roundWgsl);
const few = kernel("int8_few", fewWgsl);
const matmul = kernel("int8_matmul", matmulWgsl);
const LANES = 32;
const SMALL = 2 ** 20; // products up to which several rows are quantized anew by each subgroup: 1.2 to 1.7 times slower above
const bits = new Uint32Array(1), float = new Float32Array(bits.buffer);

/** Words of {@linkcode int8Dims}. */
export const INT8_DIMS = 8;

/** Sizes of a matrix of LLM.int8()'s codes, as its kernel reads them. */
export function int8Dims(device: Device, { K, N, outFeatures = N, column = 0, bias = 0 }: DimsOptions): Tensor {
  const dims = [K, N, packedColumns(N) / 4, outFeatures, 0, 0, column, bias];
  return keep(device, tensor(device, dims, [INT8_DIMS], "uint32"));
}

/** (K, threshold), as the kernels that quantize x read them. */
export function int8Threshold(device: Device, K: number, threshold: number): Tensor {
  float[0] = threshold;
  return keep(device, tensor(device, [K, bits[0]!], [2], "uint32"));
}

/**
 * LLM.int8(): `x` is quantized by rows, the products of codes are summed as integers, and the columns of `x` in which a
 * number reaches the threshold are multiplied as they are. https://arxiv.org/abs/2208.07339
 *
 * @param x [M, K] float32
 * @param matrices of kind "int8", each of which makes the columns that its `dims` name
 * @param params of {@linkcode int8Threshold}
 * @param threshold 0: no column is an outlier
 * @param y [M, N] float32, changed in place; as `quantizedMatmul` has it with a gate or parts
 * @param fusion what is done around the product
 */
export function int8Matmul(
  x: Tensor,
  matrices: readonly CodedMatrix[],
  params: Tensor,
  threshold: number,
  y: Tensor,
  fusion: Fusion = {},
): void {
  const { device } = x, { K } = matrices[0]!, M = x.size / K, blocks = Math.ceil(K / 32);
  const few = M <= FEW && (M === 1 || M * K * matrices.reduce((sum, { N }) => sum + N, 0) <= SMALL);
  if (few && K % 4 === 0 && device.isCpu && subgroupLanes(device) >= 8) {
    return fewRows(x, matrices, threshold, y, fusion);
  }
  const { norm, ...behind } = fusion;
  if (norm) {
    using h = rmsNorm(x, norm.weight, norm.eps);
    return int8Matmul(h, matrices, params, threshold, y, behind);
  }
  if (unpacksFirst(device, M)) {
    using rounded = roundedRows(x, params, threshold);
    for (const matrix of matrices) unpackedMatmul(rounded, matrix, y, behind);
    return;
  }
  const OUTLIERS = threshold > 0;
  using q = empty(device, [blocks + 1 + K + M * (8 * blocks + 1)], "uint32");
  if (OUTLIERS) outliers(device, { bindings: { x, dims: params, q }, grid: [M === 0 ? 0 : blocks] });
  quantize(device, {
    flags: { OUTLIERS },
    consts: { WG: device.isCpu ? 8 : 64 },
    bindings: { x, dims: params, q },
    grid: [M],
  });
  const { ROWS, flags } = tile(device, M), { residual, gate } = behind;
  for (const { N, w, groups, dims } of matrices) {
    matmul(device, {
      flags: { ...flags, OUTLIERS, RESIDUAL: residual !== undefined, GATED: gate !== undefined },
      consts: { ROWS },
      overrides: { ...behindOverrides(behind), ...stripOverride(device) },
      bindings: { x, q, w, groups, dims, residual, y },
      grid: [Math.ceil(N / 4 / LANES), Math.ceil(M / ROWS), 1],
    });
  }
}

/** x as its codes and outliers have it, in numbers: of weights in numbers the sums are the same. */
function roundedRows(x: Tensor, params: Tensor, threshold: number): Tensor {
  const { device } = x, K = x.shape.at(-1)!, { consts, flags } = rowVariant(device, K), OUTLIERS = threshold > 0;
  using q = empty(device, [Math.ceil(K / 32)], "uint32");
  if (OUTLIERS) outliers(device, { bindings: { x, dims: params, q }, grid: [Math.ceil(K / 32)] });
  const y = empty(device, x.shape);
  round(device, {
    flags: { ...flags, OUTLIERS },
    consts,
    bindings: { x, dims: params, q, y },
    grid: [x.size / K],
  });
  return y;
}

/** One kernel for all of it. */
function fewRows(x: Tensor, matrices: readonly CodedMatrix[], threshold: number, y: Tensor, fusion: Fusion): void {
  const { norm, residual, gate } = fusion, [ROWS, TILES] = x.size === matrices[0]!.K ? [1, 4] : [FEW, 2];
  for (const { N, w, groups, dims } of matrices) {
    few(x.device, {
      flags: { SUBGROUPS: true, OUTLIERS: threshold > 0, RESIDUAL: !!residual, NORM: !!norm, GATED: !!gate },
      consts: { ROWS, TILES },
      overrides: {
        ...behindOverrides(fusion),
        ...stripOverride(x.device),
        ...threshold > 0 && { THRESHOLD: threshold },
        ...norm && { EPS: norm.eps },
      },
      bindings: { x, w, groups, dims, residual, y, norm: norm?.weight },
      grid: [x.size === 0 ? 0 : Math.ceil(N / 32 / TILES), 1, 1],
    });
  }
}

function behindOverrides({ gate, activation = gate ?? "identity", parts = 1 }: Fusion): Record<string, number> {
  return { ACTIVATION: ACTIVATIONS.indexOf(activation), PARTS: parts };
}

/** What {@linkcode int8MatmulReference} takes. */
export interface Int8ReferenceOptions {
  /** Rows of x. */
  M: number;
  /** Inputs. */
  K: number;
  /** Outputs. */
  N: number;
  /** From which size on a number makes its column an outlier; 0: none does. */
  threshold: number;
}

/** The same in plain loops, of codes [N, K] and their absmax [N]; the sums of outliers in float64. */
export function int8MatmulReference(
  x: Float32Array,
  codes: Int8Array,
  absmax: Float32Array,
  { M, K, N, threshold }: Int8ReferenceOptions,
): Float32Array {
  const large = (v: number) => threshold > 0 && Math.abs(v) >= threshold;
  const outlier = Array.from({ length: K }, (_, k) => Array.from({ length: M }, (_, m) => x[m * K + k]!).some(large));
  const y = new Float32Array(M * N);
  for (let m = 0; m < M; m++) {
    const row = x.subarray(m * K, (m + 1) * K);
    const size = row.reduce((most, v) => large(v) ? most : Math.max(most, Math.abs(v)), 0);
    const scale = Math.fround(Math.fround(1 / size) * 127);
    const q = Array.from(row, (v, k) => outlier[k] || size === 0 ? 0 : roundEven(Math.fround(v * scale)));
    for (let n = 0; n < N; n++) {
      let sum = 0, rest = 0;
      for (let k = 0; k < K; k++) {
        sum += q[k]! * codes[n * K + k]!;
        if (outlier[k]) rest += row[k]! * codes[n * K + k]!;
      }
      y[m * N + n] = (sum * size / 127 + rest) * absmax[n]! / 127;
    }
  }
  return y;
}

/** `x` rounded to a whole number, ties to even. */
export function roundEven(x: number): number {
  const down = Math.floor(x), rest = x - down;
  return rest > 0.5 || rest === 0.5 && down % 2 !== 0 ? down + 1 : down;
}
