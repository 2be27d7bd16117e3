/**
 * What a device can really do, found by trying: Deno hides features that work, and refuses lines that Dawn requires.
 *
 * @module
 */
import type { Guard } from "./guard.ts";

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
}

/** Deno's name of 64-bit integers in shaders; it hides it, too. */
export const SHADER_INT64 = "wgpu-shader-int64" as GPUFeatureName;

const PROBE = `
@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(32)
fn main(@builtin(local_invocation_index) i: u32, @builtin(subgroup_size) size: u32) {
  y[i] = subgroupAdd(1u) + size;
}`;

/** How shaders of `gpu` may use subgroups: tries a five-line shader with each header. */
export async function probeSubgroups(gpu: GPUDevice, guard: Guard): Promise<DeviceFeatures["subgroups"]> {
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
