import { DtypeError, ShapeError } from "../errors.ts";
import type { Bindable, Device } from "../gpu/mod.ts";
import { bytesPerElement, formatShape, type Shape, type Tensor } from "../tensor/mod.ts";

const BLOCK = 256, CPU_LANES = 8;

/**
 * `n` elements from where `t` begins, bound so that the shader reads `n` as an `arrayLength`: a width or an offset then
 * needs neither a pipeline of its own nor a write from the host, which a capture could not repeat. `n` is at least 1.
 */
export function extent(t: Tensor, n: number): Bindable {
  return { buffer: t.buffer, byteOffset: t.byteOffset, byteLength: 4 * n };
}

/** `t` with its binding rounded up to whole vec4s; every buffer of the pool has room for them. */
export function wholeVectors(t: Tensor): Bindable {
  return { buffer: t.buffer, byteOffset: t.byteOffset, byteLength: Math.ceil(t.byteLength / 16) * 16 };
}

/** Workgroups for `rows` rows of `width` elements, cut into blocks as `rowBlock` of grid.wgsl cuts them. */
export function rowBlocks(rows: number, width: number): readonly [number] {
  return [rows * Math.ceil(width / BLOCK)];
}

/** Threads of a workgroup for elements: on a CPU as few as a vector has lanes, as more take turns at every instruction. */
export function elementThreads(device: Device): number {
  return device.isCpu ? CPU_LANES : 64;
}

/** The variant and grid for kernels that see `n` elements one by one: on a CPU a workgroup is dear, and takes more. */
export function elementwise(
  device: Device,
  n: number,
): { consts: { WG: number; STEPS: number }; grid: readonly [number] } {
  const WG = elementThreads(device), STEPS = device.isCpu ? 64 : 1;
  return { consts: { WG, STEPS }, grid: [Math.ceil(n / WG / STEPS)] };
}

/** The variant of a kernel for rows. */
export interface RowVariant {
  consts: { WG: number };
  flags: { BY_4: boolean; SUBGROUPS: boolean };
}

/**
 * The variant for kernels that give a workgroup to each row of `n` elements: vec4 steps where `n` divides by 4, and many
 * threads on a GPU, to hide its latency, but as few as a vector has lanes on a CPU, which pays for each at a barrier, and
 * needs none where these lanes are a subgroup.
 */
export function rowVariant(device: Device, n: number): RowVariant {
  const WG = device.isCpu ? CPU_LANES : n >= 1024 ? 256 : 64;
  return { consts: { WG }, flags: { BY_4: n % 4 === 0, SUBGROUPS: device.isCpu && subgroupLanes(device) >= WG } };
}

/** Lanes of the smallest subgroup that `device` makes; 0 without subgroups. */
export function subgroupLanes(device: Device): number {
  const { subgroupMinSize = 0 } = device.info as GPUAdapterInfo & { subgroupMinSize?: number };
  return device.features.subgroups ? subgroupMinSize : 0;
}

/** Elements of a row of `t` beyond its first dimension, in words of 32 bits. */
export function wordsPerRow(op: string, argument: string, t: Tensor): number {
  if (t.shape.length === 0) {
    throw new ShapeError(`Cannot run ${op} as ${argument} must have a first dimension: current shape is []`);
  }
  const width = t.shape.slice(1).reduce((product, n) => product * n, 1);
  return words(op, argument, t, width);
}

/** `n` elements of `t` in words of 32 bits, which is what the kernels and copies that only move data see. */
export function words(op: string, argument: string, t: Tensor, n: number): number {
  const bytes = n * bytesPerElement(t.dtype);
  if (bytes % 4 === 0) return bytes / 4;
  throw new DtypeError(
    `Cannot run ${op} as rows of ${argument} must be whole words of 4 bytes: current row is ${n} ${t.dtype}`,
    { hint: "Use cast() to float32 first." },
  );
}

/** Checks that `start` to `end` lie within a dimension of length `n`. */
export function expectRange(op: string, shape: Shape, start: number, end: number, n: number): void {
  if (Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= n) return;
  throw new ShapeError(
    `Cannot run ${op} as start and end must be whole numbers in order from 0 to ${n}: current range is ` +
      `${start} to ${end}, shape is ${formatShape(shape)}`,
  );
}
