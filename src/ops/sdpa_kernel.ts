/**
 * Which attention kernels may run: PyTorch's `sdpa_kernel`.
 *
 * @module
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { RuntimeError, ValueError } from "../errors.ts";
import { warnOnce } from "../warn.ts";

/** The kernels of attention, as PyTorch names them. */
export type AttentionBackend = "flash" | "efficient" | "math";

/** All of them, the first choice first. */
export const BACKENDS: readonly AttentionBackend[] = ["flash", "efficient", "math"];

/** The kernels by PyTorch's longer names. */
export const SDPBackend = {
  /** Unfused; the reference. */
  MATH: "math",
  /** Tiled, keys and values in 16 bits. */
  FLASH_ATTENTION: "flash",
  /** Tiled, float32, with any bias. */
  EFFICIENT_ATTENTION: "efficient",
  /** NVIDIA's own; known by name, and never there on WebGPU. */
  CUDNN_ATTENTION: "cudnn",
} as const;

/** A kernel's name, as here or as PyTorch has it. */
export type SdpBackendName = keyof typeof SDPBackend | typeof SDPBackend[keyof typeof SDPBackend];

/** The older spelling of {@linkcode sdpaKernel}'s list; each defaults to true. */
export interface SdpKernelOptions {
  /** Whether "flash" may run. */
  enableFlash?: boolean;
  /** Whether "math" may run. */
  enableMath?: boolean;
  /** Whether "efficient" may run. */
  enableMemEfficient?: boolean;
  /** Changes nothing: there is no cuDNN on WebGPU. */
  enableCudnn?: boolean;
}

/** One kernel, several, or a switch for each. */
export type SdpBackends = SdpBackendName | readonly SdpBackendName[] | SdpKernelOptions;

interface Frame {
  backends: readonly AttentionBackend[];
  outer?: Frame;
  left: boolean;
}

const current = new AsyncLocalStorage<Frame | undefined>();

/** The kernels that may run here, the first choice first. */
export function enabledBackends(): readonly AttentionBackend[] {
  return frame()?.backends ?? BACKENDS;
}

/**
 * Restricts which attention kernels may run inside `fn`, and in all that it awaits; two that run at the same time do not
 * see each other. Nests: the innermost counts.
 *
 * @param backends "flash", "efficient" or "math" (or PyTorch's names, {@linkcode SDPBackend}), a list of them, or switches
 * @param fn what runs with the restriction
 * @returns what `fn` returns
 * @throws {ValueError} if a name is not known
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { scaledDotProductAttention, sdpaKernel } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using x = tensor(device, [1, 2, 3, 4], [1, 2, 2]);
 * using y = sdpaKernel("math", () => scaledDotProductAttention(x, x, x));
 * console.log(y.shape); // [1, 2, 2]
 * ```
 */
export function sdpaKernel<T>(backends: SdpBackends, fn: () => T): T;
/**
 * Restricts which attention kernels may run until the end of the block: `using _ = sdpaKernel(["flash", "math"])`. In an
 * async function the block may await; prefer the form with a function where several run at the same time.
 */
export function sdpaKernel(backends: SdpBackends): Disposable;
export function sdpaKernel<T>(backends: SdpBackends, fn?: () => T): T | Disposable {
  const inner: Frame = { backends: parse(backends), outer: frame(), left: false };
  if (fn) return current.run(inner, fn);
  current.enterWith(inner);
  return {
    [Symbol.dispose]() {
      inner.left = true; // whoever started in between also sees that it is over
      current.enterWith(frame());
    },
  };
}

/** The older name of {@linkcode sdpaKernel}: warns once. */
export function sdpKernel<T>(options: SdpKernelOptions, fn: () => T): T;
/** The same until the end of a block. */
export function sdpKernel(options?: SdpKernelOptions): Disposable;
export function sdpKernel<T>(options: SdpKernelOptions = {}, fn?: () => T): T | Disposable {
  warnOnce("FutureWarning", "`sdpKernel()` is deprecated. Please use `sdpaKernel()` instead.");
  return fn ? sdpaKernel(options, fn) : sdpaKernel(options);
}

/** Why each kernel was refused. */
export type Refusals = Readonly<Record<AttentionBackend, readonly string[]>>;

const TITLES: Readonly<Record<AttentionBackend, string>> = {
  flash: "Flash attention",
  efficient: "Memory efficient",
  math: "Math",
};

/** The error where no kernel is left: each, and why it was refused. */
export function noKernel(refusals: Refusals): RuntimeError {
  const lines = BACKENDS.map((name) => `  ${TITLES[name]} kernel not used because: ${refusals[name].join(" ")}`);
  return new RuntimeError(`No available kernel. Aborting execution.\n${lines.join("\n")}`, {
    hint: "Allow another kernel: the math kernel takes everything.",
  });
}

function frame(): Frame | undefined {
  let found = current.getStore();
  while (found?.left) found = found.outer;
  return found;
}

function parse(backends: SdpBackends): AttentionBackend[] {
  if (typeof backends === "string") return named([backends]);
  if (Array.isArray(backends)) return named(backends);
  const { enableFlash, enableMath, enableMemEfficient, enableCudnn, ...rest } = backends as SdpKernelOptions;
  const [unknown] = Object.keys(rest);
  const wrong = Object.entries({ enableFlash, enableMath, enableMemEfficient, enableCudnn })
    .find(([, value]) => value !== undefined && typeof value !== "boolean");
  if (unknown !== undefined || wrong) {
    throw new ValueError(
      "Cannot choose attention kernels as the switches must be enableFlash, enableMath and enableMemEfficient, each true " +
        `or false: current value is ${unknown ?? wrong?.join(" ")}`,
    );
  }
  const switches = { flash: enableFlash, efficient: enableMemEfficient, math: enableMath };
  return BACKENDS.filter((name) => switches[name] ?? true);
}

function named(names: readonly SdpBackendName[]): AttentionBackend[] {
  const wanted = names.map((name) => {
    const known = Object.entries(SDPBackend).find((pair) => pair.includes(name));
    if (known) return known[1];
    throw new ValueError(
      `Cannot choose attention kernels as each must be one of ${
        [...Object.values(SDPBackend), ...Object.keys(SDPBackend)].join(", ")
      }: current value is ${JSON.stringify(name)}`,
    );
  });
  return BACKENDS.filter((name) => wanted.includes(name));
}
