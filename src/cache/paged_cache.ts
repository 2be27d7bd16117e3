import type { Device } from "../gpu/mod.ts";
import { keep, type Tensor, tensor } from "../tensor/mod.ts";
import { type CacheDtype, KvCache } from "./kv_cache.ts";
import { bytesOf, type CachePass, type LayerStore, type StoreSpec } from "./layer_store.ts";
import { type PagedStore, PagePool } from "./page_pool.ts";
import { PAGE } from "./rings.ts";
import { ENDLESS } from "./sliding_window_cache.ts";

/** What a {@linkcode PagedCache} takes. */
export interface PagedCacheOptions {
  /** What keys and values are stored in. Default "float32". */
  dtype?: CacheDtype;
}

/**
 * A cache in pages of 64 tokens: forks and reordered rows share them, and a page is copied when one of those who share it
 * writes to it. Pages that no sequence needs are used again.
 *
 * Source: https://arxiv.org/abs/2309.06180
 *
 * @example
 * ```ts
 * import { PagedCache } from "@tensaur/tensaur";
 * using prefix = new PagedCache({ dtype: "float16" });
 * using continuation = prefix.fork(); // shares all pages
 * ```
 */
export class PagedCache extends KvCache {
  #pool = new PagePool();
  #tables: number[][] = [];
  #counts: Tensor | undefined; // [2B + B · P] uint32: past, zeros, pages
  #counted: CachePass | undefined;
  #formerPools = 0; // generations of the pools before this one

  /** An empty cache. */
  constructor({ dtype = "float32" }: PagedCacheOptions = {}) {
    super(dtype);
  }

  /** Changes whenever the pages move, or the page table does. */
  override get generation(): number {
    return super.generation + this.#pool.generation + this.#formerPools;
  }

  /** Bytes on the GPU; the pages that forks share count for each. */
  override get byteLength(): number {
    return super.byteLength + bytesOf(this.#counts);
  }

  /** Pages in use, those of forks included. */
  get pages(): number {
    return this.#pool.used;
  }

  /** Tokens that there are pages for. */
  override get capacity(): number {
    return PAGE * Math.max(0, ...this.#tables.map((table) => table.length));
  }

  /** Takes pages for `tokens` more, and copies those that are shared and written to. */
  override reserve(size: number, tokens: readonly number[]): void {
    super.reserve(size, tokens);
    while (this.#tables.length < size) this.#tables.push([]);
    const wanted = this.lengths.map((n, b) => Math.ceil((n + tokens[b]!) / PAGE));
    const copied = this.lengths.map((n, b) => {
      const page = this.#tables[b]![Math.floor(n / PAGE)];
      return tokens[b]! > 0 && n % PAGE > 0 && page !== undefined && this.#pool.shared(page);
    });
    const more = wanted.map((n, b) => Math.max(0, n - this.#tables[b]!.length) + (copied[b] ? 1 : 0));
    const sum = more.reduce((sum, n) => sum + n, 0);
    if (sum === 0) return;
    this.#pool.reserve(sum);
    for (const [b, table] of this.#tables.entries()) {
      if (copied[b]) this.#own(table, Math.floor(this.lengths[b]! / PAGE));
      while (table.length < wanted[b]!) table.push(this.#pool.take());
    }
    this.#writeTables();
  }

  /** Forgets the tokens from `lengths[b]` on, and gives their pages back. */
  override crop(lengths: readonly number[] | number): void {
    super.crop(lengths);
    for (const [b, table] of this.#tables.entries()) {
      for (const page of table.splice(Math.ceil(this.lengths[b]! / PAGE))) this.#pool.release(page);
    }
  }

  /** Returns the memory, where no fork needs it. */
  override dispose(): void {
    this.#release();
    super.dispose();
    this.#formerPools += this.#pool.generation;
    this.#pool = new PagePool();
  }

  /** A sequence may have any length. */
  protected override room(): number {
    return ENDLESS;
  }

  /** Pages of the pool. */
  protected override newStore(spec: StoreSpec, layer: number): LayerStore {
    return this.#pool.store(layer, spec);
  }

  /** A new, empty cache of the same kind. */
  protected override another(): KvCache {
    return new PagedCache({ dtype: this.dtype });
  }

  /** Rows share the pages of those that they come from. */
  protected override become(rows: readonly number[]): void {
    const tables = this.#shared(rows);
    this.#release();
    super.become(rows);
    this.#tables = tables;
    this.#writeTables();
  }

  /** A cache that shares the pages. */
  protected override copyOf(rows: readonly number[]): this {
    const copy = super.copyOf(rows);
    copy.#pool = this.#pool;
    copy.#tables = this.#shared(rows);
    return copy;
  }

  /** Stores are shared; what is written is not. */
  protected override shares(): boolean {
    return false;
  }

  /** What the stores are told. */
  protected override passFor(batch: CachePass["batch"]): CachePass {
    const pass = super.passFor(batch);
    return pass.pages ? pass : Object.assign(pass, { pages: () => this.#countsOf(pass) });
  }

  /** What is there of `layer`. */
  protected override view(store: LayerStore): Pick<LayerStore, "spec" | "contents"> {
    const contents = (lengths: readonly number[]) => (store as PagedStore).read(this.#tables, lengths);
    return { spec: store.spec, contents };
  }

  #own(table: number[], index: number): void {
    const shared = table[index]!, own = this.#pool.take();
    this.#pool.copy(shared, own);
    this.#pool.release(shared);
    table[index] = own;
  }

  #shared(rows: readonly number[]): number[][] {
    return rows.map((row) => (this.#tables[row] ?? []).map((page) => this.#pool.share(page)));
  }

  #release(): void {
    for (const page of this.#tables.flat()) this.#pool.release(page);
    this.#tables = [];
    this.#counts?.dispose();
    this.#counts = undefined;
  }

  /** [2B + B · P] uint32, with the counts of this pass. */
  #countsOf(pass: CachePass): Tensor {
    const { past } = pass, counts = this.#counts ??= this.#newCounts(past.device);
    if (this.#counted !== pass) {
      past.device.stream.copy(past.buffer.gpu, past.byteOffset, counts.buffer.gpu, counts.byteOffset, past.byteLength);
    }
    this.#counted = pass;
    return counts;
  }

  #newCounts(device: Device): Tensor {
    const B = this.#tables.length, longest = Math.max(1, ...this.#tables.map((table) => table.length));
    const P = 2 ** Math.ceil(Math.log2(longest));
    const words = [
      ...Array<number>(2 * B).fill(0),
      ...this.#tables.flatMap((table) => [...table, ...Array<number>(P - table.length).fill(0)]),
    ];
    return keep(device, tensor(device, words, [words.length], "uint32"));
  }

  /** Puts the tables on the GPU, in place where they still fit. */
  #writeTables(): void {
    const old = this.#counts, B = this.#tables.length;
    if (!old) return;
    const P = old.size / B - 2;
    const fits = Number.isInteger(P) && this.#tables.every((table) => table.length <= P);
    this.#counted = undefined;
    if (!fits) {
      this.#counts = this.#newCounts(old.device);
      old.dispose();
      this.moved();
      return;
    }
    const pages = this.#tables.flatMap((table) => [...table, ...Array<number>(P - table.length).fill(0)]);
    const bytes = new Uint8Array(new Uint32Array(pages).buffer);
    old.device.stream.write(old.buffer, old.byteOffset + 8 * B, bytes);
  }
}
