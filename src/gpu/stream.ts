/**
 * The running command list: kernels and copies are recorded, then submitted together; a recording can be captured once
 * and replayed, which is what a decode loop does (architecture.md, decisions 4 and 5).
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import { type Command, type Copy, type Dispatch, encode } from "./commands.ts";
import type { Guard } from "./guard.ts";
import type { BufferPool, PoolBuffer } from "./pool.ts";
import { paddedSize, Staging } from "./staging.ts";

export type { Command, Copy, Dispatch };

/** What a stream has done so far; a test compares two readings. */
export interface StreamCounters {
  /** Kernels submitted. */
  dispatches: number;
  /** Buffer copies submitted. */
  copies: number;
  /** Submissions. */
  submits: number;
  /** Writes from the host. */
  writes: number;
  /** Reads to the host. */
  reads: number;
}

/** A hook that wraps each dispatch of a submission in timestamps. */
export interface DispatchProfiler {
  /** Encodes `commands` into `encoder` with a timestamp around each dispatch. */
  encode(encoder: GPUCommandEncoder, commands: readonly Command[]): void;
  /** Called after the submission. */
  submitted(): void;
}

/** How {@linkcode Stream.read} reads. */
export interface ReadOptions {
  /**
   * Gives the data as soon as they are there, where the WebGPU implementation allows it: in Deno 0.1 ms after the GPU is
   * done instead of 10 ms. The call blocks until then, and {@linkcode Stream.settled} must be awaited at the end.
   */
  early?: boolean;
}

/** Commands captured once, with the buffers they use; replayed as often as wanted. */
export interface Recording extends Disposable {
  /** What {@linkcode Stream.replay} submits again. */
  readonly commands: readonly Command[];
  /** Returns its buffers to the pool. */
  dispose(): void;
}

const WRITE_CHUNK = 16 * 2 ** 20; // larger writes cost wgpu a second staging copy
const SUBMIT_AFTER = 2 ** 20; // a large write is sent off, so that its staging memory is free again soon
const MAX_PENDING = 256; // bounds the work of one submission

/** The command list of one device. */
export class Stream {
  /** Counters since the device was opened. */
  readonly counters: StreamCounters = { dispatches: 0, copies: 0, submits: 0, writes: 0, reads: 0 };
  /** Set by the profiler; undefined when not profiling. */
  profiler: DispatchProfiler | undefined;
  readonly #gpu: GPUDevice;
  readonly #guard: Guard;
  readonly #pool: BufferPool;
  readonly #staging: Staging;
  readonly #early: boolean;
  readonly #late = new Set<Promise<void>>();
  #pending: Command[] = [];
  #capturing = false;

  /** The stream of `gpu`; `early`: its `mapAsync` has mapped when the call returns, as Deno's has. */
  constructor(gpu: GPUDevice, guard: Guard, pool: BufferPool, early: boolean) {
    this.#gpu = gpu;
    this.#guard = guard;
    this.#pool = pool;
    this.#early = early;
    this.#staging = new Staging(gpu, guard, early);
    pool.beforeDestroy = () => this.flush();
  }

  /** Whether a read with `early` gives its bytes when the call returns, having waited for the GPU. */
  get readsEarly(): boolean {
    return this.#early;
  }

  /** Adds `command` to the list; it runs at the next {@linkcode flush}. */
  record(command: Command): void {
    this.#guard.throwIfFailed();
    this.#pending.push(command);
    if (this.#pending.length >= MAX_PENDING && !this.#capturing) this.flush();
  }

  /** Records a copy of `size` bytes. */
  copy(source: GPUBuffer, sourceOffset: number, target: GPUBuffer, targetOffset: number, size: number): void {
    if (size > 0) this.record({ kind: "copy", source, sourceOffset, target, targetOffset, size });
  }

  /** Submits what is recorded. */
  flush(): void {
    if (this.#pending.length === 0 || this.#capturing) return;
    const commands = this.#pending;
    this.#pending = [];
    this.#submit([commands], 1);
  }

  /**
   * Writes bytes from the host, after everything recorded so far.
   *
   * @throws {ValueError} while capturing: a replay could not repeat it
   */
  write(buffer: PoolBuffer, offset: number, data: Uint8Array): void {
    this.#refuseInCapture("write from the host");
    this.flush();
    this.#guard.call("write to a GPU buffer", () => {
      for (let at = 0; at < data.byteLength; at += WRITE_CHUNK) {
        const bytes = Math.min(WRITE_CHUNK, data.byteLength - at);
        this.#gpu.queue.writeBuffer(buffer.gpu, offset + at, data as Uint8Array<ArrayBuffer>, at, bytes);
        if (bytes >= SUBMIT_AFTER) this.#gpu.queue.submit([]);
        this.counters.writes++;
      }
    });
  }

  /**
   * Reads `size` bytes after everything recorded so far. Not awaited at once, several reads overlap: in Deno each costs
   * over 10 ms when awaited alone.
   *
   * @throws {ValueError} while capturing
   */
  read(buffer: GPUBuffer, offset: number, size: number, options: ReadOptions = {}): Promise<ArrayBuffer> {
    return quiet(this.#read(buffer, offset, size, options.early === true && this.#early));
  }

  async #read(buffer: GPUBuffer, offset: number, size: number, early: boolean): Promise<ArrayBuffer> {
    return await this.#contents(this.#stage(buffer, offset, size), size, early);
  }

  /**
   * As {@linkcode read} with `early`, but gives the bytes when it returns; undefined where reads do not come early.
   * {@linkcode settled} must be awaited at the end.
   *
   * @throws {ValueError} while capturing
   */
  readNow(buffer: GPUBuffer, offset: number, size: number): ArrayBuffer | undefined {
    if (!this.#early) return undefined;
    const staging = this.#stage(buffer, offset, size);
    this.#settleLater(this.#staging.map(staging, size));
    return attempt(() => this.#staging.take(staging, size));
  }

  /** A staging buffer that gets these bytes after everything recorded so far. */
  #stage(buffer: GPUBuffer, offset: number, size: number): GPUBuffer {
    this.#refuseInCapture("read to the host");
    const staging = this.#staging.acquire(paddedSize(size));
    this.copy(buffer, offset, staging, 0, paddedSize(size));
    this.flush();
    this.counters.reads++;
    return staging;
  }

  async #contents(staging: GPUBuffer, size: number, early: boolean): Promise<ArrayBuffer> {
    const mapped = this.#staging.map(staging, size), take = () => this.#staging.take(staging, size);
    const now = early ? attempt(take) : undefined;
    if (now) this.#settleLater(mapped);
    else await this.#guard.race(mapped, "a read from the GPU");
    await this.#guard.check();
    return now ?? await this.#guard.race(Promise.try(take), "a mapped buffer"); // raced: a loss is told as one
  }

  /** Resolves when WebGPU's own promises of early reads have. */
  async settled(): Promise<void> {
    await Promise.all(this.#late);
  }

  /**
   * As {@linkcode synchronize}, without the 10 ms that Deno sleeps, where reads come early: for loops that wait often.
   * {@linkcode settled} must be awaited at the end.
   */
  async drain(): Promise<void> {
    if (!this.#early) return await this.synchronize();
    this.#refuseInCapture("wait for the GPU");
    this.flush();
    await this.#contents(this.#staging.acquire(4), 4, true);
  }

  /** Resolves when all work is done and no error has come of it. */
  async synchronize(): Promise<void> {
    this.flush();
    const done = this.#guard.call("wait for the GPU", () => this.#gpu.queue.onSubmittedWorkDone());
    await this.#guard.race(done, "the submitted work");
    await this.#guard.check();
  }

  /**
   * Runs `fn`, keeping what it records instead of submitting it. Buffers that `fn` acquires stay with the recording;
   * those it only reads (weights, inputs) must live as long as the recording is replayed.
   *
   * @throws {ValueError} inside another capture
   */
  capture(fn: () => void): Recording {
    this.#refuseInCapture("capture");
    this.flush();
    this.#capturing = true;
    try {
      const arena = this.#pool.withArena(fn);
      let commands: readonly Command[] | undefined = this.#pending;
      const dispose = () => {
        if (commands) this.#pool.reclaim(arena);
        commands = undefined;
      };
      return {
        get commands() {
          if (commands) return commands;
          throw new ValueError("Cannot replay a recording as it must not be disposed of: its buffers are gone");
        },
        dispose,
        [Symbol.dispose]: dispose,
      };
    } finally {
      this.#pending = [];
      this.#capturing = false;
    }
  }

  /**
   * Submits recordings again, one after the other, after everything recorded so far. A submission costs the host over
   * 0.1 ms, so several steps of a loop are better replayed at once.
   *
   * @param times how often to run all of them
   * @throws {ValueError} while capturing, or if a recording was disposed of
   */
  replay(recordings: Recording | readonly Recording[], times = 1): void {
    this.#refuseInCapture("replay");
    this.#guard.throwIfFailed();
    this.flush();
    this.#submit([recordings].flat().map(({ commands }) => commands), times);
  }

  /** Destroys the staging buffers. */
  destroy(): void {
    this.#staging.destroy();
    this.#pending = [];
  }

  #settleLater(mapped: Promise<unknown>): void {
    const end = () => void this.#late.delete(settled);
    const settled: Promise<void> = mapped.then(end, end);
    this.#late.add(settled);
  }

  #refuseInCapture(what: string): void {
    if (this.#capturing) throw new ValueError(`Cannot ${what} as a capture must hold recorded GPU work only`);
  }

  #submit(lists: readonly (readonly Command[])[], times: number): void {
    this.#guard.call("submit work to the GPU", () => {
      const encoder = this.#gpu.createCommandEncoder();
      if (this.profiler) this.profiler.encode(encoder, Array(times).fill(lists).flat(2));
      else encode(encoder, lists, times);
      this.#gpu.queue.submit([encoder.finish()]);
      this.profiler?.submitted();
    });
    this.counters.submits++;
    for (const commands of lists) {
      const dispatches = dispatchesOf(commands);
      this.counters.dispatches += times * dispatches;
      this.counters.copies += times * (commands.length - dispatches);
    }
  }
}

/**
 * `promise`, whose rejection need not be seen: of several reads in flight, the error of one ends the work before the
 * others are awaited, and the device gives the same error to all that comes after.
 */
export function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

function dispatchesOf(commands: readonly Command[]): number {
  let dispatches = 0;
  for (const { kind } of commands) if (kind === "dispatch") dispatches++;
  return dispatches;
}

function attempt<T>(fn: () => T): T | undefined {
  try {
    return fn();
  } catch {
    return undefined;
  }
}
