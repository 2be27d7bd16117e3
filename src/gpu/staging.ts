/**
 * Buffers that the host maps to read results, kept for the next read.
 *
 * @module
 */
import type { Guard } from "./guard.ts";
import { sizeClass } from "./pool.ts";

const MAP_READ = 0x1, COPY_DST = 0x8;
const MAX_CACHED = 64 * 2 ** 20; // bytes kept; larger reads (saving a model) give theirs back at once

/** Hands out `MAP_READ` buffers of one device, and knows those that are out. */
export class Staging {
  readonly #gpu: GPUDevice;
  readonly #guard: Guard;
  readonly #mapped: boolean;
  readonly #free = new Map<number, GPUBuffer[]>();
  readonly #all = new Set<GPUBuffer>();
  #cached = 0;

  /** Staging buffers of `gpu`; `mapped`: map each once when it is made, which early reads need. */
  constructor(gpu: GPUDevice, guard: Guard, mapped: boolean) {
    this.#gpu = gpu;
    this.#guard = guard;
    this.#mapped = mapped;
  }

  /** An unmapped buffer of at least `bytes`. */
  acquire(bytes: number): GPUBuffer {
    const size = Math.min(sizeClass(bytes), this.#gpu.limits.maxBufferSize);
    const known = this.#free.get(size)?.pop();
    if (known) {
      this.#cached -= size;
      return known;
    }
    const usage = MAP_READ | COPY_DST;
    const buffer = this.#guard.call(
      "allocate a staging buffer",
      () => this.#gpu.createBuffer({ size, usage, mappedAtCreation: this.#mapped, label: "staging" }),
    );
    this.#all.add(buffer);
    if (this.#mapped) unmap(buffer);
    return buffer;
  }

  /** Starts to map the first `size` bytes of `buffer`. */
  map(buffer: GPUBuffer, size: number): Promise<undefined> {
    return this.#guard.call("map a GPU buffer", () => buffer.mapAsync(MAP_READ, 0, paddedSize(size)));
  }

  /** The first `size` bytes of a buffer that is mapped, which is taken back. */
  take(buffer: GPUBuffer, size: number): ArrayBuffer {
    const bytes = buffer.getMappedRange(0, paddedSize(size)).slice(0, size);
    buffer.unmap();
    this.release(buffer);
    return bytes;
  }

  /** Takes back a buffer that is unmapped again. */
  release(buffer: GPUBuffer): void {
    const { size } = buffer;
    if (this.#cached + size > MAX_CACHED) {
      this.#all.delete(buffer);
      buffer.destroy();
      return;
    }
    this.#cached += size;
    const list = this.#free.get(size);
    if (list) list.push(buffer);
    else this.#free.set(size, [buffer]);
  }

  /** Destroys every buffer, also those that a read still waits for. */
  destroy(): void {
    for (const buffer of this.#all) buffer.destroy();
    this.#all.clear();
    this.#free.clear();
    this.#cached = 0;
  }
}

/** A number of bytes that can be copied and mapped, for `size` of them. */
export function paddedSize(size: number): number {
  return Math.max(4, Math.ceil(size / 4) * 4);
}

function unmap(buffer: GPUBuffer): void {
  try {
    buffer.unmap();
  } catch { /* it is invalid, and the error scopes or the loss say why */ }
}
