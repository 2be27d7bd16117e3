/**
 * Times of kernels, measured on the GPU with timestamp queries: a table per kernel, and a trace for Perfetto.
 *
 * @module
 */
import { NotSupportedError, ValueError } from "../errors.ts";
import { type Command, type Dispatch, encodeCopy, encodeDispatch } from "./commands.ts";
import type { Device } from "./device.ts";
import { chromeTrace, type KernelEvent, kernelTable, type KernelTime, type SubmitEvent, tableText } from "./trace.ts";
import type { DispatchProfiler } from "./stream.ts";

export type { KernelTime };

/** What was measured between {@linkcode startProfile} and {@linkcode Profiler.stop}. */
export interface Profile {
  /** One row a kernel variant, the costliest first. */
  readonly kernels: readonly KernelTime[];
  /** Milliseconds that the GPU was inside kernels. */
  readonly gpuMs: number;
  /** The table as text. */
  toString(): string;
  /** JSON for ui.perfetto.dev or chrome://tracing: kernels on one track, submissions by the host on another. */
  chromeTrace(): string;
}

/** A running measurement. */
export interface Profiler {
  /** Ends it, waits for the GPU and gives the result. */
  stop(): Promise<Profile>;
}

const CAPACITY = 4096; // queries a set, two a dispatch: the most that WebGPU allows
const QUERY_RESOLVE = 0x200, COPY_SRC = 0x4;

/**
 * Measures every kernel that `device` runs from now on. Each gets a compute pass of its own, which costs the host some
 * microseconds and keeps kernels from overlapping.
 *
 * @throws {NotSupportedError} if the device has no timestamp queries
 * @throws {ValueError} if it is being profiled already
 *
 * @example
 * ```ts ignore
 * const profiler = startProfile(device);
 * await model.generate("Hello");
 * const profile = await profiler.stop();
 * console.log(`${profile}`);
 * await Deno.writeTextFile("trace.json", profile.chromeTrace());
 * ```
 */
export function startProfile(device: Device): Profiler {
  if (!device.features.timestampQuery) {
    throw new NotSupportedError(
      "Cannot profile as the GPU device must have timestamp queries: this one has none, or they are masked off",
      { hint: "Use another adapter, or do not pass features: { timestampQuery: false }." },
    );
  }
  if (device.stream.profiler) throw new ValueError("Cannot profile as a device must have one profiler: one is running");
  device.stream.flush(); // what was recorded before does not count
  const profiler = new TimestampProfiler(device);
  device.stream.profiler = profiler;
  return profiler;
}

class TimestampProfiler implements DispatchProfiler, Profiler {
  readonly #device: Device;
  readonly #set: GPUQuerySet;
  readonly #batches: { buffer: GPUBuffer; size: number }[] = [];
  readonly #dispatches: { command: Dispatch; submit: number }[] = [];
  readonly #submits: SubmitEvent[] = [];
  #used = 0;

  constructor(device: Device) {
    this.#device = device;
    this.#set = device.guard.call(
      "create a query set",
      () => device.gpu.createQuerySet({ type: "timestamp", count: CAPACITY }),
    );
  }

  encode(encoder: GPUCommandEncoder, commands: readonly Command[]): void {
    const start = performance.now();
    const dispatches = commands.filter(({ kind }) => kind === "dispatch").length;
    for (const command of commands) {
      if (command.kind === "dispatch") this.#dispatch(encoder, command);
      else encodeCopy(encoder, command);
    }
    this.#submits.push({ start, end: start, dispatches });
  }

  submitted(): void {
    this.#submits.at(-1)!.end = performance.now();
  }

  async stop(): Promise<Profile> {
    const { stream, guard, gpu } = this.#device;
    stream.flush();
    if (stream.profiler === this) stream.profiler = undefined;
    try {
      guard.call("resolve timestamps", () => {
        const encoder = gpu.createCommandEncoder();
        this.#resolve(encoder);
        gpu.queue.submit([encoder.finish()]);
      });
      const times = await Promise.all(this.#batches.map(({ buffer, size }) => stream.read(buffer, 0, size)));
      return this.#result(times.flatMap((bytes) => [...new BigUint64Array(bytes)]));
    } finally {
      for (const { buffer } of this.#batches.splice(0)) buffer.destroy();
      this.#set.destroy();
    }
  }

  #dispatch(encoder: GPUCommandEncoder, command: Dispatch): void {
    if (this.#used === CAPACITY) this.#resolve(encoder);
    const pass = encoder.beginComputePass({
      timestampWrites: {
        querySet: this.#set,
        beginningOfPassWriteIndex: this.#used,
        endOfPassWriteIndex: this.#used + 1,
      },
    });
    encodeDispatch(pass, command);
    pass.end();
    this.#used += 2;
    this.#dispatches.push({ command, submit: this.#submits.length });
  }

  /** Copies the timestamps of the set into a buffer, so that the set can be used again. */
  #resolve(encoder: GPUCommandEncoder): void {
    if (this.#used === 0) return;
    const size = this.#used * 8;
    const buffer = this.#device.gpu.createBuffer({ size, usage: QUERY_RESOLVE | COPY_SRC, label: "timestamps" });
    encoder.resolveQuerySet(this.#set, 0, this.#used, buffer, 0);
    this.#batches.push({ buffer, size });
    this.#used = 0;
  }

  #result(times: readonly bigint[]): Profile {
    const first = times.reduce((least, time) => time < least ? time : least, times[0] ?? 0n);
    const microseconds = (index: number) => Number(times[index]! - first) / 1000;
    const events = this.#dispatches.map(({ command: { name, x, y, z }, submit }, i): KernelEvent => {
      const start = microseconds(2 * i);
      return { name, grid: [x, y, z], submit, start, duration: Math.max(0, microseconds(2 * i + 1) - start) };
    });
    const kernels = kernelTable(events);
    return {
      kernels,
      gpuMs: kernels.reduce((sum, { totalMs }) => sum + totalMs, 0),
      toString: () => tableText(kernels),
      chromeTrace: () => chromeTrace(events, this.#submits),
    };
  }
}
