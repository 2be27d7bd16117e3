/**
 * Opening a GPU device, and everything that belongs to one: guard, pool, stream, kernels.
 *
 * @module
 */
import { GpuError, NotSupportedError, ValueError } from "../errors.ts";
import { Guard } from "./guard.ts";
import { KernelCache } from "./kernel.ts";
import { BufferPool, formatBytes } from "./pool.ts";
import { type DeviceFeatures, type FeatureOptions, probeSubgroups } from "./probe.ts";
import { type DeviceReport, report } from "./report.ts";
import { Stream } from "./stream.ts";

export type { DeviceFeatures, DeviceReport, FeatureOptions };

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
  /** Most bytes of GPU memory to hold at a time. Default: no limit but the device's. */
  memoryBudget?: number;
  /** Milliseconds without an answer after which the GPU counts as hung. Default 30,000. */
  gpuTimeout?: number;
  /** A name for error messages and tools. */
  label?: string;
  /** An existing WebGPU device to use instead of opening one; it is not destroyed at the end. */
  device?: GPUDevice;
}

/** A GPU device with its memory pool, its command stream and its compiled kernels. */
export class Device implements AsyncDisposable {
  /** Catches errors, loss and hangs. */
  readonly guard: Guard;
  /** GPU memory. */
  readonly pool: BufferPool;
  /** The command list. */
  readonly stream: Stream;
  /** Compiled kernels. */
  readonly kernels: KernelCache;
  readonly #owned: boolean;
  #closed = false;

  /** Use {@linkcode openDevice}. */
  constructor(
    /** The WebGPU device. */
    readonly gpu: GPUDevice,
    /** Which implementation it is of. */
    readonly provider: Provider,
    /** What may be used of it. */
    readonly features: DeviceFeatures,
    options: DeviceOptions,
  ) {
    this.guard = new Guard(gpu, options.gpuTimeout ?? 30_000);
    this.pool = new BufferPool(gpu, this.guard, options.memoryBudget ?? Infinity);
    this.stream = new Stream(gpu, this.guard, this.pool);
    this.kernels = new KernelCache(this);
    this.#owned = options.device === undefined;
  }

  /** The device's limits. */
  get limits(): GPUSupportedLimits {
    return this.gpu.limits;
  }

  /** The adapter's description. */
  get info(): GPUAdapterInfo {
    return this.gpu.adapterInfo;
  }

  /** Whether the "GPU" is a program on the CPU (lavapipe, SwiftShader): barriers and workgroup memory cost it more. */
  get isCpu(): boolean {
    return /llvmpipe|swiftshader/i.test(`${this.info.description} ${this.info.device} ${this.info.architecture}`);
  }

  /** What the device is, has and chose, and why. */
  explain(): DeviceReport {
    return report(this);
  }

  /** Resolves when all work submitted so far is done and right; throws the device's first error otherwise. */
  synchronize(): Promise<void> {
    return this.stream.synchronize();
  }

  /** Gives everything back. Work still pending fails with {@linkcode DeviceLostError}. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.guard.close();
    this.stream.destroy();
    this.pool.destroy();
    if (this.#owned) this.gpu.destroy();
  }

  /** As {@linkcode close}: `await using device = await openDevice()`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }
}

/**
 * Opens a GPU device with the adapter's own limits and the features that the kernels can use.
 *
 * @throws {GpuError} if there is no adapter, or it refuses the device
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
  const provider = options.provider ?? "deno";
  const gpu = options.device ?? await requestDevice(provider, options);
  const features: DeviceFeatures = {
    subgroups: options.features?.subgroups === false ? false : await probeSubgroups(gpu),
    shaderF16: options.features?.shaderF16 !== false && gpu.features.has("shader-f16"),
    timestampQuery: options.features?.timestampQuery !== false && gpu.features.has("timestamp-query"),
  };
  for (const name of ["subgroups", "shaderF16", "timestampQuery"] as const) {
    if (options.features?.[name] === true && !features[name]) {
      if (!options.device) gpu.destroy();
      throw new NotSupportedError(`Cannot open a device as the adapter must have ${name}: ${describe(gpu)} has not`);
    }
  }
  return new Device(gpu, provider, features, options);
}

async function requestDevice(provider: Provider, options: DeviceOptions): Promise<GPUDevice> {
  const api = provider === "dawn" ? await dawn() : navigator.gpu;
  const request = { powerPreference: options.powerPreference };
  const adapter = await api?.requestAdapter(request);
  if (!adapter) throw noAdapter(provider);
  const requiredLimits: Record<string, number> = {};
  for (const name in adapter.limits) {
    const value = adapter.limits[name as keyof GPUSupportedLimits];
    if (typeof value === "number") requiredLimits[name] = value;
  }
  const wanted = (["shader-f16", "timestamp-query"] as GPUFeatureName[]).filter((name) => adapter.features.has(name));
  try { // Deno hides "subgroups" from adapter.features but grants it, so ask first and see
    return await adapter.requestDevice({
      label: options.label,
      requiredLimits,
      requiredFeatures: [...wanted, "subgroups" as GPUFeatureName],
    });
  } catch {
    const fresh = await api!.requestAdapter(request) ?? adapter; // an adapter may be used once
    try {
      return await fresh.requestDevice({ label: options.label, requiredLimits, requiredFeatures: wanted });
    } catch (cause) {
      throw new GpuError(`Cannot open a GPU device as ${describe(adapter)} refused: ${(cause as Error).message}`, {
        cause,
      });
    }
  }
}

/** Dawn crashes if its objects are collected: they are kept on `globalThis` for the life of the process. */
async function dawn(): Promise<GPU> {
  const kept = globalThis as typeof globalThis & { tensaurDawn?: GPU };
  if (!kept.tensaurDawn) {
    const { create, globals } = await import("webgpu");
    Object.assign(globalThis, globals);
    kept.tensaurDawn = create([]) as GPU;
  }
  return kept.tensaurDawn;
}

function noAdapter(provider: Provider): GpuError {
  return new GpuError(
    `Cannot open a GPU device as a WebGPU adapter must be there: ${provider} found none`,
    { hint: "Install a Vulkan driver (Debian: mesa-vulkan-drivers), or run ./tensaur doctor." },
  );
}

function describe(
  { adapterInfo: info, limits }: { adapterInfo?: GPUAdapterInfo; info?: GPUAdapterInfo; limits: GPUSupportedLimits },
) {
  return `${info?.description || info?.vendor || "the adapter"} (buffers up to ${formatBytes(limits.maxBufferSize)})`;
}
