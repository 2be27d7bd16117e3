/**
 * Keys and values of a layer in host memory. Two device buffers serve all layers in turn: while one layer attends, the
 * next one's keys are on their way. New tokens stay on the GPU until there are a few, and are then read back together.
 *
 * @module
 */
import { quiet } from "../gpu/mod.ts";
import { kvLayout, storeKv } from "../ops/attention.ts";
import { bytesPerElement, empty, keep, type Tensor } from "../tensor/mod.ts";
import type { AttentionOptions } from "./cache.ts";
import { attendOver, bytesOf, type CachePass, type LayerStore, type PackedKv, type StoreSpec } from "./layer_store.ts";
import { newSlot, type OffloadSlot } from "./offload_slots.ts";
import { startsOf } from "./packed_rows.ts";

type Elements = Float32Array | Float16Array;

/** Tokens of a sequence that a layer gathers on the GPU before it reads them back. */
const GATHERED = 32;
/** A write costs the host as much as this many bytes more of it. */
const GAP = 2 ** 16;

/** Tokens that are not in host memory yet. */
interface Gathered {
  /** [2, places] of a token's heads: keys, then values; sequence b has the places from `starts[b]` on. */
  readonly kv: Tensor;
  readonly starts: readonly number[];
  /** Tokens that each sequence had before them. */
  readonly from: readonly number[];
  /** Tokens of each sequence. */
  counts: number[];
  /** A read of it is under way: it takes no more tokens. */
  reading?: true;
}

/** A layer of an {@linkcode OffloadedCache}. */
export class OffloadedStore implements LayerStore {
  readonly #host: readonly [keys: Elements, values: Elements]; // [B, capacity, Hkv, Dh]
  readonly #ends: number[]; // tokens of each sequence that are there
  #gathered: Gathered[] = [];
  #merged: Promise<void> = Promise.resolve();
  #geometry: Tensor | undefined;

  /** An empty store. */
  constructor(readonly spec: StoreSpec) {
    const { size, kvHeads, capacity, headDim, dtype } = spec, elements = size * kvHeads * capacity * headDim;
    const make = () => dtype === "float16" ? new Float16Array(elements) : new Float32Array(elements);
    this.#host = [make(), make()];
    this.#ends = Array<number>(size).fill(0);
  }

  /** Bytes on the GPU: what has not been read back, and the layout. */
  get byteLength(): number {
    return bytesOf(this.#geometry, ...this.#gathered.map(({ kv }) => kv));
  }

  /** Bytes in host memory. */
  get hostBytes(): number {
    return this.#host[0].byteLength + this.#host[1].byteLength;
  }

  /** Stores and attends where its keys were brought to, and starts to bring the next layer's. */
  attend(q: Tensor, k: Tensor, v: Tensor, pass: CachePass, options: AttentionOptions): Tensor {
    const { slots, next } = pass.offload!(this), slot = slots.fetch(this);
    const geometry = this.#geometry ??= keep(q.device, layoutOf(this.spec, q.shape[1]!, options));
    const kv = { k: slot.k, v: slot.v, geometry, past: pass.past };
    storeKv(k, v, kv, pass.batch.cuSeqlens);
    const o = attendOver(q, kv, pass, options);
    this.#gather(slot, pass);
    if (next) slots.prefetch(next);
    return o;
  }

  /** Stores behind what is there. */
  append(k: Tensor, v: Tensor, pass: CachePass): void {
    const slot = pass.offload!(this).slots.fetch(this);
    using geometry = layoutOf(this.spec, this.spec.kvHeads, { scale: 1, causal: true });
    storeKv(k, v, { k: slot.k, v: slot.v, geometry, past: pass.past }, pass.batch.cuSeqlens);
    this.#gather(slot, pass);
  }

  /** Puts all keys and values into device buffers. */
  upload(slot: OffloadSlot): void {
    for (const [part, to] of [slot.k, slot.v].entries()) this.#write(this.#host[part]!, to);
    for (const { kv, starts, from, counts } of this.#gathered) {
      for (const [b, n] of counts.entries()) {
        for (const [part, to] of [slot.k, slot.v].entries()) {
          this.#copy(kv, this.#places(kv, part) + starts[b]!, to, b * this.spec.capacity + from[b]!, n);
        }
      }
    }
  }

  /** What is there. */
  contents(lengths: readonly number[]): PackedKv {
    const { device, kvHeads, headDim, dtype, capacity } = this.spec, starts = startsOf(lengths);
    using slot = newSlot(this.spec);
    this.upload(slot);
    const packed = (from: Tensor) => {
      const to = empty(device, [starts.at(-1)!, kvHeads, headDim], dtype);
      for (const [b, n] of lengths.entries()) this.#copy(from, b * capacity, to, starts[b]!, n);
      return to;
    };
    return { k: packed(slot.k), v: packed(slot.v) };
  }

  /** A copy of some sequences, in host memory. */
  copy(rows: readonly number[], lengths: readonly number[], capacity: number): LayerStore {
    using made = new DisposableStack();
    const to = made.use(new OffloadedStore({ ...this.spec, size: rows.length, capacity }));
    for (const [b, row] of rows.entries()) {
      const n = to.#ends[b] = Math.min(this.#ends[row]!, lengths[row]!);
      for (const part of [0, 1] as const) {
        to.#host[part].set(this.#tokens(this.#host[part], row, 0, n), b * capacity * this.#width);
      }
    }
    for (const { kv, starts, from, counts } of this.#gathered) {
      const taken = to.#newGathered(rows.map((row) => from[row]!), rows.map((row) => counts[row]!));
      for (const [b, row] of rows.entries()) {
        for (const part of [0, 1]) {
          const at = this.#places(kv, part) + starts[row]!, into = this.#places(taken.kv, part) + taken.starts[b]!;
          this.#copy(kv, at, taken.kv, into, counts[row]!);
        }
      }
    }
    made.move(); // nothing failed: it is the caller's
    return to;
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    for (const { kv } of this.#gathered.splice(0)) kv.dispose();
    this.#geometry?.dispose();
    this.#geometry = undefined;
  }

  /** Elements of a token. */
  get #width(): number {
    return this.spec.kvHeads * this.spec.headDim;
  }

  /** The place where keys (part 0) or values (1) begin. */
  #places(kv: Tensor, part: number): number {
    return part * kv.shape[1]!;
  }

  /** `n` tokens of a sequence from token `from` on, in the host's elements. */
  #tokens(host: Elements, row: number, from: number, n: number): Elements {
    const at = row * this.spec.capacity + from;
    return host.subarray(at * this.#width, (at + n) * this.#width);
  }

  /** Writes what the host has of each sequence; ranges with a small gap between go together. */
  #write(host: Elements, to: Tensor): void {
    const { size, capacity, device } = this.spec, bytes = this.#width * host.BYTES_PER_ELEMENT;
    for (let b = 0; b < size;) {
      const first = b;
      while (b + 1 < size && (capacity - this.#ends[b]!) * bytes <= GAP) b++;
      const start = first * capacity * bytes, length = ((b - first) * capacity + this.#ends[b]!) * bytes;
      if (length > 0) {
        const data = new Uint8Array(host.buffer, host.byteOffset + start, length);
        device.stream.write(to.buffer, to.byteOffset + start, data);
      }
      b++;
    }
  }

  /** Copies `n` tokens on the GPU. */
  #copy(from: Tensor, at: number, to: Tensor, into: number, n: number): void {
    const bytes = this.#width * bytesPerElement(this.spec.dtype), { stream } = this.spec.device;
    stream.copy(from.buffer.gpu, from.byteOffset + at * bytes, to.buffer.gpu, to.byteOffset + into * bytes, n * bytes);
  }

  #newGathered(from: readonly number[], counts: readonly number[]): Gathered {
    const { device, kvHeads, headDim, dtype } = this.spec, starts = startsOf(counts.map((n) => Math.max(GATHERED, n)));
    const kv = keep(device, empty(device, [2, starts.at(-1)!, kvHeads, headDim], dtype));
    const gathered = { kv, starts, from: [...from], counts: [...counts] };
    this.#gathered.push(gathered);
    return gathered;
  }

  /** Keeps the tokens of a pass beside `slot`, which other layers will overwrite, until they are in host memory. */
  #gather(slot: OffloadSlot, { lengths: past, batch: { lengths } }: CachePass): void {
    const last = this.#gathered.at(-1);
    const follows = !last?.reading &&
      last?.counts.every((n, b) =>
        last.from[b]! + n === past[b]! && last.starts[b]! + n + lengths[b]! <= last.starts[b + 1]!
      );
    if (!follows) { for (const before of [...this.#gathered]) this.#bring(before); }
    const room = follows ? last! : this.#newGathered(past, lengths);
    const counts = follows ? room.counts : lengths.map(() => 0);
    for (const [b, n] of lengths.entries()) {
      for (const [part, from] of [slot.k, slot.v].entries()) {
        const into = this.#places(room.kv, part) + room.starts[b]! + counts[b]!;
        this.#copy(from, b * this.spec.capacity + past[b]!, room.kv, into, n);
      }
    }
    room.counts = counts.map((n, b) => n + lengths[b]!);
    if (room.counts.some((n) => n >= GATHERED)) this.#bring(room);
  }

  /** Reads tokens back: at once where WebGPU allows it, else in the background. */
  #bring(gathered: Gathered): void {
    if (gathered.reading) return;
    gathered.reading = true;
    const { kv } = gathered, { device, dtype } = this.spec;
    const now = device.stream.readNow(kv.buffer.gpu, kv.byteOffset, kv.byteLength);
    if (now) return this.#merge(gathered, dtype === "float16" ? new Float16Array(now) : new Float32Array(now));
    const before = this.#merged; // in order: later tokens win
    this.#merged = quiet(
      Promise.all([kv.read(), before]).then(([data]) => {
        if (this.#gathered.includes(gathered)) this.#merge(gathered, data as Elements);
      }),
    );
  }

  /** Takes tokens that were read into host memory. */
  #merge(gathered: Gathered, data: Elements): void {
    const { kv, starts, from, counts } = gathered;
    for (const [b, n] of counts.entries()) {
      for (const part of [0, 1] as const) {
        const at = (this.#places(kv, part) + starts[b]!) * this.#width;
        this.#tokens(this.#host[part], b, from[b]!, n).set(data.subarray(at, at + n * this.#width));
      }
      if (n > 0) this.#ends[b] = from[b]! + n;
    }
    kv.dispose();
    this.#gathered = this.#gathered.filter((other) => other !== gathered);
  }
}

/** How keys lie in a slot: a token's heads together, so that what is used of a sequence is one range. */
function layoutOf({ device, kvHeads, headDim, capacity }: StoreSpec, heads: number, options: AttentionOptions): Tensor {
  const keyStride = kvHeads * headDim,
    strides = { sequenceStride: capacity * keyStride, headStride: headDim, keyStride };
  return kvLayout(device, { heads, kvHeads, ...options, ...strides, counts: "past" });
}
