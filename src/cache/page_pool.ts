/**
 * Pages of keys and values that several caches share, counted by reference.
 *
 * @module
 */
import { type CachedKeyValues, kvLayout, setKvStrides, storeKv, type Strides } from "../ops/attention.ts";
import type { PackedProjection } from "../ops/qkv_rope.ts";
import { gatherRows } from "../ops/gather_rows.ts";
import { bytesPerElement, empty, keep, type Tensor, tensor } from "../tensor/mod.ts";
import type { AttentionOptions } from "./cache.ts";
import {
  attendOver,
  attendProjected,
  bytesOf,
  type CachePass,
  type LayerStore,
  type PackedKv,
  type StoreSpec,
} from "./layer_store.ts";
import { PAGE } from "./rings.ts";

const LONG_LIVED = { exact: true, label: "the cache" };

/** Which pages are in use, how often, and a store of them for each layer. */
export class PagePool {
  readonly #stores: (PagedStore | undefined)[] = [];
  readonly #uses: number[] = []; // of each page
  readonly #free: number[] = [];
  #generation = 0;

  /** Changes when the pages move. */
  get generation(): number {
    return this.#generation;
  }

  /** Pages in use. */
  get used(): number {
    return this.#uses.length - this.#free.length;
  }

  /** The store of `layer`; it stays until as many have disposed of it as have asked for it. */
  store(layer: number, spec: StoreSpec): PagedStore {
    const known = this.#stores[layer];
    if (known) return known.retain();
    const store = new PagedStore(spec, this.#uses.length, () => this.#stores[layer] = undefined);
    return this.#stores[layer] = store;
  }

  /** Makes sure that `pages` more can be taken; throws before anything changes. */
  reserve(pages: number): void {
    if (pages <= this.#free.length) return;
    const total = Math.max(2 * this.#uses.length, this.#uses.length + pages - this.#free.length);
    using grown = new DisposableStack();
    const moves = this.#stores.map((store) => store && grown.use(store.grown(total)));
    grown.move(); // nothing failed: they are the stores'
    moves.forEach((move) => move?.apply());
    const fresh = Array.from({ length: total - this.#uses.length }, (_, i) => total - 1 - i); // the first is taken first
    this.#free.unshift(...fresh);
    this.#uses.push(...fresh.map(() => 0));
    this.#generation++;
  }

  /** A page that nobody uses, from those reserved. */
  take(): number {
    const page = this.#free.pop()!;
    this.#uses[page] = 1;
    return page;
  }

  /** Uses `page` once more. */
  share(page: number): number {
    this.#uses[page]!++;
    return page;
  }

  /** Whether more than one sequence uses `page`. */
  shared(page: number): boolean {
    return this.#uses[page]! > 1;
  }

  /** Uses `page` once less. */
  release(page: number): void {
    if (--this.#uses[page]! === 0) this.#free.push(page);
  }

  /** Copies a page in all layers. */
  copy(from: number, to: number): void {
    for (const store of this.#stores) store?.copyPage(from, to);
  }
}

/** Pages of one layer, [1, Hkv, 64 · pages, Dh]: pages in a row lie in a row, which is quicker to read. */
export class PagedStore implements LayerStore {
  #k: Tensor;
  #v: Tensor;
  #geometry: Tensor | undefined;
  #references = 1;
  readonly #end: () => void;

  /** A store of `pages` pages; `end` is called when the last that uses it has disposed of it. */
  constructor(readonly spec: StoreSpec, pages: number, end: () => void) {
    using made = new DisposableStack();
    this.#k = made.use(this.#pages(pages));
    this.#v = made.use(this.#pages(pages));
    made.move(); // nothing failed: they are the store's
    this.#end = end;
  }

  /** Bytes on the GPU. */
  get byteLength(): number {
    return bytesOf(this.#k, this.#v, this.#geometry);
  }

  /** The same store for one more. */
  retain(): this {
    this.#references++;
    return this;
  }

  /** Stores, then attends. */
  attend(q: Tensor, k: Tensor, v: Tensor, pass: CachePass, options: AttentionOptions): Tensor {
    const kv = this.#keyValues(q.shape[1]!, pass, options);
    storeKv(k, v, kv, pass.batch.cuSeqlens);
    return attendOver(q, kv, pass, options);
  }

  /** The same of a projection. */
  attendProjected(projection: PackedProjection, pass: CachePass, options: AttentionOptions): Tensor {
    return attendProjected(projection, this.#keyValues(projection.heads, pass, options), pass, options);
  }

  #keyValues(heads: number, pass: CachePass, options: AttentionOptions): CachedKeyValues {
    return this.#with(this.#geometry ??= keep(this.spec.device, this.#layout(heads, options)), pass);
  }

  #with(geometry: Tensor, pass: CachePass): CachedKeyValues {
    return { k: this.#k, v: this.#v, geometry, past: pass.pages!(), paged: true };
  }

  /** Stores behind what is there. */
  append(k: Tensor, v: Tensor, pass: CachePass): void {
    using geometry = this.#layout(this.spec.kvHeads, { scale: 1, causal: true });
    storeKv(k, v, this.#with(geometry, pass), pass.batch.cuSeqlens);
  }

  /** Sequences know their pages: see {@linkcode PagedStore.read}. */
  contents(): PackedKv {
    return this.read([], []);
  }

  /** The first `lengths[b]` tokens of sequences whose pages are `tables[b]`. */
  read(tables: readonly (readonly number[])[], lengths: readonly number[]): PackedKv {
    const { device, kvHeads, headDim } = this.spec, slots = this.#k.shape[2]!, rows: number[] = [];
    for (const [b, n] of lengths.entries()) {
      for (let i = 0; i < n; i++) {
        const page = tables[b]![Math.floor(i / PAGE)]!;
        for (let h = 0; h < kvHeads; h++) rows.push(h * slots + page * PAGE + i % PAGE);
      }
    }
    using index = tensor(device, rows, [rows.length], "uint32");
    const packed = (t: Tensor) => {
      using all = t.reshape([-1, headDim]);
      using taken = gatherRows(all, index);
      return taken.reshape([rows.length / kvHeads, kvHeads, headDim]);
    };
    return { k: packed(this.#k), v: packed(this.#v) };
  }

  /** Pages are shared, not copied. */
  copy(): PagedStore {
    return this.retain();
  }

  /** The buffers for `pages` pages, filled; `apply` puts them in place. */
  grown(pages: number): Disposable & { apply(): void } {
    using made = new DisposableStack();
    const [k, v] = [this.#k, this.#v].map((from) => {
      const to = made.use(this.#pages(pages)), { kvHeads } = this.spec, bytes = from.byteLength / kvHeads;
      for (let h = 0; h < kvHeads; h++) this.#copy(from, h * bytes, to, h * to.byteLength / kvHeads, bytes);
      return to;
    }) as [Tensor, Tensor];
    const owned = made.move();
    const apply = () => {
      this.#k.dispose();
      this.#v.dispose();
      [this.#k, this.#v] = [k, v];
      if (this.#geometry) setKvStrides(this.#geometry, this.#strides());
    };
    return { apply, [Symbol.dispose]: () => owned.dispose() };
  }

  /** Copies one page. */
  copyPage(from: number, to: number): void {
    const { kvHeads, headDim, dtype, device } = this.spec, bytes = PAGE * headDim * bytesPerElement(dtype);
    using page = empty(device, [kvHeads, PAGE, headDim], dtype); // a copy within a buffer must go through another
    for (const t of [this.#k, this.#v]) {
      const at = (h: number, index: number) => h * t.byteLength / kvHeads + index * bytes;
      for (let h = 0; h < kvHeads; h++) this.#copy(t, at(h, from), page, h * bytes, bytes);
      for (let h = 0; h < kvHeads; h++) this.#copy(page, h * bytes, t, at(h, to), bytes);
    }
  }

  /** Returns the memory, once nobody uses it. */
  [Symbol.dispose](): void {
    if (--this.#references > 0) return;
    this.#k.dispose();
    this.#v.dispose();
    this.#geometry?.dispose();
    this.#end();
  }

  #pages(pages: number): Tensor {
    const { device, kvHeads, headDim, dtype } = this.spec;
    return keep(device, empty(device, [1, kvHeads, pages * PAGE, headDim], dtype, LONG_LIVED));
  }

  #copy(from: Tensor, at: number, to: Tensor, into: number, bytes: number): void {
    from.device.stream.copy(from.buffer.gpu, from.byteOffset + at, to.buffer.gpu, to.byteOffset + into, bytes);
  }

  #layout(heads: number, options: AttentionOptions): Tensor {
    const { device, kvHeads } = this.spec;
    return kvLayout(device, { heads, kvHeads, ...options, ...this.#strides(), counts: "past" });
  }

  #strides(): Strides {
    const { headDim } = this.spec;
    return { sequenceStride: PAGE * headDim, headStride: this.#k.shape[2]! * headDim, keyStride: headDim };
  }
}
