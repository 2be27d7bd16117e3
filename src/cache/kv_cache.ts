/**
 * Keys and values in one buffer a layer, `[B, Hkv, capacity, Dh]`: what {@linkcode DynamicCache} and
 * {@linkcode StaticCache} share.
 *
 * @module
 */
import { LimitError, ShapeError, ValueError } from "../errors.ts";
import { type Device, kernel } from "../gpu/mod.ts";
import { attention, attentionWeights, kvLayout, storeKv } from "../ops/attention.ts";
import advanceWgsl from "../shaders/advance.wgsl" with { type: "text" };
import { bytesPerElement, empty, keep, type Tensor, tensor } from "../tensor/mod.ts";
import type { Batch } from "./batch.ts";
import type { AttentionOptions, Cache } from "./cache.ts";

const launchAdvance = kernel("advance", advanceWgsl);

/** Dtypes that keys and values can be kept in. */
export type CacheDtype = "float32" | "float16";

interface Layer {
  k: Tensor;
  v: Tensor;
  geometry: Tensor;
}

/** A cache whose layers are contiguous buffers. How much room they get is up to {@linkcode KvCache.room}. */
export abstract class KvCache implements Cache {
  #layers: (Layer | undefined)[] = [];
  #lengths: number[] = [];
  #past: Tensor | undefined;
  #capacity = 0;
  #generation = 0;
  readonly #dtype: CacheDtype;

  /** @param dtype what keys and values are stored in */
  constructor(dtype: CacheDtype) {
    this.#dtype = dtype;
  }

  /** How many tokens a sequence may have, now that it needs `tokens` and the present buffers hold `capacity`. */
  protected abstract room(tokens: number, capacity: number): number;

  /** A new, empty cache of the same kind. */
  protected abstract another(): KvCache;

  /** Tokens of each sequence. */
  get lengths(): readonly number[] {
    return this.#lengths;
  }

  /** Tokens that a sequence can have before the buffers must grow. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Changes whenever the buffers do. */
  get generation(): number {
    return this.#generation;
  }

  /** Dtype of keys and values. */
  get dtype(): CacheDtype {
    return this.#dtype;
  }

  /** Bytes on the GPU. */
  get byteLength(): number {
    return this.#layers.reduce((sum, l) => sum + (l ? l.k.byteLength + l.v.byteLength : 0), 0);
  }

  /** Makes room; throws before anything is written. */
  reserve(size: number, tokens: readonly number[]): void {
    if (this.#lengths.length === 0) this.#lengths = Array(size).fill(0);
    if (this.#lengths.length !== size || tokens.length !== size) {
      throw new ShapeError(
        `Cannot use the cache as the batch must have its ${this.#lengths.length} sequences: current batch has ${size}`,
        { hint: "Use a new cache, or call reset() and dispose()." },
      );
    }
    const need = Math.max(...this.#lengths.map((n, b) => n + tokens[b]!));
    if (need <= this.#capacity) return;
    const capacity = this.room(need, this.#capacity);
    if (capacity < need) {
      throw new LimitError(
        `Cannot store ${Math.max(...tokens)} more tokens as the cache must hold all of a sequence: ` +
          `its capacity is ${capacity}, ${Math.max(...this.#lengths)} are in use`,
        { hint: "Make the cache with a larger maxCacheLen, or generate fewer tokens." },
      );
    }
    this.#grow(capacity);
  }

  /** Stores, then attends. */
  attend(layer: number, q: Tensor, k: Tensor, v: Tensor, batch: Batch, options: AttentionOptions): Tensor {
    const past = this.#pastOn(q.device);
    const { k: keys, v: values, geometry } = this.#layers[layer] ??= this.#newLayer(q, k, options);
    const kv = { k: keys, v: values, geometry, past };
    storeKv(k, v, kv, batch.cuSeqlens);
    if (options.weights) {
      const longest = Math.max(...this.#lengths.map((n, b) => n + batch.lengths[b]!));
      options.weights.push(attentionWeights(q, kv, batch.cuSeqlens, longest));
    }
    return attention(q, kv, batch.cuSeqlens);
  }

  /** Counts the batch's tokens on the GPU. */
  advance(batch: Batch): void {
    const past = this.#pastOn(batch.tokens.device);
    launchAdvance(batch.tokens.device, {
      bindings: { cuSeqlens: batch.cuSeqlens, past },
      grid: [Math.ceil(batch.size / 64)],
    });
  }

  /** Counts tokens on the host. */
  advanced(tokens: readonly number[]): void {
    this.#lengths = this.#lengths.map((n, b) => n + tokens[b]!);
  }

  /** Forgets the tokens from `lengths[b]` on. */
  crop(lengths: readonly number[]): void {
    if (lengths.length !== this.#lengths.length || !lengths.every((n, b) => n >= 0 && n <= this.#lengths[b]!)) {
      throw new ValueError(
        `Cannot crop the cache as each length must be from 0 to what is there (${this.#lengths}): current value is ${lengths}`,
      );
    }
    this.#lengths = [...lengths];
    this.#past?.write(lengths);
  }

  /** Selects sequences: row b becomes what row `rows[b]` was. */
  reorder(rows: readonly number[]): void {
    const size = this.#lengths.length;
    if (rows.length !== size || !rows.every((row) => Number.isInteger(row) && row >= 0 && row < size)) {
      throw new ValueError(
        `Cannot reorder the cache as there must be ${size} rows from 0 to ${size - 1}: current value is ${rows}`,
      );
    }
    this.#replace((t) => this.#copied(t, this.#capacity, rows));
    this.#generation++;
    const lengths = rows.map((row) => this.#lengths[row]!);
    this.#lengths = lengths;
    this.#past?.write(lengths);
  }

  /** A copy that shares nothing. */
  fork(): KvCache {
    const copy = this.another();
    const rows = this.#lengths.map((_, b) => b);
    copy.#lengths = [...this.#lengths];
    copy.#capacity = this.#capacity;
    copy.#layers = this.#layers.map((l) =>
      l && {
        k: this.#copied(l.k, this.#capacity, rows),
        v: this.#copied(l.v, this.#capacity, rows),
        geometry: keep(l.geometry.device, l.geometry.reshape(l.geometry.shape)),
      }
    );
    return copy;
  }

  /** Forgets all tokens. */
  reset(): void {
    if (this.#lengths.length) this.crop(this.#lengths.map(() => 0));
  }

  /** Returns the memory. */
  dispose(): void {
    for (const layer of this.#layers) {
      layer?.k.dispose();
      layer?.v.dispose();
      layer?.geometry.dispose();
    }
    this.#past?.dispose();
    this.#past = undefined;
    this.#layers = [];
    this.#lengths = [];
    this.#capacity = 0;
    this.#generation++;
  }

  /** As {@linkcode dispose}. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #pastOn(device: Device): Tensor {
    return this.#past ??= keep(device, tensor(device, this.#lengths, [this.#lengths.length], "uint32"));
  }

  #newLayer(q: Tensor, k: Tensor, options: AttentionOptions): Layer {
    const [, heads = 0] = q.shape;
    const [, kvHeads = 0, dim = 0] = k.shape;
    if (this.#dtype === "float16" && dim % 2 !== 0) {
      throw new ValueError(`Cannot cache keys as float16 as their length must be even: current length is ${dim}`, {
        hint: 'Use a cache of dtype "float32".',
      });
    }
    const shape = [this.#lengths.length, kvHeads, this.#capacity, dim];
    const allocate = () => keep(q.device, empty(q.device, shape, this.#dtype, { exact: true, label: "the cache" }));
    return { k: allocate(), v: allocate(), geometry: this.#geometry(q.device, heads, shape, options) };
  }

  #geometry(
    device: Device,
    heads: number,
    shape: readonly number[],
    { scale, window, causal }: AttentionOptions,
  ): Tensor {
    const [, kvHeads = 0, capacity = 0, dim = 0] = shape;
    const strides = { sequenceStride: kvHeads * capacity * dim, headStride: capacity * dim, keyStride: dim };
    return keep(device, kvLayout(device, { heads, kvHeads, ...strides, window, scale, causal }));
  }

  #grow(capacity: number): void {
    this.#replace((t) => this.#copied(t, capacity, this.#lengths.map((_, b) => b)));
    for (const layer of this.#layers) {
      if (!layer) continue;
      const [, kvHeads = 0, , dim = 0] = layer.k.shape;
      setStrides(layer.geometry, kvHeads * capacity * dim, capacity * dim);
    }
    this.#capacity = capacity;
    this.#generation++;
  }

  /** Puts `copy(t)` in the place of each buffer of keys or values; if one fails, all stay as they were. */
  #replace(copy: (t: Tensor) => Tensor): void {
    const made: Tensor[] = [];
    const next = () => made.at(made.push(copy(old[made.length]!)) - 1)!;
    const old = this.#layers.flatMap((l) => l ? [l.k, l.v] : []);
    let layers: (Layer | undefined)[];
    try {
      layers = this.#layers.map((l) => l && { ...l, k: next(), v: next() });
    } catch (error) {
      for (const t of made) t.dispose();
      throw error;
    }
    this.#layers = layers;
    for (const t of old) t.dispose();
  }

  /** A buffer of `capacity` with the used part of the sequences of `t` in the order of `rows`. */
  #copied(t: Tensor, capacity: number, rows: readonly number[]): Tensor {
    const [, heads = 0, old = 0, dim = 0] = t.shape;
    const { device, dtype } = t;
    const to = keep(
      device,
      empty(device, [rows.length, heads, capacity, dim], dtype, { exact: true, label: "the cache" }),
    );
    const line = dim * bytesPerElement(dtype);
    for (const [b, row] of rows.entries()) {
      const bytes = Math.ceil((this.#lengths[row]! * line) / 4) * 4;
      for (let h = 0; h < heads; h++) {
        const source = t.byteOffset + (row * heads + h) * old * line;
        device.stream.copy(
          t.buffer.gpu,
          source,
          to.buffer.gpu,
          to.byteOffset + (b * heads + h) * capacity * line,
          bytes,
        );
      }
    }
    return to;
  }
}

/** Writes the two strides that depend on the capacity into a layout that {@linkcode kvLayout} made. */
function setStrides(geometry: Tensor, sequenceStride: number, headStride: number): void {
  const words = new Uint32Array([sequenceStride, headStride]);
  geometry.device.stream.write(geometry.buffer, geometry.byteOffset + 8, new Uint8Array(words.buffer));
}
