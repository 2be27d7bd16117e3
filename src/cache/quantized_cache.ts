import { NotSupportedError } from "../errors.ts";
import { type Device, kernel } from "../gpu/mod.ts";
import type { KvScheme } from "../ops/kv_quantization.ts";
import countsWgsl from "../shaders/kv_counts.wgsl" with { type: "text" };
import { empty, keep, type Tensor, tensor } from "../tensor/mod.ts";
import type { CacheState } from "./cache_state.ts";
import { type CacheDtype, KvCache } from "./kv_cache.ts";
import { bytesOf, type CachePass, type LayerStore, type StoreSpec } from "./layer_store.ts";
import { type QuantizedCacheConfig, quantizedConfig, schemeOf } from "./quantized_config.ts";
import { type Change, QuantizedStore } from "./quantized_store.ts";
import { ENDLESS } from "./sliding_window_cache.ts";
import { type CacheProperties, COMPACT } from "./properties.ts";

const count = kernel("kv_counts", countsWgsl);

/** What a {@linkcode QuantizedCache} takes. */
export interface QuantizedCacheOptions extends QuantizedCacheConfig {
  /** What the last tokens are stored in. Default "float16". */
  dtype?: CacheDtype;
}

/**
 * A cache whose keys and values are codes of a few bits, made numbers within the attention kernel; the first input attends
 * to itself unrounded, and the last `residualLength` tokens stay as they are.
 *
 * Sources: https://arxiv.org/abs/2402.02750, Transformers' `QuantizedCache`.
 *
 * @throws {ValueError} if the config is not possible
 *
 * @example
 * ```ts
 * import { QuantizedCache } from "@tensaur/tensaur";
 * using cache = new QuantizedCache({ nbits: 4 });
 * console.log(cache.config.qGroupSize); // 64
 * ```
 */
export class QuantizedCache extends KvCache {
  /** What it is good for. */
  static readonly properties: CacheProperties = COMPACT;
  /** The config with its defaults. */
  readonly config: Required<QuantizedCacheConfig>;
  readonly #scheme: KvScheme;
  #quantized: number[] = [];
  #onGpu: Tensor | undefined; // [B] uint32: #quantized
  #counts: Tensor | undefined; // [2B] uint32, of the pass
  #counted: CachePass | undefined;

  /** An empty cache. */
  constructor({ dtype = "float16", ...config }: QuantizedCacheOptions = {}) {
    super(dtype);
    this.config = quantizedConfig(config);
    this.#scheme = schemeOf(this.config);
  }

  /** Bytes on the GPU. */
  override get byteLength(): number {
    return super.byteLength + bytesOf(this.#onGpu, this.#counts);
  }

  /** Tokens that are in codes, of each sequence. */
  get quantizedLengths(): readonly number[] {
    return this.#quantized;
  }

  /** Tokens before all is quantized anew. */
  horizon(): number {
    const most = this.#most, used = Math.max(0, ...this.#rest());
    return used >= most ? most : most - used;
  }

  /** Quantizes what has come together, and makes room for the rest. */
  override reserve(size: number, tokens: readonly number[]): void {
    super.reserve(size, tokens);
    if (this.lengths.every((n) => n === 0)) return;
    if (Math.max(...this.#rest()) >= this.#most) this.#quantize();
    const used = this.#rest(), need = Math.max(...used.map((n, b) => n + tokens[b]!));
    this.#change((store) => store.widen(need, used));
  }

  /** Counts tokens on the host; those of the first batch are in codes. */
  override advanced(tokens: readonly number[]): void {
    const first = this.lengths.every((n) => n === 0);
    super.advanced(tokens);
    const [store] = this.stores as (QuantizedStore | undefined)[];
    if (first && store) this.#setQuantized(store.quantizable(this.lengths));
  }

  /** Forgets the tokens from `lengths[b]` on. */
  override crop(lengths: readonly number[] | number): void {
    super.crop(lengths);
    if (this.#quantized.length) this.#setQuantized(this.#quantized.map((n, b) => Math.min(n, this.lengths[b]!)));
  }

  /** Returns the memory. */
  override dispose(): void {
    super.dispose();
    this.#setQuantized([]);
  }

  /** False: its keys are not those that a model made. */
  override get isExact(): boolean {
    return false;
  }

  /** All that it holds, as it lies. */
  override get state(): CacheState {
    return { ...this.stateOf("quantized", { ...this.config, dtype: this.dtype }), quantized: [...this.#quantized] };
  }

  /** A cache of what {@linkcode QuantizedCache.state} gave; the tensors are copied. */
  static restore(state: CacheState, device: Device): QuantizedCache {
    const cache = new QuantizedCache(state.options as QuantizedCacheOptions).resume(state, device);
    cache.#setQuantized(state.quantized ?? []);
    return cache;
  }

  /** Fills an empty cache: the tensors count as a first input. */
  override adopt(...[layers, lengths, optionsOf]: Parameters<KvCache["adopt"]>): void {
    super.adopt(layers, lengths, optionsOf);
    const [store] = this.stores as (QuantizedStore | undefined)[];
    if (store) this.#setQuantized(store.quantizable(lengths));
  }

  /** A sequence may have any length. */
  protected override room(): number {
    return ENDLESS;
  }

  /** Codes. */
  protected override newStore(spec: StoreSpec): LayerStore {
    if (spec.headDim % 4 === 0) return new QuantizedStore(spec, this.#scheme);
    throw new NotSupportedError(
      `Cannot quantize the cache as the length of a head must be a multiple of 4: current length is ${spec.headDim}`,
    );
  }

  /** A new, empty cache of the same kind. */
  protected override another(): KvCache {
    return new QuantizedCache({ ...this.config, dtype: this.dtype });
  }

  /** Rows keep what is in codes. */
  protected override become(rows: readonly number[]): void {
    super.become(rows);
    this.#setQuantized(rows.map((row) => this.#quantized[row] ?? 0));
  }

  /** A copy of some rows. */
  protected override copyOf(rows: readonly number[]): this {
    const copy = super.copyOf(rows);
    copy.#quantized = rows.map((row) => this.#quantized[row] ?? 0);
    return copy;
  }

  /** What the stores are told. */
  protected override passFor(batch: CachePass["batch"]): CachePass {
    const pass = super.passFor(batch);
    const first = pass.lengths.every((n) => n === 0);
    return pass.quantized ? pass : Object.assign(pass, { quantized: () => ({ counts: this.#countsOf(pass), first }) });
  }

  /** What is there of a layer. */
  protected override view(store: LayerStore): Pick<LayerStore, "spec" | "contents"> {
    const contents = (lengths: readonly number[]) => {
      this.#change((each) => each.widen(1, this.#rest()));
      const words = [...this.#rest(), ...this.#quantized];
      using counts = tensor(store.spec.device, words, [words.length], "uint32");
      return (store as QuantizedStore).read(lengths, counts);
    };
    return { spec: store.spec, contents };
  }

  /** Tokens that are not in codes. */
  #rest(): number[] {
    return this.lengths.map((n, b) => n - (this.#quantized[b] ?? 0));
  }

  /** Tokens in the rest from which on all is quantized: never at the first one after that, as Transformers has it. */
  get #most(): number {
    return Math.max(2, this.config.residualLength);
  }

  #quantize(): void {
    const [first] = this.stores as (QuantizedStore | undefined)[];
    if (!first) return;
    const quantized = first.quantizable(this.lengths), before = this.#quantized;
    if (quantized.every((n, b) => n === before[b])) return;
    this.#change((store) => store.widen(1, this.#rest()));
    const words = [...this.#rest(), ...before];
    using counts = tensor(first.spec.device, words, [words.length], "uint32");
    this.#change((store) => store.quantize(this.lengths, quantized, before, counts));
    this.#setQuantized(quantized);
  }

  /** Makes a change of all layers, or of none. */
  #change(change: (store: QuantizedStore) => Change | undefined): void {
    using made = new DisposableStack();
    const changes = (this.stores as (QuantizedStore | undefined)[]).map((store) => {
      const one = store && change(store);
      return one && made.use(one);
    });
    made.move(); // nothing failed: they are the stores'
    for (const one of changes) one?.apply();
    if (changes.some(Boolean)) this.moved();
  }

  #setQuantized(quantized: readonly number[]): void {
    this.#quantized = [...quantized];
    this.#counted = undefined;
    if (this.#onGpu?.size === quantized.length) return this.#onGpu.write(quantized);
    this.#onGpu?.dispose();
    this.#counts?.dispose();
    this.#onGpu = this.#counts = undefined;
  }

  #countsOf(pass: CachePass): Tensor {
    const { past } = pass, B = past.size, { device } = past;
    const quantized = this.#onGpu ??= this.#newQuantized(device, B);
    const counts = this.#counts ??= keep(device, empty(device, [2 * B], "uint32"));
    if (this.#counted !== pass) count(device, { bindings: { past, quantized, counts }, grid: [Math.ceil(B / 64)] });
    this.#counted = pass;
    return counts;
  }

  #newQuantized(device: Device, size: number): Tensor {
    if (this.#quantized.length !== size) this.#quantized = Array<number>(size).fill(0);
    return keep(device, tensor(device, this.#quantized, [size], "uint32"));
  }
}
