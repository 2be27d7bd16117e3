/**
 * What all caches of keys and values share: they count the tokens of each sequence, on the host and on the GPU, and keep a
 * {@linkcode LayerStore} a layer.
 *
 * @module
 */
import { LimitError, ShapeError, ValueError } from "../errors.ts";
import { type Device, kernel } from "../gpu/mod.ts";
import advanceWgsl from "../shaders/advance.wgsl" with { type: "text" };
import { keep, type Tensor, tensor } from "../tensor/mod.ts";
import type { Batch } from "./batch.ts";
import type { AttentionOptions, HeadShape, KvPlace } from "./cache.ts";
import { ContiguousStore } from "./contiguous_store.ts";
import { bytesOf, type CacheDtype, type CachePass, type LayerStore, type StoreSpec } from "./layer_store.ts";
import { Rings } from "./rings.ts";

const launchAdvance = kernel("advance", advanceWgsl);

/** Keys and values of a model's layers. How each layer's lie is up to {@linkcode LayeredCache.newStore}. */
export abstract class LayeredCache implements Disposable {
  /** A store a layer; undefined where a layer holds nothing. */
  protected stores: (LayerStore | undefined)[] = [];
  #lengths: number[] = [];
  #past: Tensor | undefined;
  #capacity = 0;
  #generation = 0;
  /** Tokens that each sequence has had since it began, as rings count what they have lost. */
  protected reach: number[] = [];
  readonly #rings = new Rings();
  readonly #kept: Disposable[] = [];
  #pass: CachePass | undefined;
  readonly #dtype: CacheDtype;

  /** An empty cache that stores keys and values as `dtype`. */
  constructor(dtype: CacheDtype) {
    this.#dtype = dtype;
  }

  /** How many tokens a sequence may have, now that it needs `tokens` and the present buffers hold `capacity`. */
  protected abstract room(tokens: number, capacity: number): number;

  /** A new, empty cache of the same kind. */
  protected abstract another(): LayeredCache;

  /** An empty store for `layer`; `options` where a forward pass asks for it. */
  protected newStore(spec: StoreSpec, _layer: number, _options?: AttentionOptions): LayerStore {
    return new ContiguousStore(spec);
  }

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

  /** Bytes on the GPU, as the pool counts them; what forks share counts for each. */
  get byteLength(): number {
    const control = bytesOf(this.#past) + this.#rings.byteLength;
    return this.stores.reduce((sum, store) => sum + (store?.byteLength ?? 0), control);
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
    this.admit(tokens, lengths);
    const need = Math.max(...lengths.map((n, b) => n + tokens[b]!));
    const capacity = need <= this.#capacity ? this.#capacity : this.room(need, this.#capacity);
    if (capacity < need) {
      throw new LimitError(
        `Cannot store ${Math.max(...tokens)} more tokens as the cache must hold all of a sequence: ` +
          `its capacity is ${capacity}, ${Math.max(...lengths)} are in use`,
        { hint: "Make the cache with a larger maxCacheLen, or generate fewer tokens." },
      );
    }
    if (capacity > this.#capacity || this.stores.some((store) => this.shares(store))) {
      this.#grow(Math.max(capacity, this.#capacity));
    }
    this.setLengths(lengths);
  }

  /** Throws if `tokens` more cannot be taken. */
  protected admit(_tokens: readonly number[], _lengths: readonly number[]): void {}

  /** Stores, then attends. */
  attend(layer: number, q: Tensor, k: Tensor, v: Tensor, batch: Batch, options: AttentionOptions): Tensor {
    const [, heads = 0] = q.shape;
    const [, kvHeads = 0, headDim = 0] = k.shape;
    const store = this.#store(layer, { heads, kvHeads, headDim }, batch, options);
    return store.attend(q, k, v, this.passFor(batch), options);
  }

  /** How `layer` attends from its projection on, if keys and values lie in the cache as they are made. */
  place(layer: number, shape: HeadShape, batch: Batch, options: AttentionOptions): KvPlace | undefined {
    const store = this.#store(layer, shape, batch, options);
    if (!store.attendProjected) return undefined;
    const pass = this.passFor(batch);
    return { attend: (projection) => store.attendProjected!(projection, pass, options) };
  }

  /** Counts the batch's tokens on the GPU. */
  advance(batch: Batch): void {
    const past = this.pastOn(batch.tokens.device);
    launchAdvance(batch.tokens.device, {
      bindings: { cuSeqlens: batch.cuSeqlens, past },
      grid: [Math.ceil(batch.size / 64)],
    });
    this.#pass = undefined;
  }

  /** Counts tokens on the host. */
  advanced(tokens: readonly number[]): void {
    this.setLengths(this.#lengths.map((n, b) => n + tokens[b]!));
  }

  /**
   * Forgets the tokens from `lengths[b]` on; a number holds for all sequences and does nothing to shorter ones, and a
   * negative one says how many tokens to take off the end.
   */
  crop(lengths: readonly number[] | number): void {
    const now = this.#lengths, each = typeof lengths === "number" ? now.map((n) => cropped(n, lengths)) : lengths;
    const within = (n: number, b: number) => Number.isInteger(n) && n >= 0 && n <= now[b]!;
    if (each.length !== now.length || !each.every(within)) {
      throw new ValueError(
        `Cannot crop the cache as each length must be from 0 to what is there (${now}): current value is ${lengths}`,
      );
    }
    for (const store of this.stores) store?.crop?.(each, this.reach);
    this.setPast(each);
  }

  /** An independent copy. What it holds is copied when either of the two is written to. */
  fork(): this {
    return this.copyOf([...this.#lengths.keys()]);
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
    this.setPast([]);
    this.#capacity = 0;
    this.#generation++;
  }

  /** As {@linkcode dispose}. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Sets the tokens of each sequence, on the GPU too. */
  protected setPast(lengths: readonly number[]): void {
    if (lengths.length === this.#past?.size) this.#past.write(lengths);
    else {
      this.#past?.dispose();
      this.#past = undefined;
      this.#rings[Symbol.dispose]();
    }
    this.setLengths(lengths);
  }

  /** Sets the tokens of each sequence on the host. */
  protected setLengths(lengths: readonly number[]): void {
    this.#lengths = [...lengths];
    this.reach = lengths.map((n, b) => n === 0 ? 0 : Math.max(n, this.reach[b] ?? 0));
    this.#pass = undefined;
  }

  /** [B] uint32: tokens of each sequence, on the GPU. */
  protected pastOn(device: Device): Tensor {
    return this.#past ??= keep(device, tensor(device, this.#lengths, [this.#lengths.length], "uint32"));
  }

  /** What a store of this cache is made for. */
  protected spec(device: Device, kvHeads: number, headDim: number): StoreSpec {
    if (this.#dtype === "float16" && headDim % 2 !== 0) {
      throw new ValueError(`Cannot cache keys as float16 as their length must be even: current length is ${headDim}`, {
        hint: 'Use a cache of dtype "float32".',
      });
    }
    return { device, size: this.#lengths.length, capacity: this.#capacity, kvHeads, headDim, dtype: this.#dtype };
  }

  /** Makes sequence b what sequence `rows[b]` was; there may be more or fewer of them afterwards. */
  protected become(rows: readonly number[]): void {
    const lengths = rows.map((row) => this.#lengths[row]!);
    this.#replace(this.#copies(this.#capacity, rows));
    this.#generation++;
    this.reach = rows.map((row) => this.reach[row]!);
    this.setPast(lengths);
  }

  /** A new cache of the sequences `rows`. */
  protected copyOf(rows: readonly number[]): this {
    const copy = this.another() as this;
    const all = rows.length === this.#lengths.length && rows.every((row, b) => row === b);
    copy.stores = all ? this.stores.map((store) => store && share(store)) : this.#copies(this.#capacity, rows);
    copy.#lengths = rows.map((row) => this.#lengths[row]!);
    copy.reach = rows.map((row) => this.reach[row]!);
    copy.#capacity = this.#capacity;
    return copy;
  }

  /** What the stores are told of a batch; the same object within a pass. */
  protected passFor(batch: CachePass["batch"]): CachePass {
    if (this.#pass?.batch === batch) return this.#pass;
    const past = this.pastOn(batch.cuSeqlens.device), lengths = this.#lengths;
    const pass: CachePass = { batch, past, lengths, ring: (shape) => this.#rings.of(pass, shape) };
    return this.#pass = pass;
  }

  /** Whether a store must be copied before it is written to. */
  protected shares(store: LayerStore | undefined): boolean {
    return store !== undefined && (sharers.get(store) ?? 0) > 0;
  }

  /** Says that recordings made against the buffers of before must not be replayed. */
  protected moved(): void {
    this.#generation++;
  }

  #store(layer: number, { kvHeads, headDim }: HeadShape, batch: Batch, options: AttentionOptions): LayerStore {
    const spec = () => this.spec(batch.tokens.device, kvHeads, headDim);
    const store = this.stores[layer] ??= this.newStore(spec(), layer, options);
    if (store.spec.kvHeads === kvHeads && store.spec.headDim === headDim) return store;
    throw new ShapeError(
      `Cannot use the cache as it must be of this model: its heads and their length are ${store.spec.kvHeads} and ` +
        `${store.spec.headDim}, the model's ${kvHeads} and ${headDim}`,
      { hint: "Use a new cache for each model." },
    );
  }

  #grow(capacity: number): void {
    this.#replace(this.#copies(capacity, [...this.#lengths.keys()]));
    this.#capacity = capacity;
    this.#generation++;
  }

  #replace(stores: readonly (LayerStore | undefined)[]): void {
    for (const store of this.stores) if (store) release(store);
    this.stores = [...stores];
  }

  /** New stores of `capacity` whose sequences are `rows` of these; if one cannot be made, nothing of them stays. */
  #copies(capacity: number, rows: readonly number[]): (LayerStore | undefined)[] {
    using made = new DisposableStack();
    const stores = this.stores.map((store) => store && made.use(store.copy(rows, this.#lengths, capacity)));
    made.move(); // nothing failed: they are the cache's
    return stores;
  }
}

/** How many caches beside the first hold a store that forks share. */
const sharers = new WeakMap<LayerStore, number>();

function share(store: LayerStore): LayerStore {
  sharers.set(store, (sharers.get(store) ?? 0) + 1);
  return store;
}

function release(store: LayerStore): void {
  const others = sharers.get(store) ?? 0;
  if (others === 0) store[Symbol.dispose]();
  else sharers.set(store, others - 1);
}

/** What a sequence of `length` keeps under `crop(limit)`. */
function cropped(length: number, limit: number): number {
  return limit < 0 ? length + limit : Math.min(length, limit);
}
