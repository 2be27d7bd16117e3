/**
 * Keys and values in one buffer a layer, `[B, Hkv, capacity, Dh]`: what {@linkcode DynamicCache} and
 * {@linkcode StaticCache} share.
 *
 * @module
 */
import { LimitError, ShapeError, ValueError } from "../errors.ts";
import { type Device, kernel } from "../gpu/mod.ts";
import {
  attention,
  attentionWeights,
  type CachedKeyValues,
  type KeyValues,
  kvLayout,
  setKvStrides,
  storeKv,
  type Strides,
} from "../ops/attention.ts";
import advanceWgsl from "../shaders/advance.wgsl" with { type: "text" };
import { bytesPerElement, empty, keep, type Tensor, tensor } from "../tensor/mod.ts";
import type { Batch } from "./batch.ts";
import type { AttentionOptions, Cache, HeadShape, KvPlace } from "./cache.ts";

const launchAdvance = kernel("advance", advanceWgsl);
const LONG_LIVED = { exact: true, label: "the cache" };

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
  readonly #kept: Disposable[] = [];
  readonly #dtype: CacheDtype;

  /** An empty cache that stores keys and values as `dtype`. */
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
    const lengths = this.#lengths.length === 0 ? Array<number>(size).fill(0) : this.#lengths;
    if (lengths.length !== size || tokens.length !== size) {
      throw new ShapeError(
        `Cannot use the cache as the batch must have its ${lengths.length} sequences: current batch has ${size}`,
        { hint: "Use a new cache, or dispose() of this one to empty it for another batch." },
      );
    }
    const need = Math.max(...lengths.map((n, b) => n + tokens[b]!));
    const capacity = need <= this.#capacity ? this.#capacity : this.room(need, this.#capacity);
    if (capacity < need) {
      throw new LimitError(
        `Cannot store ${Math.max(...tokens)} more tokens as the cache must hold all of a sequence: ` +
          `its capacity is ${capacity}, ${Math.max(...lengths)} are in use`,
        { hint: "Make the cache with a larger maxCacheLen, or generate fewer tokens." },
      );
    }
    if (capacity > this.#capacity) this.#grow(capacity);
    this.#lengths = lengths;
  }

  /** Stores, then attends. */
  attend(layer: number, q: Tensor, k: Tensor, v: Tensor, batch: Batch, options: AttentionOptions): Tensor {
    const [, heads = 0] = q.shape;
    const [, kvHeads = 0, headDim = 0] = k.shape;
    const kv = this.#layer(layer, { heads, kvHeads, headDim }, batch, options);
    storeKv(k, v, kv, batch.cuSeqlens);
    return this.#attend(q, kv, batch, options);
  }

  /** Where keys and values of `layer` go. */
  place(layer: number, shape: HeadShape, batch: Batch, options: AttentionOptions): KvPlace {
    const into = this.#layer(layer, shape, batch, options);
    return { into, attend: (q) => this.#attend(q, into, batch, options) };
  }

  #layer(layer: number, shape: HeadShape, batch: Batch, options: AttentionOptions): CachedKeyValues {
    const { device } = batch.tokens;
    const past = this.#pastOn(device);
    const { k, v, geometry } = this.#layers[layer] ??= this.#newLayer(device, shape, options);
    if (k.shape[1] !== shape.kvHeads || k.shape[3] !== shape.headDim) {
      throw new ShapeError(
        `Cannot use the cache as it must be of this model: its heads and their length are ${k.shape[1]} and ` +
          `${k.shape[3]}, the model's ${shape.kvHeads} and ${shape.headDim}`,
        { hint: "Use a new cache for each model." },
      );
    }
    return { k, v, geometry, past };
  }

  #attend(q: Tensor, kv: KeyValues, batch: Batch, { weights }: AttentionOptions): Tensor {
    if (weights) {
      const longest = Math.max(...this.#lengths.map((n, b) => n + batch.lengths[b]!));
      weights.push(attentionWeights(q, kv, batch.cuSeqlens, longest));
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
    const within = (n: number, b: number) => Number.isInteger(n) && n >= 0 && n <= this.#lengths[b]!;
    if (lengths.length !== this.#lengths.length || !lengths.every(within)) {
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
    this.#replace(this.#copies(this.#capacity, rows));
    this.#generation++;
    const lengths = rows.map((row) => this.#lengths[row]!);
    this.#lengths = lengths;
    this.#past?.write(lengths);
  }

  /** A copy that shares nothing. */
  fork(): KvCache {
    const copy = this.another();
    const rows = [...this.#lengths.keys()];
    copy.#lengths = [...this.#lengths];
    copy.#capacity = this.#capacity;
    copy.#layers = this.#copies(this.#capacity, rows);
    return copy;
  }

  /** Forgets all tokens. */
  reset(): void {
    if (this.#lengths.length) this.crop(this.#lengths.map(() => 0));
  }

  /** Disposes of `resource` with the cache. */
  keepWith(resource: Disposable): void {
    this.#kept.push(resource);
  }

  /** Returns the memory. */
  dispose(): void {
    for (const resource of this.#kept.splice(0)) resource[Symbol.dispose]();
    this.#replace([]);
    this.#past?.dispose();
    this.#past = undefined;
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

  #newLayer(device: Device, { heads, kvHeads, headDim: dim }: HeadShape, options: AttentionOptions): Layer {
    if (this.#dtype === "float16" && dim % 2 !== 0) {
      throw new ValueError(`Cannot cache keys as float16 as their length must be even: current length is ${dim}`, {
        hint: 'Use a cache of dtype "float32".',
      });
    }
    const shape = [this.#lengths.length, kvHeads, this.#capacity, dim];
    using made = new DisposableStack();
    const allocate = () => made.use(keep(device, empty(device, shape, this.#dtype, LONG_LIVED)));
    const layer = { k: allocate(), v: allocate(), geometry: this.#geometry(device, heads, shape, options) };
    made.move(); // nothing failed: they are the layer's
    return layer;
  }

  #geometry(
    device: Device,
    heads: number,
    shape: readonly number[],
    { scale, window, causal }: AttentionOptions,
  ): Tensor {
    const [, kvHeads = 0, capacity = 0, dim = 0] = shape;
    const lie = strides(kvHeads, capacity, dim);
    return keep(device, kvLayout(device, { heads, kvHeads, ...lie, window, scale, causal }));
  }

  #grow(capacity: number): void {
    this.#replace(this.#copies(capacity, [...this.#lengths.keys()]));
    for (const layer of this.#layers) {
      if (!layer) continue;
      const [, kvHeads = 0, , dim = 0] = layer.k.shape;
      setKvStrides(layer.geometry, strides(kvHeads, capacity, dim));
    }
    this.#capacity = capacity;
    this.#generation++;
  }

  #replace(layers: readonly (Layer | undefined)[]): void {
    this.#layers.forEach(disposeLayer);
    this.#layers = [...layers];
  }

  /** New layers of `capacity` whose sequences are `rows` of these; if one cannot be made, nothing of them stays. */
  #copies(capacity: number, rows: readonly number[]): (Layer | undefined)[] {
    using made = new DisposableStack();
    const copy = (t: Tensor) => made.use(this.#copied(t, capacity, rows));
    const layers = this.#layers.map((l) =>
      l && { k: copy(l.k), v: copy(l.v), geometry: made.use(duplicate(l.geometry)) }
    );
    made.move(); // nothing failed: they are the layers'
    return layers;
  }

  /** A buffer of `capacity` with the used part of the sequences of `t` in the order of `rows`. */
  #copied(t: Tensor, capacity: number, rows: readonly number[]): Tensor {
    const [, heads = 0, old = 0, dim = 0] = t.shape;
    const { device, dtype } = t;
    const to = keep(device, empty(device, [rows.length, heads, capacity, dim], dtype, LONG_LIVED));
    const line = dim * bytesPerElement(dtype);
    for (const [b, row] of rows.entries()) {
      for (let h = 0; h < heads; h++) {
        const from = (row * heads + h) * old * line, at = (b * heads + h) * capacity * line;
        device.stream.copy(
          t.buffer.gpu,
          t.byteOffset + from,
          to.buffer.gpu,
          to.byteOffset + at,
          this.#lengths[row]! * line,
        );
      }
    }
    return to;
  }
}

function disposeLayer(layer: Layer | undefined): void {
  layer?.k.dispose();
  layer?.v.dispose();
  layer?.geometry.dispose();
}

function duplicate(t: Tensor): Tensor {
  const to = keep(t.device, empty(t.device, t.shape, t.dtype));
  t.device.stream.copy(t.buffer.gpu, t.byteOffset, to.buffer.gpu, to.byteOffset, t.byteLength);
  return to;
}

/** Strides of `[B, Hkv, capacity, Dh]`. */
function strides(kvHeads: number, capacity: number, dim: number): Strides {
  return { sequenceStride: kvHeads * capacity * dim, headStride: capacity * dim, keyStride: dim };
}
