/**
 * GPU memory, accounted: buffers recycled by size class, bytes in use, peak and an optional budget.
 *
 * @module
 */
import { OutOfMemoryError } from "../errors.ts";
import type { Guard } from "./guard.ts";

/** A GPU buffer that belongs to a {@linkcode BufferPool}. */
export interface PoolBuffer {
  /** Unique for the life of the pool; names the buffer in caches of bind groups. */
  readonly id: number;
  /** The WebGPU buffer. */
  readonly gpu: GPUBuffer;
  /** Its size in bytes. */
  readonly size: number;
}

/** The buffers of one recording that are not in use at the moment, by size. */
export interface Arena {
  /** Released and ready for re-use within the recording. */
  readonly free: Map<number, PoolBuffer[]>;
}

/** What a pool holds, in bytes. */
export interface PoolStats {
  /** Bytes of buffers that are handed out, or belong to a recording. */
  bytesInUse: number;
  /** Bytes of buffers kept for re-use. */
  bytesCached: number;
  /** Largest `bytesInUse` so far. */
  peakBytes: number;
  /** Buffers handed out, or belonging to a recording. */
  buffersInUse: number;
  /** Buffers created so far. */
  created: number;
}

const { STORAGE, COPY_SRC, COPY_DST } = { STORAGE: 0x80, COPY_SRC: 0x4, COPY_DST: 0x8 };

// What is kept for re-use may bring the whole to 1.5 times the peak of use and 64 MiB, so that sizes that never come
// again do not pile up.
const SLACK = 1.5, MAX_IDLE = 64 * 2 ** 20;

/** Hands out storage buffers, takes them back, and counts. */
export class BufferPool {
  readonly #gpu: GPUDevice;
  readonly #guard: Guard;
  readonly #free = new Map<number, PoolBuffer[]>();
  readonly #live = new Set<PoolBuffer>();
  readonly #owners = new Map<PoolBuffer, Arena>();
  #beforeDestroy: () => void = () => {};
  #fill: ((buffer: PoolBuffer) => void) | undefined;
  #arena: Arena | undefined;
  #last = "";
  #nextId = 1;
  #inUse = 0;
  #cached = 0;
  #peak = 0;

  /** A pool of `gpu`'s memory that never holds more than `budget` bytes. */
  constructor(
    gpu: GPUDevice,
    guard: Guard,
    /** Most bytes to hold at a time. */
    readonly budget: number,
  ) {
    this.#gpu = gpu;
    this.#guard = guard;
    guard.describeMemory = () => `${formatBytes(this.#inUse)} in use, ${this.#last}`;
  }

  /** Called before buffers are destroyed, so that recorded work that uses them is submitted first. */
  set beforeDestroy(fn: () => void) {
    this.#beforeDestroy = fn;
  }

  /** Called with each buffer that is handed out: tests fill them with NaN to find elements that nothing writes. */
  set onAcquire(fn: (buffer: PoolBuffer) => void) {
    this.#fill = fn;
  }

  /** Counters in bytes. */
  get stats(): PoolStats {
    return {
      bytesInUse: this.#inUse,
      bytesCached: this.#cached,
      peakBytes: this.#peak,
      buffersInUse: this.#live.size,
      created: this.#nextId - 1,
    };
  }

  /** Starts the peak anew from what is in use now. */
  resetPeak(): void {
    this.#peak = this.#inUse;
  }

  /**
   * A buffer of at least `bytes`; its contents are undefined.
   *
   * @param exact no rounding to a size class: for weights and caches, which live long
   * @throws {OutOfMemoryError} over the budget or the device's `maxBufferSize`
   */
  acquire(bytes: number, label: string, exact = false): PoolBuffer {
    const size = exact || sizeClass(bytes) > this.#gpu.limits.maxBufferSize ? roundUp(bytes) : sizeClass(bytes);
    const buffer = this.#arena?.free.get(size)?.pop() ?? this.#take(size, label);
    if (this.#arena) this.#owners.set(buffer, this.#arena);
    this.#fill?.(buffer);
    return buffer;
  }

  /** Takes `buffer` back for re-use; a buffer of a recording stays with it. */
  release(buffer: PoolBuffer): void {
    if (!this.#live.has(buffer)) return;
    const arena = this.#owners.get(buffer) ?? this.#arena; // what a capture releases, it has recorded work with
    if (!arena) return this.#giveBack(buffer);
    this.#owners.set(buffer, arena);
    if (!arena.free.get(buffer.size)?.includes(buffer)) push(arena.free, buffer);
  }

  /**
   * Runs `fn` with an arena: the buffers acquired or released inside belong to it and are re-used only inside, so that a
   * recording made by `fn` can be replayed later without anybody else's data in them. They count as in use until
   * {@linkcode reclaim}, whether `fn` released them or not.
   */
  withArena(fn: () => void): Arena {
    const arena: Arena = this.#arena = { free: new Map() };
    try {
      fn();
      return arena;
    } catch (error) {
      this.reclaim(arena);
      throw error;
    } finally {
      this.#arena = undefined;
    }
  }

  /** Ends an arena: what was released returns to the pool, and what is still held will when it is. */
  reclaim(arena: Arena): void {
    for (const [buffer, owner] of this.#owners) if (owner === arena) this.#owners.delete(buffer);
    for (const list of arena.free.values()) for (const buffer of list.splice(0)) this.#giveBack(buffer);
  }

  /** Destroys the buffers kept for re-use. */
  trim(): void {
    if (this.#cached === 0) return;
    this.#beforeDestroy();
    for (const list of this.#free.values()) for (const buffer of list) buffer.gpu.destroy();
    this.#free.clear();
    this.#cached = 0;
  }

  /** Destroys every buffer, in use or not. */
  destroy(): void {
    for (const list of [...this.#free.values(), [...this.#live]]) for (const buffer of list) buffer.gpu.destroy();
    this.#free.clear();
    this.#live.clear();
    this.#owners.clear();
    this.#cached = this.#inUse = 0;
  }

  #take(size: number, label: string): PoolBuffer {
    const known = this.#free.get(size)?.pop();
    if (known) this.#cached -= size;
    const buffer = known ?? this.#create(size, label);
    this.#live.add(buffer);
    this.#inUse += size;
    this.#peak = Math.max(this.#peak, this.#inUse);
    return buffer;
  }

  #giveBack(buffer: PoolBuffer): void {
    if (!this.#live.delete(buffer)) return;
    this.#inUse -= buffer.size;
    this.#cached += buffer.size;
    push(this.#free, buffer);
  }

  #create(size: number, label: string): PoolBuffer {
    const limit = this.#gpu.limits.maxBufferSize;
    if (size > limit) {
      throw this.#outOfMemory(size, label, `a buffer of the device holds at most ${formatBytes(limit)}`);
    }
    const most = Math.min(this.budget, SLACK * Math.max(this.#peak, this.#inUse + size) + MAX_IDLE);
    if (this.#inUse + this.#cached + size > most) this.trim();
    if (this.#inUse + size > this.budget) {
      throw this.#outOfMemory(size, label, `the memory budget is ${formatBytes(this.budget)}`);
    }
    this.#last = `the last allocation asked for ${formatBytes(size)} for ${label}`;
    const gpu = this.#guard.call(
      `allocate ${formatBytes(size)} for ${label}`,
      () => this.#gpu.createBuffer({ size, usage: STORAGE | COPY_SRC | COPY_DST, label }),
    );
    return { id: this.#nextId++, gpu, size };
  }

  #outOfMemory(size: number, label: string, why: string): OutOfMemoryError {
    return new OutOfMemoryError(
      `Cannot allocate GPU memory for ${label} as ${why}: tried to allocate ${formatBytes(size)}, ` +
        `${formatBytes(this.#inUse)} in use`,
      { hint: "Raise memoryBudget, or use a smaller model, dtype, batch or context." },
    );
  }
}

function roundUp(bytes: number): number {
  return Math.max(16, Math.ceil(bytes / 16) * 16);
}

/** Rounds up to 1, 1.25, 1.5 or 1.75 times a power of two, at least 256 bytes: at most a quarter is wasted. */
export function sizeClass(bytes: number): number {
  if (bytes <= 256) return 256;
  const step = 2 ** (Math.floor(Math.log2(bytes)) - 2);
  return Math.ceil(bytes / step) * step;
}

/** `1536` → "1.5 KiB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`;
}

function push(lists: Map<number, PoolBuffer[]>, buffer: PoolBuffer): void {
  const list = lists.get(buffer.size);
  if (list) list.push(buffer);
  else lists.set(buffer.size, [buffer]);
}
