/** What tests share: the device, random data, comparison. */
import { AssertionError } from "@std/assert";
import { cpuUsage } from "node:process";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { GpuError, NotSupportedError } from "../src/errors.ts";
import { type Device, type DeviceOptions, type FeatureOptions, openDevice } from "../src/gpu/mod.ts";

const RUNGS: Readonly<Record<string, FeatureOptions>> = {
  plain: { subgroups: false, shaderF16: false, timestampQuery: false, shaderInt64: false, subgroupMatrix: false },
  matrix: { subgroupMatrix: true },
};

/**
 * A device whose fresh buffers are filled with NaN, so that an element that a kernel forgets to write is caught.
 * `TENSAUR_TEST_PROVIDER=dawn` runs the same tests on Dawn, `TENSAUR_TEST_RUNG=plain` with optional features off,
 * `TENSAUR_TEST_RUNG=matrix` with subgroup matrices, on Dawn.
 */
export async function testDevice(options: DeviceOptions = {}): Promise<Device> {
  const rung = Deno.env.get("TENSAUR_TEST_RUNG") ?? "";
  const provider = rung === "matrix" || Deno.env.get("TENSAUR_TEST_PROVIDER") === "dawn" ? "dawn" : "deno";
  const features = RUNGS[rung] ?? {};
  const gpuTimeout = provider === "dawn" ? 300_000 : undefined; // its first read waits until shaders are compiled
  const device = await openDevice({ provider, features, tuningFile: null, gpuTimeout, ...options });
  poison(device);
  const close = () => device.close();
  globalThis.addEventListener("unload", close); // a process that exits with a live CPU driver may crash
  device.gpu.lost.then(() => globalThis.removeEventListener("unload", close)); // or every device would be kept till then
  return device;
}

/** A device of Dawn with subgroup matrices, where there is one. */
export async function matrixDevice(): Promise<Device | undefined> {
  try {
    return await testDevice({ provider: "dawn", features: { subgroupMatrix: true }, gpuTimeout: 300_000 });
  } catch (error) {
    if (error instanceof NotSupportedError || error instanceof GpuError) return undefined;
    throw error;
  }
}

/** Fills every buffer that the pool hands out with NaN. */
function poison(device: Device): void {
  const size = 2 ** 20;
  const nan = device.gpu.createBuffer({ size, usage: GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST });
  device.gpu.queue.writeBuffer(nan, 0, new Uint32Array(size / 4).fill(0x7fc00000));
  device.pool.onAcquire = (buffer) => {
    for (let at = 0; at < buffer.size; at += size) {
      device.stream.copy(nan, 0, buffer.gpu, at, Math.min(size, buffer.size - at));
    }
  };
}

/** A generator of uniform numbers in [0, 1) that depends only on `seed` (mulberry32). */
export function random(seed = 1): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `n` normally distributed float32 numbers. */
export function randn(n: number, seed = 1): Float32Array {
  const next = random(seed);
  return Float32Array.from({ length: n }, () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()));
}

/** Fails at the first element where `|got - want| > atol + rtol * |want|`, or where one is NaN. */
export function assertClose(
  name: string,
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  { rtol = 1e-5, atol = 1e-6 }: { rtol?: number; atol?: number } = {},
): void {
  if (got.length !== want.length) {
    throw new AssertionError({ message: `${name}: ${got.length} elements came, ${want.length} expected` });
  }
  for (let i = 0; i < want.length; i++) {
    const g = got[i]!, w = want[i]!;
    if (Object.is(g, w) || Math.abs(g - w) <= atol + rtol * Math.abs(w)) continue;
    throw new AssertionError({ message: `${name}[${i}]: got ${g}, want ${w} (rtol ${rtol}, atol ${atol})` });
  }
}

/** What `fn` returns while `device` counts as a GPU: the variants that a CPU device would not choose. */
export function asGpu<T>(device: Device, fn: () => T): T {
  Object.defineProperty(device, "isCpu", { value: false, configurable: true });
  try {
    return fn();
  } finally {
    delete (device as { isCpu?: boolean }).isCpu; // the getter shows again
  }
}

/** Milliseconds of CPU time that this process has had: a busy machine makes them no more. */
export function cpuTime(): number {
  const { user, system } = cpuUsage();
  return (user + system) / 1000;
}

/** Bytes of memory that this process has once its garbage is collected, of which V8 keeps up to 70 MB otherwise. */
export function residentBytes(): number {
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
  return Deno.memoryUsage().rss;
}
