/**
 * What a device can really do, found by trying: Deno hides features that work, and refuses lines that Dawn requires.
 *
 * @module
 */
import { NotSupportedError } from "../errors.ts";
import type { Guard } from "./guard.ts";
import { formatBytes } from "./pool.ts";
import { type ListedMatrix, probeSubgroupMatrix, type SubgroupMatrices } from "./probe_matrix.ts";

/** Features that a user leaves out (`false`) or insists on (`true`). */
export interface FeatureOptions {
  /** Subgroup operations. */
  subgroups?: boolean;
  /** 16-bit floats in shaders. */
  shaderF16?: boolean;
  /** Timestamps, for profiling. */
  timestampQuery?: boolean;
  /** Loads and stores of 64 bits, which no standard names: Deno has them on a GPU that is a program on the CPU. */
  shaderInt64?: boolean;
  /**
   * Subgroup matrices ("tensor cores"), an experiment of Dawn: `x` is then rounded to float16 where it meets 16-bit weights.
   * A GPU that is a program on the CPU is slower with them, and uses them only where they are insisted on.
   */
  subgroupMatrix?: boolean;
}

/** Features that the kernels may use. */
export interface DeviceFeatures {
  /** `"plain"`: subgroup operations work as they are; `"enable"`: shaders must say `enable subgroups;`. */
  readonly subgroups: false | "plain" | "enable";
  /** 16-bit floats in shaders. */
  readonly shaderF16: boolean;
  /** Timestamps, for profiling. */
  readonly timestampQuery: boolean;
  /** Loads and stores of 64 bits. */
  readonly shaderInt64: boolean;
  /** The shapes of subgroup matrices that multiplied right, or false. */
  readonly subgroupMatrix: false | SubgroupMatrices;
}

/** Deno's name of 64-bit integers in shaders; it hides it, too. */
export const SHADER_INT64 = "wgpu-shader-int64" as GPUFeatureName;

/**
 * What `gpu` can do of what `asked` does not leave out; `matrices` are those that its adapter lists.
 *
 * @throws {NotSupportedError} if a feature that `asked` insists on is not there
 */
export async function usableFeatures(
  gpu: GPUDevice,
  guard: Guard,
  matrices: readonly ListedMatrix[],
  asked: FeatureOptions = {},
): Promise<DeviceFeatures> {
  const subgroups = asked.subgroups === false ? false : await probeSubgroups(gpu, guard);
  const matrix = subgroups && asked.shaderF16 !== false && (asked.subgroupMatrix ?? !isProgram(gpu.adapterInfo));
  const features: DeviceFeatures = {
    subgroups,
    shaderF16: asked.shaderF16 !== false && gpu.features.has("shader-f16"),
    timestampQuery: asked.timestampQuery !== false && gpu.features.has("timestamp-query"),
    shaderInt64: asked.shaderInt64 !== false && gpu.features.has(SHADER_INT64),
    subgroupMatrix: matrix && await probeSubgroupMatrix(gpu, guard, matrices),
  };
  for (const name of ["subgroups", "shaderF16", "timestampQuery", "shaderInt64", "subgroupMatrix"] as const) {
    if (asked[name] === true && !features[name]) {
      const hint = name === "subgroupMatrix" ? 'Only the provider "dawn" has them, on some drivers.' : undefined;
      throw new NotSupportedError(`Cannot open a device as the adapter must have ${name}: ${describe(gpu)} has not`, {
        hint,
      });
    }
  }
  return features;
}

/** Whether a GPU is a program on the CPU. */
export function isProgram({ description, device, architecture }: Partial<GPUAdapterInfo> = {}): boolean {
  return /llvmpipe|swiftshader/i.test(`${description} ${device} ${architecture}`);
}

/** A name for a device, or for an adapter. */
export function describe(
  from: { adapterInfo?: GPUAdapterInfo; info?: GPUAdapterInfo; limits: { readonly maxBufferSize: number } },
): string {
  const info = from.adapterInfo ?? from.info;
  const name = info?.description || info?.vendor || "the adapter";
  return `${name} (buffers up to ${formatBytes(from.limits.maxBufferSize)})`;
}

const PROBE = `
@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(32)
fn main(@builtin(local_invocation_index) i: u32, @builtin(subgroup_size) size: u32) {
  y[i] = subgroupAdd(1u) + size;
}`;

/** How shaders of `gpu` may use subgroups: tries a five-line shader with each header. */
async function probeSubgroups(gpu: GPUDevice, guard: Guard): Promise<DeviceFeatures["subgroups"]> {
  if (!gpu.features.has("subgroups" as GPUFeatureName)) return false;
  for (const [way, header] of [["plain", ""], ["enable", "enable subgroups;"]] as const) {
    const outcome = guard.call("compile a probe shader", () => {
      gpu.pushErrorScope("validation");
      const module = gpu.createShaderModule({ code: header + PROBE, label: "probe subgroups" });
      return Promise.all([gpu.popErrorScope(), module.getCompilationInfo()]);
    });
    const [error, { messages }] = await guard.race(outcome, "a probe shader");
    if (!error && !messages.some((m) => m.type === "error")) return way;
  }
  return false;
}
