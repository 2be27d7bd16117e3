/**
 * A GPUDevice that counts its calls and makes the Nth of a kind go wrong, for `openDevice({ device })`.
 *
 * Device, queue, encoders and buffers are proxies around the real ones; what is passed to a real call is unwrapped.
 */

/** Calls that are counted and can fail. */
export const KINDS = [
  "createBuffer",
  "createBindGroup",
  "createShaderModule",
  "createComputePipeline",
  "createComputePipelineAsync", // on Dawn alone: wgpu compiles in the call all the same
  "createCommandEncoder",
  "finish",
  "submit",
  "writeBuffer",
  "mapAsync",
  "getMappedRange",
  "popErrorScope",
] as const;
export type Kind = typeof KINDS[number];

/**
 * What goes wrong: `throws` (a promise rejects), `invalid` (the real call with broken arguments, so an invalid object
 * and a real error), `validation` and `out-of-memory` (the error scope gets an error, and what the call should do is not
 * done), `hangs` (the promise never settles), `lost` (the device is destroyed).
 */
export type Fault = "throws" | "invalid" | "validation" | "out-of-memory" | "hangs" | "lost";

/** The faults that make sense for each kind of call. */
export function faultsOf(kind: Kind): readonly Fault[] {
  if (kind === "getMappedRange") return ["throws", "lost"];
  if (kind === "mapAsync" || kind === "popErrorScope") return ["throws", "hangs", "lost"];
  if (kind === "createComputePipelineAsync") return ["throws", "hangs", "invalid", "lost"];
  return ["throws", "invalid", "validation", "out-of-memory", "lost"];
}

/** Which call fails, and how. */
export interface Plan {
  kind: Kind;
  /** From 1. */
  nth: number;
  fault: Fault;
}

interface Scope {
  filter: GPUErrorFilter;
  error?: GPUError;
}

// deno-lint-ignore no-explicit-any -- whatever a WebGPU method takes
type Method = (...args: any[]) => unknown;

const pipelines = new WeakMap<GPUDevice, Map<string, unknown>>();

/** The proxy, with what it has counted. */
export class FaultyDevice {
  /** What `openDevice` is given. */
  readonly gpu: GPUDevice;
  /** Calls so far, by kind. */
  readonly counts: Record<Kind, number>;
  /** Buffers created and not destroyed. */
  readonly buffers = new Set<GPUBuffer>();
  /** Whether the planned call has come. */
  fired = false;
  readonly #real: GPUDevice;
  readonly #plan: Plan | undefined;
  readonly #raw = new WeakMap<object, object>();
  readonly #scopes: Scope[] = [];

  /** Wraps `real`; `limits` replace the device's own, to test what is refused at them. */
  constructor(real: GPUDevice, plan?: Plan, limits: Partial<Record<keyof GPUSupportedLimits, number>> = {}) {
    this.#real = real;
    this.#plan = plan;
    this.counts = Object.fromEntries(KINDS.map((kind) => [kind, 0])) as Record<Kind, number>;
    const queue = this.#wrap(real.queue, {});
    const own: Record<string, number> = {};
    for (const name in real.limits) own[name] = real.limits[name as keyof GPUSupportedLimits] as number;
    this.gpu = this.#wrap(real, { queue, limits: { ...own, ...limits } });
  }

  /** A proxy of `target` whose methods are counted, whose results are wrapped, and which shows `shown` instead. */
  #wrap<T extends object>(target: T, shown: Record<string, unknown>): T {
    const proxy = new Proxy(target, {
      get: (_, name) => {
        if (typeof name === "string" && name in shown) return shown[name];
        const value = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        return (...args: unknown[]) => this.#call(target, name as string, value as Method, args);
      },
    });
    this.#raw.set(proxy, target);
    return proxy;
  }

  #call(target: object, name: string, method: Method, wrapped: unknown[]): unknown {
    const args = wrapped.map((arg) => this.#unwrap(arg));
    const real = (...given: unknown[]) => method.apply(target, given);
    if (name === "destroy") this.buffers.delete(target as GPUBuffer);
    if (name === "pushErrorScope") this.#scopes.push({ filter: args[0] as GPUErrorFilter });
    if (name in this.counts) {
      const kind = name as Kind;
      const nth = ++this.counts[kind];
      const plan = this.#plan;
      if (plan?.kind === kind && plan.nth === nth) {
        this.fired = true;
        return this.#fail(plan, target, real, args);
      }
      if (kind === "popErrorScope") return this.#pop(real);
    }
    if (name === "createComputePipeline") return this.#pipeline(args[0] as GPUComputePipelineDescriptor, real);
    return this.#result(name, real(...args));
  }

  /** Pipelines are compiled once a real device: a sweep makes the same ones in every run. */
  #pipeline(descriptor: GPUComputePipelineDescriptor, real: Method): unknown {
    const made = pipelines.get(this.#real) ?? new Map<string, unknown>();
    pipelines.set(this.#real, made);
    const key = `${descriptor.label} ${JSON.stringify(descriptor.compute.constants)}`;
    const pipeline = made.get(key) ?? real(descriptor);
    if (!this.fired) made.set(key, pipeline);
    return pipeline;
  }

  #result(name: string, result: unknown): unknown {
    if (name === "createBuffer") {
      this.buffers.add(result as GPUBuffer);
      return this.#wrap(result as GPUBuffer, {});
    }
    return name === "createCommandEncoder" ? this.#wrap(result as GPUCommandEncoder, {}) : result;
  }

  #fail({ kind, nth, fault }: Plan, target: object, real: Method, args: unknown[]): unknown {
    const injected = new DOMException(`fault injected into ${kind} ${nth}`, "OperationError");
    const promised = ["mapAsync", "popErrorScope", "createComputePipelineAsync"].includes(kind);
    switch (fault) {
      case "throws":
        if (kind === "popErrorScope") this.#scopes.pop();
        if (promised) return Promise.reject(injected);
        throw injected;
      case "hangs":
        return new Promise(() => {});
      case "lost":
        this.#real.destroy();
        return kind === "popErrorScope" ? this.#pop(real) : this.#result(kind, real(...args));
      case "invalid":
        return this.#result(kind, this.#broken(kind, target, real, args));
      case "validation":
      case "out-of-memory":
        this.#inject(fault, injected.message);
        if (kind === "submit" || kind === "writeBuffer") return; // the work is not done
        return this.#result(kind, fault === "validation" ? real(...args) : this.#broken(kind, target, real, args));
    }
  }

  /** The real call, made wrong in a way that both wgpu and Dawn answer with an invalid object and an error. */
  #broken(kind: Kind, target: object, real: Method, [first, ...rest]: unknown[]): unknown {
    const descriptor = first as Record<string, unknown>;
    const misaligned = (encoder: GPUCommandEncoder) => {
      const buffer = this.#real.createBuffer({ size: 64, usage: 0xc });
      encoder.copyBufferToBuffer(buffer, 0, buffer, 2, 6);
      buffer.destroy();
    };
    switch (kind) {
      case "createBuffer":
        return real({ ...descriptor, usage: 0x3 }); // MAP_READ with MAP_WRITE is refused
      case "createBindGroup":
        return real({ ...descriptor, entries: [] });
      case "createShaderModule":
        return real({ ...descriptor, code: "this is not WGSL" });
      case "createComputePipeline":
      case "createComputePipelineAsync":
        return real({ ...descriptor, compute: { ...descriptor.compute as object, entryPoint: "nowhere" } });
      case "createCommandEncoder": {
        const encoder = real(first) as GPUCommandEncoder;
        misaligned(encoder);
        return encoder;
      }
      case "finish":
        misaligned(target as GPUCommandEncoder);
        return real();
      case "submit": {
        const encoder = this.#real.createCommandEncoder();
        misaligned(encoder);
        return real([encoder.finish()]);
      }
      case "writeBuffer":
        return real(first, 2 ** 40, ...rest.slice(1));
      default:
        return real(first, ...rest);
    }
  }

  #inject(filter: "validation" | "out-of-memory", text: string): void {
    const error = filter === "validation" ? new GPUValidationError(text) : new GPUOutOfMemoryError(text);
    const scope = this.#scopes.findLast((s) => s.filter === filter);
    if (!scope) throw new Error(`no ${filter} scope is open`);
    scope.error ??= error;
  }

  async #pop(real: Method): Promise<GPUError | null> {
    const scope = this.#scopes.pop();
    const found = await (real() as Promise<GPUError | null>);
    return scope?.error ?? found;
  }

  /** Proxies inside `value` replaced by what they stand for. */
  #unwrap(value: unknown): unknown {
    if (typeof value !== "object" || value === null) return value;
    const raw = this.#raw.get(value);
    if (raw) return raw;
    if (Array.isArray(value)) return value.map((item) => this.#unwrap(item));
    if (Object.getPrototypeOf(value) !== Object.prototype) return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.#unwrap(item)]));
  }
}
