/**
 * What `device.explain()` says.
 *
 * @module
 */
import type { Device } from "./device.ts";
import { formatBytes, type PoolStats } from "./pool.ts";
import type { DeviceFeatures } from "./probe.ts";

/** What a device is, has and chose; as a string it is a short table. */
export interface DeviceReport {
  /** "deno" (wgpu) or "dawn". */
  provider: string;
  /** The adapter's name, vendor and architecture as the driver gives them. */
  adapter: { description: string; vendor: string; architecture: string; device: string };
  /** Subgroup sizes, [least, most]; zero where unknown. */
  subgroupSizes: readonly [number, number];
  /** Features in use. */
  features: DeviceFeatures;
  /** The limits that decide which models fit. */
  limits: Record<string, number>;
  /** The rung of each ladder, and why. */
  rungs: { what: string; chosen: string; why: string }[];
  /** Choices that were measured on this device, and the file that keeps them for the next run, if any. */
  tuning: { file?: string; choices: Record<string, string> };
  /** GPU memory, in bytes. */
  memory: PoolStats;
  /** The report as text. */
  toString(): string;
}

const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupsPerDimension",
  "minStorageBufferOffsetAlignment",
] as const;

/** Describes `device`. */
export function report(device: Device): DeviceReport {
  const { info, limits, features, provider, pool, tuning } = device;
  const sizes = info as GPUAdapterInfo & { subgroupMinSize?: number; subgroupMaxSize?: number };
  return {
    provider,
    adapter: {
      description: info.description,
      vendor: info.vendor,
      architecture: info.architecture,
      device: info.device,
    },
    subgroupSizes: [sizes.subgroupMinSize ?? 0, sizes.subgroupMaxSize ?? 0],
    features,
    limits: Object.fromEntries(LIMITS.map((name) => [name, limits[name]])),
    rungs: rungs(features, device.isCpu),
    tuning: { file: tuning.file, choices: Object.fromEntries(tuning.all) },
    memory: pool.stats,
    toString: toText,
  };
}

function rungs(
  { subgroups, shaderF16, timestampQuery, subgroupMatrix }: DeviceFeatures,
  isCpu: boolean,
): DeviceReport["rungs"] {
  return [
    {
      what: "reductions and broadcasts",
      chosen: subgroups ? "subgroup" : "workgroup memory",
      why: subgroups ? "a probe shader compiled" : "masked off, or no probe shader compiled",
    },
    {
      what: "16-bit weights and caches",
      chosen: "packed in u32, unpacked to f32",
      why: `needs no feature (shader-f16 is ${shaderF16 ? "there" : "not there"}); sums are f32 on every rung`,
    },
    {
      what: "products of many rows",
      chosen: subgroupMatrix ? `subgroup matrices ${matrixNames(subgroupMatrix)}` : "plain cores",
      why: subgroupMatrix
        ? "a probe shader multiplied right; x is rounded to f16 where weights have 16 bits, sums are f32"
        : isCpu
        ? "masked off, not there, or not asked for: a GPU that is a program on the CPU is slower with subgroup matrices"
        : "masked off, or no shape of subgroup matrices with f32 sums multiplied right; only Dawn has them",
    },
    {
      what: "kernel times",
      chosen: timestampQuery ? "GPU timestamps" : "not available",
      why: timestampQuery ? "timestamp-query is there" : "masked off, or no timestamp-query",
    },
  ];
}

/** "f16 16 x 16 x 16", "no": shapes of subgroup matrices, rows, columns and what is summed over. */
export function matrixNames(matrices: DeviceFeatures["subgroupMatrix"]): string {
  const names = Object.entries(matrices || {}).map(([type, { M, N, K }]) => `${type} ${M} x ${N} x ${K}`);
  return names.join(", ") || "no";
}

function toText(this: DeviceReport): string {
  const { adapter, features, limits, memory, subgroupSizes, tuning } = this;
  const name = adapter.description || adapter.device || adapter.vendor || "unknown adapter";
  return [
    `${name} (${[adapter.vendor, adapter.architecture, `provider ${this.provider}`].filter(Boolean).join(", ")})`,
    `  features  subgroups ${features.subgroups || "no"} (size ${subgroupSizes.join("–")}), ` +
    `shader-f16 ${features.shaderF16 ? "yes" : "no"}, timestamp-query ${features.timestampQuery ? "yes" : "no"}, ` +
    `64-bit loads ${features.shaderInt64 ? "yes" : "no"}, subgroup matrices ${matrixNames(features.subgroupMatrix)}`,
    ...Object.entries(limits).map(([limit, value]) => `  limit     ${limit} ${value}`),
    ...this.rungs.map(({ what, chosen, why }) => `  rung      ${what}: ${chosen} (${why})`),
    ...Object.entries(tuning.choices).map(([what, chosen]) => `  tuned     ${what}: ${chosen}`),
    `  tuned     ${tuning.file ? `choices are kept in ${tuning.file}` : "choices are not kept"}`,
    `  memory    ${formatBytes(memory.bytesInUse)} in use, peak ${formatBytes(memory.peakBytes)}`,
  ].join("\n");
}
