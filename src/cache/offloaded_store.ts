/**
 * Keys and values of a layer in host memory. Two device buffers serve all layers in turn: while one layer attends, the
 * next one's keys are on their way. New tokens are read back in the background; until they are, they stay on the GPU.
 *
 * @module
 */
import { NotSupportedError } from "../errors.ts";
import { cast } from "../ops/cast.ts";
import { keep, type Tensor, tensor, tidy } from "../tensor/mod.ts";
import { quiet } from "../gpu/mod.ts";
import type { AttentionOptions } from "./cache.ts";
import { ContiguousStore } from "./contiguous_store.ts";
import { selectPacked, startsOf } from "./packed_rows.ts";
import type { CachePass, LayerStore, PackedKv, StoreSpec } from "./layer_store.ts";

type Elements = Float32Array | Float16Array;

/** Batches of tokens that are read back in the background; then, so many are kept before the GPU is waited for. */
const IN_FLIGHT = 2, MOST_PENDING = 6;

/** Tokens that are not in host memory yet: [T, Hkv, Dh] in the store's dtype. */
interface Pending extends PackedKv {
  readonly from: readonly number[];
  readonly lengths: readonly number[];
}

/** Two device buffers, and which layer's keys are where. */
export class OffloadSlots implements Disposable {
  readonly #slots: (ContiguousStore | undefined)[] = [undefined, undefined];
  readonly #holds: (OffloadedStore | undefined)[] = [undefined, undefined];
  #last = 0;

  /** Bytes on the GPU. */
  get byteLength(): number {
    return this.#slots.reduce((sum, slot) => sum + (slot?.byteLength ?? 0), 0);
  }

  /** The buffer that has, or now gets, the keys of `store`. */
  fetch(store: OffloadedStore): ContiguousStore {
    const at = this.#holds.indexOf(store), next = 1 - this.#last;
    if (at !== -1) {
      this.#last = at;
      return this.#slots[at]!;
    }
    this.#last = next;
    const slot = this.#slots[next] = this.#fitting(next, store.spec);
    store.upload(slot);
    this.#holds[next] = store;
    return slot;
  }

  /** Starts to bring the keys of `store`, the next layer's. */
  prefetch(store: OffloadedStore): void {
    const busy = this.#last;
    if (this.#holds[busy] === store) return;
    this.fetch(store);
    this.#last = busy;
  }

  /** Forgets what is where: the host's keys have changed. */
  invalidate(): void {
    this.#holds.fill(undefined);
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    for (const slot of this.#slots) slot?.[Symbol.dispose]();
    this.#slots.fill(undefined);
    this.invalidate();
  }

  #fitting(index: number, spec: StoreSpec): ContiguousStore {
    const slot = this.#slots[index];
    const fits = slot &&
      (["size", "capacity", "kvHeads", "headDim"] as const).every((key) => slot.spec[key] === spec[key]);
    if (fits) return slot;
    slot?.[Symbol.dispose]();
    this.#slots[index] = undefined;
    return new ContiguousStore(spec);
  }
}

/** A layer of an {@linkcode OffloadedCache}. */
export class OffloadedStore implements LayerStore {
  readonly #k: Elements; // [B, Hkv, capacity, Dh]
  readonly #v: Elements;
  #pending: Pending[] = [];
  #merged: Promise<void> = Promise.resolve();

  /** An empty store. */
  constructor(readonly spec: StoreSpec) {
    const { size, kvHeads, capacity, headDim, dtype } = spec, elements = size * kvHeads * capacity * headDim;
    this.#k = dtype === "float16" ? new Float16Array(elements) : new Float32Array(elements);
    this.#v = dtype === "float16" ? new Float16Array(elements) : new Float32Array(elements);
  }

  /** Bytes on the GPU: what has not been read back. */
  get byteLength(): number {
    return this.#pending.reduce((sum, { k, v }) => sum + k.byteLength + v.byteLength, 0);
  }

  /** Bytes in host memory. */
  get hostBytes(): number {
    return this.#k.byteLength + this.#v.byteLength;
  }

  /** Fetches its keys, stores and attends, and starts to bring the next layer's. */
  attend(q: Tensor, k: Tensor, v: Tensor, pass: CachePass, options: AttentionOptions): Tensor {
    const { slots, next } = pass.offload!(this);
    const slot = slots.fetch(this);
    const o = slot.attend(q, k, v, pass, options);
    this.#remember(k, v, pass);
    if (next) slots.prefetch(next);
    return o;
  }

  /** Stores behind what is there. */
  append(k: Tensor, v: Tensor, pass: CachePass): void {
    pass.offload!(this).slots.invalidate();
    this.#remember(k, v, pass);
  }

  /** Puts all keys and values into a device buffer. */
  upload(slot: ContiguousStore): void {
    slot.fill(this.#k, this.#v);
    const { device, size } = this.spec;
    for (const { k, v, from, lengths } of this.#pending) {
      tidy(device, () => {
        const cuSeqlens = tensor(device, startsOf(lengths), [size + 1], "uint32");
        const past = tensor(device, from, [size], "uint32");
        const wide = (t: Tensor) => t.dtype === "float32" ? t : cast(t, "float32");
        slot.append(wide(k), wide(v), { batch: { cuSeqlens, lengths, size }, past, lengths: from, ring: noRing });
      });
    }
  }

  /** What is there. */
  contents(lengths: readonly number[]): PackedKv {
    using slot = new ContiguousStore(this.spec);
    this.upload(slot);
    return slot.contents(lengths);
  }

  /** A copy of some sequences, in host memory. */
  copy(rows: readonly number[], lengths: readonly number[], capacity: number): LayerStore {
    const to = new OffloadedStore({ ...this.spec, size: rows.length, capacity });
    const { kvHeads, headDim, capacity: old } = this.spec;
    for (const [from, into] of [[this.#k, to.#k], [this.#v, to.#v]] as const) {
      for (const [b, row] of rows.entries()) {
        for (let h = 0; h < kvHeads; h++) {
          const at = (row * kvHeads + h) * old * headDim;
          into.set(from.subarray(at, at + lengths[row]! * headDim), (b * kvHeads + h) * capacity * headDim);
        }
      }
    }
    for (const pending of this.#pending) {
      const take = (t: Tensor) => keep(t.device, selectPacked(t, pending.lengths, rows));
      to.#enqueue(take(pending.k), take(pending.v), {
        from: rows.map((row) => pending.from[row]!),
        lengths: rows.map((row) => pending.lengths[row]!),
      });
    }
    return to;
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    for (const { k, v } of this.#pending.splice(0)) (k.dispose(), v.dispose());
  }

  /** Keeps a copy of new tokens until they are in host memory. */
  #remember(k: Tensor, v: Tensor, { lengths: from, batch: { lengths } }: CachePass): void {
    const take = (t: Tensor) => keep(t.device, cast(t, this.spec.dtype));
    this.#enqueue(take(k), take(v), { from: [...from], lengths: [...lengths] });
  }

  #enqueue(k: Tensor, v: Tensor, where: Pick<Pending, "from" | "lengths">): void {
    const pending = { k, v, ...where };
    this.#pending.push(pending);
    if (this.#pending.length <= IN_FLIGHT) this.#bring([pending]);
    else if (this.#pending.length >= MOST_PENDING) this.#bring([...this.#pending], true); // the event loop did not turn
  }

  /** Reads `tokens` back; `early`: waits for the GPU where that is possible. */
  #bring(tokens: readonly Pending[], early = false): void {
    const reads = Promise.all(tokens.flatMap(({ k, v }) => [k.read({ early }), v.read({ early })]));
    const before = early ? undefined : this.#merged; // in order: later tokens win
    const work = Promise.all([reads, before]).then(([parts]) => {
      for (const [i, pending] of tokens.entries()) {
        if (!this.#pending.includes(pending)) continue;
        this.#merge(parts[2 * i] as Elements, this.#k, pending);
        this.#merge(parts[2 * i + 1] as Elements, this.#v, pending);
        pending.k.dispose();
        pending.v.dispose();
        this.#pending = this.#pending.filter((p) => p !== pending);
      }
    });
    this.#merged = quiet(work);
  }

  #merge(packed: Elements, into: Elements, { from, lengths }: Pick<Pending, "from" | "lengths">): void {
    const { kvHeads, capacity, headDim } = this.spec;
    let row = 0;
    for (const [b, n] of lengths.entries()) {
      for (let i = 0; i < n; i++) {
        for (let h = 0; h < kvHeads; h++, row++) {
          const at = ((b * kvHeads + h) * capacity + from[b]! + i) * headDim;
          into.set(packed.subarray(row * headDim, (row + 1) * headDim), at);
        }
      }
    }
  }
}

function noRing(): never {
  throw new NotSupportedError("Cannot offload a ring as it must stay on the GPU");
}
