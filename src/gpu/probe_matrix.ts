/**
 * Subgroup matrices, which Dawn has as an experiment: the shapes that a device multiplies right, found by trying.
 *
 * @module
 */
import type { Guard } from "./guard.ts";

/** What subgroups multiply at a time: [M, K] x [K, N], with sums in float32. */
export interface SubgroupMatrix {
  /** Rows of the left matrix and of the result. */
  readonly M: number;
  /** Columns of the right matrix and of the result. */
  readonly N: number;
  /** Columns of the left matrix, rows of the right one. */
  readonly K: number;
}

/** The shapes to use, by the type of the numbers that are multiplied. */
export interface SubgroupMatrices {
  /** Of 16-bit floats. */
  readonly f16?: SubgroupMatrix;
  /** Of 32-bit floats. */
  readonly f32?: SubgroupMatrix;
}

/** A shape that an adapter says it has; Dawn's own objects, whose properties no spread shows. */
export interface ListedMatrix extends SubgroupMatrix {
  readonly componentType: string;
  readonly resultComponentType: string;
}

/** Dawn's name of the feature, which it grants only with its toggle allow_unsafe_apis. */
export const SUBGROUP_MATRIX = "chromium-experimental-subgroup-matrix" as GPUFeatureName;

/** The shapes that an adapter says it has; `info` is the adapter's own, as Dawn's devices say nothing of them. */
export function listedMatrices(info: GPUAdapterInfo | undefined): readonly ListedMatrix[] {
  const { subgroupMatrixConfigs = [] } = info as { subgroupMatrixConfigs?: Iterable<ListedMatrix> } ?? {};
  return [...subgroupMatrixConfigs];
}

const SUBGROUPS = 2; // of the probe's workgroup: each multiplies matrices of its own
const MOST_LANES = 64; // four such subgroups are a workgroup that every device runs

/** Of what an adapter lists, the largest shape of each type that multiplies right on `gpu`; false where none does. */
export async function probeSubgroupMatrix(
  gpu: GPUDevice,
  guard: Guard,
  listed: readonly ListedMatrix[],
): Promise<SubgroupMatrices | false> {
  if (!gpu.features.has(SUBGROUP_MATRIX)) return false;
  const { subgroupMaxSize: lanes = 0 } = gpu.adapterInfo as GPUAdapterInfo & { subgroupMaxSize?: number };
  if (lanes === 0 || lanes > MOST_LANES) return false;
  const found: { f16?: SubgroupMatrix; f32?: SubgroupMatrix } = {};
  for (const type of ["f16", "f32"] as const) {
    if (type === "f16" && !gpu.features.has("shader-f16")) continue;
    const shapes = listed
      .filter(({ componentType, resultComponentType }) => componentType === type && resultComponentType === "f32")
      .map(({ M, N, K }) => ({ M, N, K }))
      .filter(({ M, N, K }) => [M, N, K].every((side) => side === 8 || side === 16)) // what the kernel's tiles are cut into
      .sort((a, b) => b.M * b.N * b.K - a.M * a.N * a.K);
    for (const shape of shapes) {
      if (!await multipliesRight(gpu, guard, type, shape, lanes)) continue;
      found[type] = shape;
      break;
    }
  }
  return found.f16 || found.f32 ? found : false;
}

/** Whole numbers whose sums float32 holds and float16 does not; the probe makes the same. */
const left = (m: number, k: number) => (m * 13 + k * 7) % 61;
const right = (k: number, n: number) => (k * 11 + n * 17) % 59 - 20;

/** Multiplies matrices of whole numbers: every product and every sum must be exact. */
async function multipliesRight(
  gpu: GPUDevice,
  guard: Guard,
  type: "f16" | "f32",
  { M, N, K }: SubgroupMatrix,
  lanes: number,
): Promise<boolean> {
  const size = 4 * SUBGROUPS * M * N;
  const buffers = guard.call("make the buffers of a probe shader", () => ({
    y: gpu.createBuffer({ size, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC }),
    read: gpu.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST }),
  }));
  try {
    const outcome = guard.call("run a probe shader", async () => {
      gpu.pushErrorScope("validation");
      gpu.pushErrorScope("internal");
      const module = gpu.createShaderModule({ code: probe(type, M, N, K, lanes), label: "probe subgroup matrices" });
      const pipeline = gpu.createComputePipeline({ layout: "auto", compute: { module } });
      const encoder = gpu.createCommandEncoder(), pass = encoder.beginComputePass();
      const entries = [{ binding: 0, resource: { buffer: buffers.y } }];
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, gpu.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
      pass.dispatchWorkgroups(1);
      pass.end();
      encoder.copyBufferToBuffer(buffers.y, 0, buffers.read, 0, size);
      gpu.queue.submit([encoder.finish()]);
      const errors = await Promise.all([gpu.popErrorScope(), gpu.popErrorScope()]);
      if (errors.some((error) => error)) return;
      await buffers.read.mapAsync(GPUMapMode.READ);
      return new Float32Array(buffers.read.getMappedRange().slice(0));
    });
    const y = await guard.race(outcome, "a probe shader");
    return !!y && y.every((value, i) => value === product(i, N, K));
  } finally {
    for (const buffer of Object.values(buffers)) buffer.destroy();
  }
}

/** Element `i` of what the probe must give, the product twice: the rows of the second subgroup follow those of the first. */
function product(i: number, N: number, K: number): number {
  let sum = 0;
  for (let k = 0; k < K; k++) sum += left(Math.floor(i / N), k) * right(k, i % N);
  return 2 * sum;
}

function probe(type: "f16" | "f32", M: number, N: number, K: number, lanes: number): string {
  return `
enable chromium_experimental_subgroup_matrix;
enable subgroups;
${type === "f16" ? "enable f16;" : ""}
diagnostic(off, chromium.subgroup_matrix_uniformity);
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
var<workgroup> lefts: array<${type}, ${SUBGROUPS * M * K}>;
var<workgroup> rights: array<${type}, ${K * N}>;
var<workgroup> results: array<f32, ${SUBGROUPS * M * N}>;
@compute @workgroup_size(${SUBGROUPS * lanes})
fn main(@builtin(local_invocation_index) thread: u32, @builtin(subgroup_id) subgroup: u32) {
  for (var i = thread; i < ${SUBGROUPS * M * K}u; i += ${SUBGROUPS * lanes}u) {
    lefts[i] = ${type}((i / ${K}u * 13u + i % ${K}u * 7u) % 61u);
  }
  for (var i = thread; i < ${K * N}u; i += ${SUBGROUPS * lanes}u) {
    rights[i] = ${type}((i / ${N}u * 11u + i % ${N}u * 17u) % 59u) - 20;
  }
  workgroupBarrier();
  let s = min(subgroup, ${SUBGROUPS - 1}u);
  let l = subgroupMatrixLoad<subgroup_matrix_left<${type}, ${K}, ${M}>, row_major>(&lefts, s * ${M * K}u, ${K}u);
  let r = subgroupMatrixLoad<subgroup_matrix_right<${type}, ${N}, ${K}>, row_major>(&rights, 0u, ${N}u);
  var sum: subgroup_matrix_result<f32, ${N}, ${M}>;
  sum = subgroupMatrixMultiplyAccumulate(l, r, sum);
  sum = subgroupMatrixMultiplyAccumulate(l, r, sum);
  subgroupMatrixStore<row_major>(&results, s * ${M * N}u, sum, ${N}u);
  workgroupBarrier();
  for (var i = thread; i < ${SUBGROUPS * M * N}u; i += ${SUBGROUPS * lanes}u) {
    y[i] = results[i];
  }
}`;
}
