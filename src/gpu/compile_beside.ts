/**
 * A cold start on a driver that is a program on the CPU: it compiles on one thread a device, and finds on disk what
 * another device has compiled. A second device compiles half of the kernels, on another core.
 *
 * @module
 */
import { throwIfAborted } from "../errors.ts";
import type { Device } from "./device.ts";
import type { KernelCompileOptions, KernelVariant } from "./kernel.ts";

const PROBES = 2, WARM = 100; // kernels, ms: found on disk they take 10 to 30 each, compiled 75 to 600
const WORTH = 4; // kernels; a second device costs 80 ms

/**
 * Compiles `variants` in the driver of `device` with a second device beside it, which is closed again at the end, if the
 * first ones take so long that the driver cannot have them on disk. Gives whether it did; if not, some may be compiled.
 *
 * @throws {AbortError} if `signal` fires
 */
export async function compileBeside(
  device: Device,
  variants: readonly KernelVariant[],
  { signal, meanwhile }: KernelCompileOptions,
): Promise<boolean> {
  const { kernels } = device, rest = variants.slice(PROBES);
  if (rest.length < WORTH || navigator.hardwareConcurrency < 2) return false;
  kernels.launchNothing(variants.slice(0, PROBES));
  const began = performance.now();
  kernels.prepare(rest[0]!); // a device that compiles lets nobody make a pipeline until it has
  if (performance.now() - began < WARM) return false;
  await using second = await device.openAnother().catch(() => undefined);
  if (!second) return false;
  const own = rest.filter((_, i) => i % 2 === 1), others = rest.filter((_, i) => i % 2 === 0); // neighbours are alike
  launch(second, others);
  if (await fails(meanwhile)) return true; // nobody will want them
  throwIfAborted(signal, "compiling kernels");
  kernels.launchNothing(own);
  await device.synchronize();
  await second.synchronize().catch(() => {});
  throwIfAborted(signal, "compiling kernels");
  kernels.launchNothing(others); // the driver writes when a core is free, so not before
  return true;
}

/** What fails here is left to the first device. */
function launch({ kernels }: Device, variants: readonly KernelVariant[]): void {
  try {
    kernels.launchNothing(variants);
  } catch { /* which compiles what it does not find */ }
}

async function fails(work: Promise<unknown> | undefined): Promise<boolean> {
  try {
    await work;
    return false;
  } catch {
    return true; // whoever started it will be told
  }
}
