/** Runs a piece of work again and again, each time with another GPU call failing, and judges what comes of it. */
import { assert, assertEquals, assertInstanceOf, assertStrictEquals } from "@std/assert";
import { DeviceLostError, TensaurError } from "../../src/errors.ts";
import { type Device, type DeviceOptions, openDevice, type Provider } from "../../src/gpu/mod.ts";
import { type Fault, faultsOf, FaultyDevice, type Kind, KINDS, type Plan } from "./faulty_device.ts";

/** Work on a device that may fail at any call; `faulty` tells how far it has come. */
export type Work<T> = (device: Device, faulty: FaultyDevice) => Promise<T>;

/** What {@linkcode failEach} takes. */
export interface Sweep<T> {
  /** Judges a result that came without an error: throws if it is wrong. */
  check: (result: T) => void;
  /** Which calls fail. Default all. */
  kinds?: readonly Kind[];
  /** How they fail. Default every way that a kind of call can. */
  faults?: readonly Fault[];
  /** Fails the first, then every `stride`-th call of a kind, and the last. Default 1. */
  stride?: number;
  /** Whose WebGPU. Default "deno". */
  provider?: Provider;
  /** Other options of the device. */
  options?: DeviceOptions;
}

/** What a sweep did. */
export interface SweepReport {
  /** Runs in all. */
  runs: number;
  /** Runs that ended in an error. */
  errors: number;
}

const GPU_TIMEOUT = 200; // ms; a run takes this for a fault that hangs, and little more
const LANES = 4; // runs at a time, each on a GPUDevice of its own

/** Counts the calls of each kind that `work` makes on a healthy device. */
export async function countCalls<T>(
  work: Work<T>,
  { provider = "deno", options = {} }: Partial<Sweep<T>> = {},
): Promise<Record<Kind, number>> {
  await using base = await openDevice({ provider });
  const faulty = new FaultyDevice(base.gpu);
  await using device = await openDevice({ provider, ...options, device: faulty.gpu });
  await work(device, faulty);
  return { ...faulty.counts };
}

/**
 * Fails the calls of `work` one at a time. Each run must give a right result, or one typed error that everything after it
 * gives too; it may not hang, leak a buffer, or leave a rejection unhandled; and the next device must work.
 */
export async function failEach<T>(work: Work<T>, sweep: Sweep<T>): Promise<SweepReport> {
  const { provider = "deno", stride = 1 } = sweep;
  const counts = await countCalls(work, sweep);
  const report = { runs: 0, errors: 0 };
  const unhandled: unknown[] = [];
  const onUnhandled = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    unhandled.push(event.reason);
  };
  globalThis.addEventListener("unhandledrejection", onUnhandled);
  const queue = plans(counts, sweep.kinds ?? KINDS, sweep.faults, stride);
  const lane = async () => {
    let base = await openDevice({ provider });
    for (const plan of queue) {
      report.runs++;
      try {
        if (await run(work, sweep, base.gpu, plan)) report.errors++;
        assertEquals(unhandled, [], "unhandled rejections");
      } catch (cause) {
        throw new Error(`${plan.fault} at ${plan.kind} ${plan.nth}: ${(cause as Error).message}`, { cause });
      }
      if (plan.fault === "lost") base = await reopen(base, provider);
    }
    await run(work, sweep, base.gpu); // the GPUDevice that saw all that still serves
    await base[Symbol.asyncDispose]();
  };
  try {
    await Promise.all(Array.from({ length: LANES }, lane)); // a run mostly waits
  } finally {
    globalThis.removeEventListener("unhandledrejection", onUnhandled);
  }
  return report;
}

async function reopen(base: Device, provider: Provider): Promise<Device> {
  await base[Symbol.asyncDispose]();
  return await openDevice({ provider });
}

function* plans(
  counts: Record<Kind, number>,
  kinds: readonly Kind[],
  faults: readonly Fault[] | undefined,
  stride: number,
): Generator<Plan> {
  for (const kind of kinds) {
    for (const fault of faultsOf(kind)) {
      if (faults && !faults.includes(fault)) continue;
      for (let nth = 1; nth <= counts[kind]; nth += stride) yield { kind, nth, fault };
      if ((counts[kind] - 1) % stride !== 0) yield { kind, nth: counts[kind], fault };
    }
  }
}

/** One run; returns its error if it had one, after checking that it is the right one. */
async function run<T>(
  work: Work<T>,
  { check, provider = "deno", options }: Sweep<T>,
  gpu: GPUDevice,
  plan?: Plan,
): Promise<TensaurError | undefined> {
  const faulty = new FaultyDevice(gpu, plan), timeout = options?.gpuTimeout ?? GPU_TIMEOUT;
  const opened = openDevice({ provider, ...options, gpuTimeout: timeout, device: faulty.gpu });
  let device: Device | undefined;
  let error: TensaurError | undefined;
  try {
    device = await deadline(opened, timeout);
    check(await deadline(work(device, faulty), timeout));
  } catch (cause) {
    assertInstanceOf(cause, TensaurError, `it must be typed: ${cause}`);
    assert(plan && faulty.fired, `no fault was due: ${cause.message}`);
    error = cause;
  }
  if (error && plan?.fault === "lost") assertInstanceOf(error, DeviceLostError, `a loss must be told: ${error}`);
  if (error && device?.guard.error) await assertDead(device, error, timeout);
  device?.close();
  if (device) {
    const { bytesInUse, bytesCached, buffersInUse } = device.pool.stats;
    assertEquals({ bytesInUse, bytesCached, buffersInUse }, { bytesInUse: 0, bytesCached: 0, buffersInUse: 0 });
  }
  assertEquals(faulty.buffers.size, 0, "buffers that were never destroyed");
  return error;
}

/** Everything after the first error fails with it. */
async function assertDead(device: Device, error: TensaurError, timeout: number): Promise<void> {
  for (const attempt of [() => device.synchronize(), () => device.guard.check()]) {
    const later = await deadline(attempt().then(() => undefined, (cause) => cause), timeout);
    assertStrictEquals(later, error, `it must stay the same error: ${later}`);
  }
}

/** `promise`, or an error after 20 time-outs: in the guard's looks, of which a blocked event loop has but one. */
async function deadline<T>(promise: Promise<T>, timeout: number): Promise<T> {
  let timer: ReturnType<typeof setInterval> | undefined, looks = 0;
  const late = new Promise<never>((_, reject) => {
    timer = setInterval(() => ++looks < 80 || reject(new Error("it hangs")), timeout / 4);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearInterval(timer);
  }
}
