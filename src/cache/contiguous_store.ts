/**
 * Keys and values of a layer in two buffers `[B, Hkv, capacity, Dh]`.
 *
 * @module
 */
import { type CachedKeyValues, copyKvLayout, kvLayout, setKvStrides, storeKv, type Strides } from "../ops/attention.ts";
import { gatherRows } from "../ops/gather_rows.ts";
import type { PackedProjection } from "../ops/qkv_rope.ts";
import { bytesPerElement, empty, keep, type Tensor, tensor, type TypedArray } from "../tensor/mod.ts";
import type { AttentionOptions } from "./cache.ts";
import {
  attendOver,
  attendProjected,
  bytesOf,
  type CachePass,
  type LayerStore,
  type PackedKv,
  packedRows,
  type StoreSpec,
} from "./layer_store.ts";

const LONG_LIVED = { exact: true, label: "the cache" };

/** A layer of a {@linkcode DynamicCache} or a {@linkcode StaticCache}. */
export class ContiguousStore implements LayerStore {
  readonly #k: Tensor;
  readonly #v: Tensor;
  #geometry: Tensor | undefined; // once it is known how the layer attends

  /** An empty store. */
  constructor(readonly spec: StoreSpec) {
    const { device, size, kvHeads, capacity, headDim, dtype } = spec;
    const shape = [size, kvHeads, capacity, headDim];
    using made = new DisposableStack();
    const allocate = () => made.use(keep(device, empty(device, shape, dtype, LONG_LIVED)));
    this.#k = allocate();
    this.#v = allocate();
    made.move(); // nothing failed: they are the store's
  }

  /** Bytes on the GPU. */
  get byteLength(): number {
    return bytesOf(this.#k, this.#v, this.#geometry);
  }

  /** Stores, then attends. */
  attend(q: Tensor, k: Tensor, v: Tensor, pass: CachePass, options: AttentionOptions): Tensor {
    const kv = this.#keyValues(q.shape[1]!, pass, options);
    this.append(k, v, pass, kv.geometry);
    return attendOver(q, kv, pass, options);
  }

  /** The same of a projection. */
  attendProjected(projection: PackedProjection, pass: CachePass, options: AttentionOptions): Tensor {
    return attendProjected(projection, this.#keyValues(projection.heads, pass, options), pass, options);
  }

  /** Stores behind what is there. */
  append(k: Tensor, v: Tensor, { batch, past }: CachePass, geometry?: Tensor): void {
    using own = geometry ? undefined : this.#newLayout(this.spec.kvHeads, { scale: 1, causal: true });
    storeKv(k, v, { k: this.#k, v: this.#v, geometry: (geometry ?? own)!, past }, batch.cuSeqlens);
  }

  /** Overwrites all from the host, [B, Hkv, capacity, Dh]. */
  fill(k: TypedArray, v: TypedArray): void {
    this.#k.write(k);
    this.#v.write(v);
  }

  #keyValues(heads: number, { past }: CachePass, options: AttentionOptions): CachedKeyValues {
    return { k: this.#k, v: this.#v, geometry: this.#layout(heads, options), past };
  }

  /** What is there. */
  contents(lengths: readonly number[]): PackedKv {
    const { device, kvHeads, headDim } = this.spec;
    const rows = packedRows(this.spec, lengths);
    using index = tensor(device, rows, [rows.length], "uint32");
    const packed = (t: Tensor) => {
      using all = t.reshape([-1, headDim]);
      using taken = gatherRows(all, index);
      return taken.reshape([rows.length / kvHeads, kvHeads, headDim]);
    };
    return { k: packed(this.#k), v: packed(this.#v) };
  }

  /** A copy of some sequences. */
  copy(rows: readonly number[], lengths: readonly number[], capacity: number): ContiguousStore {
    using made = new DisposableStack();
    const to = made.use(new ContiguousStore({ ...this.spec, size: rows.length, capacity }));
    if (this.#geometry) {
      to.#geometry = copyKvLayout(this.#geometry);
      if (capacity !== this.spec.capacity) setKvStrides(to.#geometry, stridesOf(to.spec));
    }
    const { kvHeads, headDim, dtype, device } = this.spec, line = headDim * bytesPerElement(dtype);
    for (const [from, into] of [[this.#k, to.#k], [this.#v, to.#v]] as const) {
      for (const [b, row] of rows.entries()) {
        for (let h = 0; h < kvHeads; h++) {
          const at = (row * kvHeads + h) * this.spec.capacity * line, target = (b * kvHeads + h) * capacity * line;
          const { gpu } = from.buffer, bytes = lengths[row]! * line;
          device.stream.copy(gpu, from.byteOffset + at, into.buffer.gpu, into.byteOffset + target, bytes);
        }
      }
    }
    made.move(); // nothing failed: it is the caller's
    return to;
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    this.#k.dispose();
    this.#v.dispose();
    this.#geometry?.dispose();
  }

  #layout(heads: number, options: AttentionOptions): Tensor {
    return this.#geometry ??= keep(this.spec.device, this.#newLayout(heads, options));
  }

  #newLayout(heads: number, options: AttentionOptions): Tensor {
    const { device, kvHeads } = this.spec;
    return kvLayout(device, { heads, kvHeads, ...options, ...stridesOf(this.spec), counts: "past" });
  }
}

function stridesOf({ kvHeads, capacity, headDim }: StoreSpec): Strides {
  return { sequenceStride: kvHeads * capacity * headDim, headStride: capacity * headDim, keyStride: headDim };
}
