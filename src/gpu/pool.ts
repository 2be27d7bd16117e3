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

/** What a pool holds, in bytes. */
export interface PoolStats {
  /** Bytes of buffers that are handed out. */
  bytesInUse: number;
  /** Bytes of buffers kept for re-use. */
  bytesCached: number;
  /** Largest `bytesInUse` so far. */
  peakBytes: number;
  /** Buffers handed out. */
  buffersInUse: number;
  /** Buffers created so far. */
  created: number;
}

const { STORAGE, COPY_SRC, COPY_DST } = { STORAGE: 0x80, COPY_SRC: 0x4, COPY_DST: 0x8 };

/** Hands out storage buffers, takes them back, and counts. */
export class BufferPool {
  readonly #gpu: GPUDevice;
  readonly #guard: Guard;
  readonly #budget: number;
  readonly #free = new Map<number, PoolBuffer[]>();
  readonly #live = new Set<PoolBuffer>();
  #beforeDestroy: () => void = () => {};
  #fill: ((buffer: PoolBuffer) => void) | undefined;
  #arena: Map<number, PoolBuffer[]> | undefined;
  #arenaBuffers = new Set<PoolBuffer>();
  #nextId = 1;
  #inUse = 0;
  #cached = 0;
  #peak = 0;

  /** A pool of `gpu`'s memory that never holds more than `budget` bytes. */
  constructor(gpu: GPUDevice, guard: Guard, budget: number) {
    this.#gpu = gpu;
    this.#guard = guard;
    this.#budget = budget;
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
    const size = exact ? Math.max(16, Math.ceil(bytes / 16) * 16) : sizeClass(bytes);
    const buffer = this.#arena?.get(size)?.pop() ?? this.#recycled(size) ?? this.#create(size, label);
    if (this.#arena) this.#arenaBuffers.add(buffer);
    this.#live.add(buffer);
    this.#inUse += size;
    this.#peak = Math.max(this.#peak, this.#inUse);
    this.#fill?.(buffer);
    return buffer;
  }

  /** Takes `buffer` back for re-use. */
  release(buffer: PoolBuffer): void {
    if (!this.#live.delete(buffer)) return;
    this.#inUse -= buffer.size;
    const arena = this.#arenaBuffers.has(buffer) ? this.#arena : undefined;
    push(arena ?? this.#free, buffer);
    if (!arena) this.#cached += buffer.size;
  }

  /**
   * Runs `fn` with an arena: buffers released inside are re-used only inside, so that a recording made by `fn` can be
   * replayed later without anybody else writing into them. Returns those buffers; they count as in use until
   * {@linkcode reclaim}.
   */
  withArena(fn: () => void): PoolBuffer[] {
    const arena = this.#arena = new Map<number, PoolBuffer[]>();
    try {
      fn();
    } finally {
      this.#arena = undefined;
      this.#arenaBuffers.clear();
      for (const buffer of [...arena.values()].flat()) {
        this.#live.add(buffer);
        this.#inUse += buffer.size;
      }
      this.#peak = Math.max(this.#peak, this.#inUse);
    }
    return [...arena.values()].flat();
  }

  /** Returns an arena's buffers to the pool. */
  reclaim(buffers: readonly PoolBuffer[]): void {
    for (const buffer of buffers) this.release(buffer);
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
    this.#cached = this.#inUse = 0;
  }

  #recycled(size: number): PoolBuffer | undefined {
    const buffer = this.#free.get(size)?.pop();
    if (buffer) this.#cached -= size;
    return buffer;
  }

  #create(size: number, label: string): PoolBuffer {
    const limit = this.#gpu.limits.maxBufferSize;
    if (size > limit) throw this.#outOfMemory(size, `a buffer of the device holds at most ${formatBytes(limit)}`);
    if (this.#inUse + this.#cached + size > this.#budget) this.trim();
    if (this.#inUse + size > this.#budget) {
      throw this.#outOfMemory(size, `the memory budget is ${formatBytes(this.#budget)}`);
    }
    const gpu = this.#guard.call(
      `allocate ${formatBytes(size)} for ${label}`,
      () => this.#gpu.createBuffer({ size, usage: STORAGE | COPY_SRC | COPY_DST, label }),
    );
    return { id: this.#nextId++, gpu, size };
  }

  #outOfMemory(size: number, why: string): OutOfMemoryError {
    return new OutOfMemoryError(
      `Cannot allocate GPU memory as ${why}: tried to allocate ${formatBytes(size)}, ${
        formatBytes(this.#inUse)
      } in use`,
      { hint: "Raise memoryBudget, or use a smaller model, dtype, batch or context." },
    );
  }
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
