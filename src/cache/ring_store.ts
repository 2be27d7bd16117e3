/**
 * Keys and values of a layer that only the last tokens see: pages whose slots are used in turn, so that nothing is moved.
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import { kvLayout, storeKv } from "../ops/attention.ts";
import { cast } from "../ops/cast.ts";
import { gatherRows } from "../ops/gather_rows.ts";
import { empty, keep, type Tensor, tensor, tidy } from "../tensor/mod.ts";
import type { AttentionOptions } from "./cache.ts";
import { type LayerState, restoreTensor } from "./cache_state.ts";
import { attendOver, bytesOf, type CachePass, type LayerStore, type PackedKv, type StoreSpec } from "./layer_store.ts";
import { copyRows, lastTokens } from "./packed_rows.ts";
import { interleave, PAGE, type RingShape, roomOf, slotOf, temporaryCounts } from "./rings.ts";

const LONG_LIVED = { exact: true, label: "the cache" };

/** A layer of a sliding window, or of a window behind sinks. */
export class RingStore implements LayerStore {
  readonly #k: Tensor;
  readonly #v: Tensor;
  #geometry: Tensor | undefined;

  /** An empty store. */
  constructor(
    /** What it is made for; `capacity` is not used. */
    readonly spec: StoreSpec,
    /** Its slots. */
    readonly ring: RingShape,
  ) {
    const { device, size, kvHeads, headDim, dtype } = spec;
    using made = new DisposableStack();
    const shape = [size * ring.pages, kvHeads, PAGE, headDim];
    const allocate = () => made.use(keep(device, empty(device, shape, dtype, LONG_LIVED)));
    this.#k = allocate();
    this.#v = allocate();
    made.move(); // nothing failed: they are the store's
  }

  /** Bytes on the GPU. */
  get byteLength(): number {
    return bytesOf(this.#k, this.#v, this.#geometry);
  }

  /** Stores, then attends; a batch that does not fit beside the window attends first. */
  attend(q: Tensor, k: Tensor, v: Tensor, pass: CachePass, options: AttentionOptions): Tensor {
    const geometry = this.#layout(q.shape[1]!, options); // also where they are not used: the next batch may be recorded
    const past = pass.ring(this.ring);
    if (!this.fits(pass)) {
      const o = this.#attendLong(q, k, v, pass, options);
      this.append(k, v, pass);
      return o;
    }
    const kv = { k: this.#k, v: this.#v, geometry, past, paged: true };
    storeKv(k, v, kv, pass.batch.cuSeqlens);
    this.stored(pass, options);
    return attendOver(q, kv, { ...pass, lengths: this.held(pass.lengths) }, options);
  }

  /** Whether the batch's keys fit beside those that they see. */
  protected fits({ batch }: CachePass): boolean {
    return Math.max(...batch.lengths) <= roomOf(this.ring);
  }

  /** Called when the keys and values of a pass are in their slots. */
  protected stored(_pass: CachePass, _options: AttentionOptions): void {}

  /** Stores the last tokens that there is room for. */
  append(k: Tensor, v: Tensor, pass: CachePass): void {
    const { batch: { lengths, size }, past } = pass, { length, staying } = this.ring;
    const kept = lengths.map((n, b) => pass.lengths[b]! === 0 && n <= staying + length ? n : Math.min(n, length));
    const turned = lengths.map((n, b) => Math.max(0, pass.lengths[b]! + n - kept[b]!) % length);
    const starts = kept.reduce((sums, n) => [...sums, sums.at(-1)! + n], [0]);
    tidy(past.device, () => {
      const counts = temporaryCounts(past, size, this.ring.pages, turned);
      const ends = (t: Tensor) => lastTokens(t, lengths, kept);
      const geometry = this.#newLayout(this.spec.kvHeads, { scale: 1, causal: true });
      const cuSeqlens = tensor(past.device, starts, [size + 1], "uint32");
      storeKv(ends(k), ends(v), { k: this.#k, v: this.#v, geometry, past: counts, paged: true }, cuSeqlens);
    });
  }

  /** Tokens that can be read of sequences of these lengths. */
  held(lengths: readonly number[]): readonly number[] {
    return lengths.map((n) => Math.min(n, this.ring.window));
  }

  /** After so many tokens those before the window of `length` are overwritten. */
  reachOf(length: number): number {
    return length > this.ring.window ? length - this.ring.window + this.ring.length : length;
  }

  /** The tokens of the window. */
  contents(lengths: readonly number[]): PackedKv {
    return this.#last(lengths, this.ring.window);
  }

  /** A copy of some sequences. */
  copy(rows: readonly number[]): LayerStore {
    using made = new DisposableStack();
    const to = made.use(this.another({ ...this.spec, size: rows.length }));
    if (this.#geometry) {
      const { device, byteLength, shape, dtype, buffer, byteOffset } = this.#geometry;
      const copy = to.#geometry = keep(device, empty(device, shape, dtype));
      device.stream.copy(buffer.gpu, byteOffset, copy.buffer.gpu, copy.byteOffset, byteLength);
    }
    for (const [from, into] of [[this.#k, to.#k], [this.#v, to.#v]] as const) {
      copyRows(from, into, rows, this.spec.size);
    }
    made.move(); // nothing failed: it is the caller's
    return to;
  }

  /** All that it holds, as it lies. */
  state(): LayerState {
    const { kvHeads, headDim } = this.spec;
    return { kvHeads, headDim, tensors: { key: this.#k, value: this.#v } };
  }

  /** Takes what `state` gave. */
  restore({ tensors: { key, value } }: LayerState): void {
    restoreTensor("keys", key, this.#k);
    restoreTensor("values", value, this.#v);
  }

  /** An empty store of the same kind. */
  protected another(spec: StoreSpec): RingStore {
    return new RingStore(spec, this.ring);
  }

  /** Checks that the tokens before each length are still there: those that came after `reach - length` are. */
  crop(lengths: readonly number[], reach: readonly number[]): void {
    const { window, staying, length } = this.ring;
    const lost = (n: number, b: number) => n > 0 && Math.max(staying, n - window + 1 + staying) < reach[b]! - length;
    const row = lengths.findIndex(lost);
    if (row === -1) return;
    throw new ValueError(
      `Cannot crop the cache as the tokens before the crop must be there: of a window of ${window} tokens, row ${row} ` +
        `went on to ${reach[row]}, and ${lengths[row]} were to be kept`,
      { hint: "Crop fewer tokens, or reset() the cache and run the tokens again." },
    );
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    this.#k.dispose();
    this.#v.dispose();
    this.#geometry?.dispose();
  }

  /** Keys: [B · pages, Hkv, 64, Dh]. */
  protected get keys(): Tensor {
    return this.#k;
  }

  /** A window of the options, which sinks replace by what the ring shows. */
  protected windowOf({ window }: AttentionOptions): number | undefined {
    return Math.min(window ?? this.ring.window, this.ring.window);
  }

  #last(lengths: readonly number[], most: number): PackedKv {
    const { device, kvHeads, headDim } = this.spec;
    const rows: number[] = [];
    for (const [b, n] of lengths.entries()) {
      const shown = Math.min(n, most);
      for (let i = 0; i < shown; i++) {
        const slot = slotOf(this.ring, i < this.ring.staying ? i : n - shown + i);
        const page = b * this.ring.pages + Math.floor(slot / PAGE);
        for (let h = 0; h < kvHeads; h++) rows.push((page * kvHeads + h) * PAGE + slot % PAGE);
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

  /** Attends over the window and the batch's own keys, end to end in a temporary. */
  #attendLong(q: Tensor, k: Tensor, v: Tensor, pass: CachePass, options: AttentionOptions): Tensor {
    const { batch: { lengths, size }, lengths: past } = pass, { device } = q;
    const before = past.map((n) => Math.min(n, this.ring.window - 1));
    const starts = lengths.reduce((sums, n, b) => [...sums, sums.at(-1)! + n + before[b]!], [0]);
    return tidy(device, () => {
      const old = this.#last(past, this.ring.window - 1);
      const wide = (t: Tensor) => t.dtype === "float32" ? t : cast(t, "float32");
      const join = (a: Tensor, b: Tensor) => a.size === 0 ? b : interleave([wide(a), b], [before, lengths]);
      const cuSeqlensK = tensor(device, starts, [size + 1], "uint32");
      const { kvHeads, headDim } = this.spec;
      const strides = { sequenceStride: 0, headStride: headDim, keyStride: kvHeads * headDim };
      const window = this.windowOf(options);
      const geometry = kvLayout(device, { heads: q.shape[1]!, kvHeads, ...options, window, ...strides });
      return attendOver(q, { k: join(old.k, k), v: join(old.v, v), geometry, cuSeqlensK }, {
        ...pass,
        lengths: before,
      }, options);
    });
  }

  #layout(heads: number, options: AttentionOptions): Tensor {
    return this.#geometry ??= keep(this.spec.device, this.#newLayout(heads, options));
  }

  #newLayout(heads: number, options: AttentionOptions): Tensor {
    const { device, kvHeads, headDim } = this.spec, { staying, length } = this.ring;
    return kvLayout(device, {
      heads,
      kvHeads,
      ...options,
      window: this.windowOf(options),
      sequenceStride: kvHeads * PAGE * headDim,
      headStride: PAGE * headDim,
      keyStride: headDim,
      counts: "past",
      ring: { staying, length },
    });
  }
}
