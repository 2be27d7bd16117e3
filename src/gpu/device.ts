/**
 * Opening a GPU device, and everything that belongs to one: guard, pool, stream, kernels.
 *
 * @module
 */
import { GpuError, ValueError } from "../errors.ts";
import { calmDawn } from "./dawn_ticks.ts";
import { Guard } from "./guard.ts";
import { KernelCache } from "./kernel.ts";
import { BufferPool } from "./pool.ts";
import {
  describe,
  type DeviceFeatures,
  type FeatureOptions,
  isProgram,
  SHADER_INT64,
  usableFeatures,
} from "./probe.ts";
import { listedMatrices, SUBGROUP_MATRIX, type SubgroupMatrices, type SubgroupMatrix } from "./probe_matrix.ts";
import { type DeviceReport, report } from "./report.ts";
import { Stream } from "./stream.ts";
import { Tuning } from "./tuning.ts";
import { defaultTuningFile } from "./tuning_store.ts";

export type { DeviceFeatures, DeviceReport, FeatureOptions, SubgroupMatrices, SubgroupMatrix };

/** Where the WebGPU implementation comes from: Deno's own (wgpu), or `npm:webgpu` (Dawn). */
export type Provider = "deno" | "dawn";

/** What {@linkcode openDevice} takes. */
export interface DeviceOptions {
  /** The WebGPU implementation. Default "deno", which is `navigator.gpu`. */
  provider?: Provider;
  /** Which GPU, where there are several. */
  powerPreference?: GPUPowerPreference;
  /** Features to leave out, or to insist on; a feature not named is used where the adapter has it. */
  features?: FeatureOptions;
  /**
   * Most bytes of GPU memory to hold at a time. Default: no limit but the device's. What results are read through is the
   * host's and not counted: as much as is being read, and up to 64 MiB kept for the next reads.
   */
  memoryBudget?: number;
  /** Milliseconds without an answer after which the GPU counts as hung. Default 30,000. */
  gpuTimeout?: number;
  /** A name for error messages and tools. */
  label?: string;
  /** Where tuning choices are kept; null for nowhere. Default: `tensaur/tuning.json` in the user's cache folder. */
  tuningFile?: string | null;
  /** An existing WebGPU device to use instead of opening one; it is not destroyed at the end. */
  device?: GPUDevice;
}

/** A GPU device with its memory pool, its command stream and its compiled kernels. */
export class Device implements AsyncDisposable {
  /** The device's limits. */
  readonly limits: GPUSupportedLimits;
  /** Whether the "GPU" is a program on the CPU (lavapipe, SwiftShader): barriers and workgroup memory cost it more. */
  readonly isCpu: boolean;
  /** GPU memory. */
  readonly pool: BufferPool;
  /** The command list. */
  readonly stream: Stream;
  /** Compiled kernels. */
  readonly kernels: KernelCache;
  /** Choices between kernels that were measured. */
  readonly tuning: Tuning;
  readonly #owned: boolean;
  readonly #options: DeviceOptions;
  #closed = false;

  /** Use {@linkcode openDevice}. */
  constructor(
    /** The WebGPU device. */
    readonly gpu: GPUDevice,
    /** Which implementation it is of. */
    readonly provider: Provider,
    /** What may be used of it. */
    readonly features: DeviceFeatures,
    /** Catches errors, loss and hangs. */
    readonly guard: Guard,
    options: DeviceOptions,
  ) {
    this.limits = numbers(gpu.limits) as unknown as GPUSupportedLimits;
    this.isCpu = isProgram(this.info);
    this.pool = new BufferPool(gpu, this.guard, options.memoryBudget ?? Infinity);
    this.stream = new Stream(gpu, this.guard, this.pool, provider === "deno");
    this.kernels = new KernelCache(this);
    const { tuningFile = defaultTuningFile() } = options;
    this.tuning = new Tuning(this, tuningFile ?? undefined);
    this.#owned = options.device === undefined;
    this.#options = options;
  }

  /** The adapter's description. */
  get info(): GPUAdapterInfo {
    return this.gpu.adapterInfo;
  }

  /** What the device is, has and chose, and why. */
  explain(): DeviceReport {
    return report(this);
  }

  /** Opens another device like this one; nothing where this one was handed in, as others may differ from it. */
  async openAnother(): Promise<Device | undefined> {
    return this.#owned ? await openDevice({ ...this.#options, tuningFile: null }) : undefined;
  }

  /** Resolves when all work submitted so far is done and right; throws the device's first error otherwise. */
  synchronize(): Promise<void> {
    return this.stream.synchronize();
  }

  /** Gives everything back. Work still pending fails with {@linkcode DeviceLostError}. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.guard.close(!this.#owned);
    this.stream.destroy();
    this.pool.destroy();
    if (this.#owned) this.gpu.destroy();
  }

  /** As {@linkcode close}, and waits until the device is gone: `await using device = await openDevice()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    if (this.#owned) await this.gpu.lost;
    await this.stream.settled();
    await new Promise((resolve) => setTimeout(resolve)); // Dawn aborts if its last promises are dropped unsettled
  }
}

/**
 * Opens a GPU device with the adapter's own limits and the features that the kernels can use.
 *
 * @throws {GpuError} if there is no adapter, or it refuses the device, or the driver hangs
 * @throws {NotSupportedError} if a feature that `options.features` insists on is not there
 *
 * @example
 * ```ts
 * import { openDevice } from "@tensaur/tensaur";
 * await using device = await openDevice({ memoryBudget: 2 ** 30 });
 * console.log(`${device.explain()}`);
 * ```
 */
export async function openDevice(options: DeviceOptions = {}): Promise<Device> {
  if (options.memoryBudget !== undefined && !(options.memoryBudget > 0)) {
    throw new ValueError(
      `Cannot open a device as memoryBudget must be a positive number of bytes: current value is ${options.memoryBudget}`,
    );
  }
  const timeout = options.gpuTimeout ?? 30_000;
  if (!(timeout > 0)) {
    throw new ValueError(
      `Cannot open a device as gpuTimeout must be a positive number of milliseconds: current value is ${timeout}`,
    );
  }
  const provider = options.provider ?? "deno";
  const { gpu, info } = options.device
    ? { gpu: options.device, info: options.device.adapterInfo }
    : await inTime(requestDevice(provider, options), timeout);
  const guard = new Guard(gpu, timeout);
  try {
    const features = await usableFeatures(gpu, guard, listedMatrices(info), options.features);
    return new Device(gpu, provider, features, guard, options);
  } catch (error) {
    guard.close(options.device !== undefined);
    if (!options.device) gpu.destroy();
    throw error;
  }
}

/** A device, and what its adapter says of itself: Dawn's device says less. */
interface Opened {
  gpu: GPUDevice;
  info: GPUAdapterInfo;
}

/** `opening`, or an error after `timeout` ms: a driver that hangs says nothing. */
async function inTime(opening: Promise<Opened>, timeout: number): Promise<Opened> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new GpuError(`Cannot open a GPU device as the driver must answer within ${timeout} ms: it did not`, {
      hint: "Raise gpuTimeout, or restart the machine's GPU driver.",
    });
    timer = setTimeout(() => reject(error), timeout);
  });
  try {
    return await Promise.race([opening, late]);
  } catch (error) {
    opening.then(({ gpu }) => gpu.destroy(), () => {}); // if it comes after all
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function requestDevice(provider: Provider, options: DeviceOptions): Promise<Opened> {
  const api = provider === "dawn" ? await dawn() : navigator.gpu;
  const request = { powerPreference: options.powerPreference };
  const pin = <T>(object: T): T => (provider === "dawn" && pinned.tensaurDawn?.objects.push(object), object);
  const adapter = pin(await api?.requestAdapter(request));
  if (!adapter) throw noAdapter(provider);
  const requiredLimits = numbers(adapter.limits);
  const wanted = (["shader-f16", "timestamp-query"] as GPUFeatureName[]).filter((name) => adapter.features.has(name));
  const matrices = options.features?.subgroupMatrix ?? !isProgram(adapter.info);
  const tried = [ // Deno hides features from adapter.features but grants them: ask and see
    "subgroups" as GPUFeatureName,
    ...matrices && adapter.features.has(SUBGROUP_MATRIX) ? [SUBGROUP_MATRIX] : [],
    ...isProgram(adapter.info) ? [SHADER_INT64] : [],
  ];
  for (let count = tried.length;; count--) {
    const requiredFeatures = [...wanted, ...tried.slice(0, count)];
    const fresh = count === tried.length ? adapter : pin(await api!.requestAdapter(request)) ?? adapter; // one is used once
    try {
      const gpu = pin(await fresh.requestDevice({ label: options.label, requiredLimits, requiredFeatures }));
      return { gpu, info: adapter.info };
    } catch (cause) {
      if (count > 0) continue;
      throw new GpuError(`Cannot open a GPU device as ${describe(adapter)} refused: ${(cause as Error).message}`, {
        cause,
      });
    }
  }
}

/** Dawn crashes if its objects are collected: gpu, adapters and devices are kept for the life of the process. */
const pinned = globalThis as typeof globalThis & { tensaurDawn?: { gpu: GPU; objects: unknown[] } };

const WEBGPU = "npm:webgpu@0.6.2"; // not an import that Deno sees before: 130 MB that few need

async function webgpuPackage(): Promise<typeof import("webgpu")> {
  try {
    return await import(WEBGPU);
  } catch (cause) {
    throw new GpuError(
      `Cannot open a GPU device as the package webgpu, which is Dawn, must load: current answer is ${
        (cause as Error).message
      }`,
      {
        cause,
        hint: 'Run once with access to the npm registry, and with --allow-ffi; the provider "deno" needs neither.',
      },
    );
  }
}

async function dawn(): Promise<GPU> {
  if (!pinned.tensaurDawn) {
    const { create } = await webgpuPackage();
    calmDawn();
    const toggles = ["disable-dawn-features=timestamp_quantization", "enable-dawn-features=allow_unsafe_apis"];
    const gpu = create(toggles) as GPU; // unsafe: subgroup matrices, which only a device that asks for them has
    pinned.tensaurDawn = { gpu, objects: [] };
  }
  return pinned.tensaurDawn.gpu;
}

/** A copy: on the native object each look at a limit is a call. */
function numbers(limits: GPUSupportedLimits): Record<string, number> {
  const copy: Record<string, number> = {};
  for (const name in limits) {
    const value = limits[name as keyof GPUSupportedLimits];
    if (typeof value === "number") copy[name] = value;
  }
  return copy;
}

function noAdapter(provider: Provider): GpuError {
  return new GpuError(
    `Cannot open a GPU device as a WebGPU adapter must be there: ${provider} found none`,
    { hint: "Install a Vulkan driver (Debian: mesa-vulkan-drivers), or run ./tensaur doctor." },
  );
}
