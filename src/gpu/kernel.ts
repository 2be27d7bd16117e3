/**
 * WGSL text and constants → cached pipeline → dispatch.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { GpuError, LimitError, throwIfAborted } from "../errors.ts";
import { INCLUDES } from "../shaders/include/mod.ts";
import { assemble, type BindingSlot, bindingSlots } from "./assemble.ts";
import { compileBeside } from "./compile_beside.ts";
import type { Device } from "./device.ts";
import type { PoolBuffer } from "./pool.ts";
import { checkVariant } from "./variants.ts";
import { compileError } from "./wgsl_error.ts";

/** A range of a buffer that a kernel reads or writes; a `Tensor` is one. */
export interface Bindable {
  /** The buffer. */
  readonly buffer: PoolBuffer;
  /** Where the range begins, in bytes, a multiple of `minStorageBufferOffsetAlignment`. */
  readonly byteOffset: number;
  /** How long the range is, in bytes; WGSL's `arrayLength` follows from it. */
  readonly byteLength: number;
}

/** One launch of a kernel. */
export interface Launch {
  /** A range for each variable that the shader declares, by its name there. */
  bindings: Readonly<Record<string, Bindable | undefined>>;
  /** Workgroups: `[n]` of any size is folded into two dimensions (the shader calls `flatGroup`), else `[x, y, z]`. */
  grid: readonly [number] | readonly [number, number, number];
  /** Truth of the shader's `@if` flags. */
  flags?: Readonly<Record<string, boolean>>;
  /** Values of the shader's `@const` lines: tile sizes, lengths of private arrays. */
  consts?: Readonly<Record<string, number>>;
  /** Values of the shader's `override` constants: what the model fixes. */
  overrides?: Readonly<Record<string, number>>;
}

/** A kernel that knows its shader; call it to record a launch. */
export interface Kernel {
  (device: Device, launch: Launch): void;
  /** The kernel's name: its `.wgsl` file without the ending. */
  readonly kernelName: string;
  /** Its WGSL as it lies in the file. */
  readonly source: string;
}

/** What a pipeline is compiled from. */
export interface KernelVariant extends Pick<Launch, "flags" | "consts" | "overrides"> {
  /** The kernel. */
  readonly name: string;
  /** The kernel with its flags and constants. */
  readonly key: string;
  /** Its WGSL as it lies in the file. */
  readonly source: string;
}

/** How {@linkcode KernelCache.compile} compiles. */
export interface KernelCompileOptions {
  /** Stops it. */
  signal?: AbortSignal;
  /** What else uses the device by then, as loading does: a device that compiles for seconds would hold it up. */
  meanwhile?: Promise<unknown>;
}

interface Compiled {
  pipeline: GPUComputePipeline;
  layout: GPUBindGroupLayout;
  slots: BindingSlot[];
  name: string;
}

const MAX_BIND_GROUPS = 4096; // of each generation
const DUMMY_BYTES = 4096; // no shader declares a longer array of fixed size
const registry = new Map<string, Kernel>();

/** All kernels that have been declared, by name: what the variants test walks. */
export function kernels(): ReadonlyMap<string, Kernel> {
  return registry;
}

/** Declares the kernel of `src/shaders/NAME.wgsl`. */
export function kernel(name: string, source: string): Kernel {
  const launch = (device: Device, what: Launch) => device.kernels.launch(name, source, what);
  const declared = Object.assign(launch, { kernelName: name, source });
  registry.set(name, declared);
  return declared;
}

/** The pipelines and bind groups of one device. */
export class KernelCache {
  /** Pipelines and bind groups created so far. */
  readonly counters = { pipelines: 0, bindGroups: 0 };
  /** Called before a pipeline is compiled. */
  onCompile: ((name: string, count: number) => void) | undefined;
  readonly #device: Device;
  readonly #pipelines = new Map<string, Compiled>();
  #groups = new Map<string, GPUBindGroup>();
  #olderGroups = new Map<string, GPUBindGroup>();
  #collected: Map<string, KernelVariant> | undefined;

  /** The cache of `device`. */
  constructor(device: Device) {
    this.#device = device;
  }

  /** Records one launch, compiling its variant if this is the first of its kind. */
  launch(name: string, source: string, launch: Launch): void {
    const limit = this.#device.limits.maxComputeWorkgroupsPerDimension;
    const [x, y, z] = launch.grid.length === 1 ? fold(launch.grid[0], limit) : launch.grid;
    if (x * y * z === 0) return;
    if (!(Math.max(x, y, z) <= limit)) {
      throw new LimitError(
        `Cannot run ${name} as a grid must be at most ${limit} workgroups a side: current grid is ${x} × ${y} × ${z}`,
      );
    }
    const { flags, consts, overrides } = launch;
    const variant: KernelVariant = { name, key: keyOf(name, launch), source, flags, consts, overrides };
    if (this.#collected) return void this.#collected.set(variant.key, variant);
    const compiled = this.#compiled(variant);
    const group = this.#group(compiled, launch.bindings);
    this.#device.stream.record({ kind: "dispatch", name: compiled.name, pipeline: compiled.pipeline, group, x, y, z });
  }

  /**
   * Runs `fn` without its kernels, and returns what they are, in order of first use, but for those that are compiled
   * already. Buffers are made and written, so `fn` must be one that may run without results.
   */
  collect(fn: () => void): KernelVariant[] {
    const outer = this.#collected;
    const found = this.#collected = new Map<string, KernelVariant>();
    try {
      fn();
    } finally {
      this.#collected = outer;
    }
    return [...found.values()].filter(({ key }) => !this.#pipelines.has(key));
  }

  /**
   * Compiles `variants` ahead of their first launch: side by side where WebGPU does so, else one after the other, letting
   * the event loop turn in between.
   *
   * @throws {AbortError} if `options.signal` fires
   */
  async compile(variants: readonly KernelVariant[], options: KernelCompileOptions = {}): Promise<void> {
    const { provider, isCpu } = this.#device, { signal } = options;
    throwIfAborted(signal, "compiling kernels");
    if (provider === "dawn") return void await Promise.all(variants.map((v) => this.#compileAside(v)));
    if (isCpu && await compileBeside(this.#device, variants, options)) return;
    for (const variant of variants) {
      throwIfAborted(signal, "compiling kernels");
      this.prepare(variant);
      await setImmediate();
    }
    if (isCpu) this.launchNothing(variants);
  }

  /** Makes the pipeline of `variant`, unless it is there. */
  prepare(variant: KernelVariant): void {
    this.#compiled(variant);
  }

  /** Launches no workgroup of each of `variants`: a driver on the CPU compiles at the first launch, not before. */
  launchNothing(variants: readonly KernelVariant[]): void {
    const { pool, gpu, guard, stream } = this.#device;
    for (const variant of variants) {
      const { pipeline, layout, slots, name } = this.#compiled(variant);
      const buffers = slots.map(() => pool.acquire(DUMMY_BYTES, "a kernel's first launch"));
      const entries = slots.map(({ index }, i) => ({ binding: index, resource: { buffer: buffers[i]!.gpu } }));
      const group = guard.call(`bind the buffers of ${name}`, () => gpu.createBindGroup({ layout, entries }));
      stream.record({ kind: "dispatch", name, pipeline, group, x: 0, y: 1, z: 1 });
      for (const buffer of buffers) pool.release(buffer);
    }
    stream.flush();
  }

  #compiled(variant: KernelVariant): Compiled {
    const known = this.#pipelines.get(variant.key);
    if (known) return known;
    const { gpu, guard } = this.#device, what = `compile the kernel ${variant.key}`;
    const compiled = this.#build(variant, (given) => guard.call(what, () => gpu.createComputePipeline(given)));
    this.#pipelines.set(variant.key, compiled);
    return compiled;
  }

  async #compileAside(variant: KernelVariant): Promise<void> {
    const { gpu, guard } = this.#device, { key } = variant;
    const { pipeline, ...rest } = this.#build(variant, (descriptor) => {
      return guard.call(`compile the kernel ${key}`, () => gpu.createComputePipelineAsync(descriptor));
    });
    const right = pipeline.catch(async (cause) => {
      await guard.check(); // a shader that does not compile is told with its line
      throw cause;
    });
    const done = await guard.race(right, `the kernel ${key}`);
    if (!this.#pipelines.has(key)) this.#pipelines.set(key, { ...rest, pipeline: done });
  }

  /** Everything of a variant but its pipeline, which `create` makes of the descriptor. */
  #build<T>({ name, key, source, ...launch }: KernelVariant, create: (descriptor: GPUComputePipelineDescriptor) => T) {
    const { gpu, guard, features } = this.#device;
    checkVariant(name, source, launch);
    this.counters.pipelines++;
    this.onCompile?.(key, this.counters.pipelines);
    const header = features.subgroups === "enable" && launch.flags?.SUBGROUPS ? ["enable subgroups;"] : [];
    const assembled = assemble(`${name}.wgsl`, source, INCLUDES, {
      ...launch,
      flags: { ...launch.flags, INT64: features.shaderInt64 },
      header,
    });
    const slots = bindingSlots(assembled.code);
    const most = this.#device.limits.maxStorageBuffersPerShaderStage;
    const storage = slots.filter(({ type }) => type !== "uniform").length;
    if (storage > most) {
      throw new LimitError(
        `Cannot run ${name} as a kernel must bind at most ${most} buffers here: it binds ${storage}`,
      );
    }
    const entries = slots.map(({ index, type }) => ({ binding: index, visibility: 0x4, buffer: { type } }));
    return guard.call(`compile the kernel ${key}`, () => {
      let module: GPUShaderModule | undefined;
      gpu.pushErrorScope("validation");
      try {
        module = gpu.createShaderModule({ code: assembled.code, label: key });
        const layout = gpu.createBindGroupLayout({ entries });
        const pipeline = create({
          label: key,
          layout: gpu.createPipelineLayout({ bindGroupLayouts: [layout] }),
          compute: { module, entryPoint: "main", constants: { ...launch.overrides } },
        });
        return { pipeline, layout, slots, name: key };
      } finally {
        guard.track(
          gpu.popErrorScope().then(async (error) => {
            if (error) throw compileError(key, (await module?.getCompilationInfo())?.messages ?? [], assembled, error);
          }),
        );
      }
    });
  }

  #group({ layout, slots, name }: Compiled, bindings: Launch["bindings"]): GPUBindGroup {
    let key = name;
    for (const slot of slots) {
      const b = bindings[slot.name];
      if (!b) {
        throw new GpuError(`Cannot run ${name} as its shader's variable "${slot.name}" must be bound: nothing came`);
      }
      key += `|${b.buffer.id},${b.byteOffset},${b.byteLength}`;
    }
    const known = this.#groups.get(key);
    if (known) return known;
    const older = this.#olderGroups.get(key);
    if (older) return this.#remember(key, older);
    const { limits, gpu, guard } = this.#device;
    const entries = slots.map((slot) => {
      const { buffer, byteOffset: offset, byteLength } = bindings[slot.name]!;
      const size = Math.max(4, Math.ceil(byteLength / 4) * 4);
      const most = slot.type === "uniform" ? limits.maxUniformBufferBindingSize : limits.maxStorageBufferBindingSize;
      if (size > most) {
        throw new LimitError(
          `Cannot bind ${slot.name} of ${name} as a binding must be at most ${most} bytes: current size is ${size}`,
          { hint: "Use a smaller dtype, or a device with a larger maxStorageBufferBindingSize." },
        );
      }
      return { binding: slot.index, resource: { buffer: buffer.gpu, offset, size } };
    });
    const group = guard.call(`bind the buffers of ${name}`, () => gpu.createBindGroup({ layout, entries }));
    this.counters.bindGroups++;
    return this.#remember(key, group);
  }

  /** Keeps what was used last: of two generations the older one is forgotten when the younger is full. */
  #remember(key: string, group: GPUBindGroup): GPUBindGroup {
    if (this.#groups.size >= MAX_BIND_GROUPS) {
      this.#olderGroups = this.#groups;
      this.#groups = new Map();
    }
    this.#groups.set(key, group);
    return group;
  }
}

function keyOf(name: string, { flags, consts, overrides }: Omit<Launch, "grid" | "bindings">): string {
  let key = name;
  for (const flag in flags) if (flags[flag]) key += ` ${flag}`;
  for (const word in consts) key += ` ${word}=${consts[word]}`;
  for (const word in overrides) key += ` ${word}=${overrides[word]}`;
  return key;
}

/** `n` workgroups as x and y within `limit` a side; the shader's `flatGroup` undoes it and skips what is over. */
function fold(n: number, limit: number): readonly [number, number, number] {
  if (n <= limit) return [n, Math.min(n, 1), 1];
  const y = Math.ceil(n / limit);
  return [Math.ceil(n / y), y, 1];
}
