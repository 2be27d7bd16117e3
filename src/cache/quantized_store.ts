/**
 * Keys and values of a layer in codes of a few bits, but for the last ones.
 *
 * @module
 */
import { kvLayout, storeKv } from "../ops/attention.ts";
import { cast } from "../ops/cast.ts";
import { gatherRows } from "../ops/gather_rows.ts";
import {
  type CodedKv,
  emptyKvCodes,
  flattenKv,
  kvLayoutOf,
  type KvScheme,
  type KvSpans,
  quantizeKv,
} from "../ops/kv_quantization.ts";
import { quantizedAttention } from "../ops/quantized_attention.ts";
import { NotSupportedError } from "../errors.ts";
import { bytesPerElement, empty, keep, type Tensor, tensor, tidy } from "../tensor/mod.ts";
import type { AttentionOptions } from "./cache.ts";
import { type LayerState, restoreTensor } from "./cache_state.ts";
import { copyKvCodes } from "./quantized_codes.ts";
import { attendOver, bytesOf, type CachePass, type LayerStore, type PackedKv, type StoreSpec } from "./layer_store.ts";
import { copyRows, firstTokens, lastTokens, startsOf } from "./packed_rows.ts";

/** What a store is told of a pass. */
export interface QuantizedPass {
  /** [2B] uint32: keys in the rest, keys in codes. */
  readonly counts: Tensor;
  /** No sequence has any token yet. */
  readonly first: boolean;
}

/** A change that is made when all layers are ready for it. */
export interface Change extends Disposable {
  /** Makes it. */
  apply(): void;
}

/** A layer of a {@linkcode QuantizedCache}. */
export class QuantizedStore implements LayerStore {
  #words: Tensor | undefined;
  #spans: KvSpans;
  #rest: Tensor | undefined; // [2, B, Hkv, R, Dh]
  #geometry: Tensor | undefined; // of the rest
  #queries: { heads: number; layout: Tensor } | undefined; // layout of the query heads

  /** An empty store. */
  constructor(readonly spec: StoreSpec, readonly scheme: KvScheme) {
    this.#spans = { ...spec, lengths: Array<number>(spec.size).fill(0) };
  }

  /** Bytes on the GPU. */
  get byteLength(): number {
    return bytesOf(this.#words, this.#rest, this.#geometry, this.#queries?.layout);
  }

  /** How many of the first tokens of such sequences fill whole groups. */
  quantizable(lengths: readonly number[]): number[] {
    const { kvHeads, headDim } = this.spec, { keys, values, group } = this.scheme;
    const perToken = [keys, values].includes("channel") ? kvHeads : kvHeads * headDim;
    return lengths.map((n) => {
      while (n > 0 && n * perToken % group !== 0) n--;
      return n;
    });
  }

  /** The first batch attends to its own keys as they are; later ones to what is stored. */
  attend(q: Tensor, k: Tensor, v: Tensor, pass: CachePass, options: AttentionOptions): Tensor {
    const { first, counts } = pass.quantized!(), geometry = this.#layoutOf(q.shape[1]!); // made before steps are recorded
    if (first) {
      this.#take(k, v, pass);
      return this.#attendFresh(q, k, v, pass, options);
    }
    if (options.weights ?? options.relativeBias) {
      const what = options.weights ? "give attention probabilities" : "add a relative bias";
      throw new NotSupportedError(`Cannot ${what} as the cache must not be quantized`);
    }
    this.#storeRest(k, v, counts, pass.batch.cuSeqlens);
    const keys = Math.max(...this.#spans.lengths) + this.#rest!.shape[3]!; // of the longest sequence, and room for more
    const call = { ...options, split: { keys, geometry } };
    return quantizedAttention(q, this.#coded(counts), pass.batch.cuSeqlens, this.spec.kvHeads, this.scheme, call);
  }

  /** Quantizes keys of elsewhere, as a first batch. */
  append(k: Tensor, v: Tensor, pass: CachePass): void {
    this.#take(k, v, pass);
  }

  /** All that it holds, as it lies. */
  state(): LayerState {
    const { kvHeads, headDim } = this.spec, words = this.#words, rest = this.#rest;
    return { kvHeads, headDim, spans: this.#spans.lengths, tensors: { ...words && { words }, ...rest && { rest } } };
  }

  /** Takes what `state` gave; where codes lie is written anew. */
  restore({ spans, tensors: { words, rest } }: LayerState): void {
    const { device, headDim, kvHeads, size } = this.spec, lengths = spans?.length === size ? spans : [];
    this.#spans = { headDim, kvHeads, lengths };
    if (words) {
      this.#words = keep(device, emptyKvCodes(device, this.#spans, this.scheme));
      restoreTensor("codes", words, this.#words, kvLayoutOf(this.#spans, this.scheme).header.byteLength);
    }
    if (!rest) return;
    const tokens = rest.shape[3] ?? 0;
    this.#rest = this.#newRest(tokens);
    this.#geometry = this.#restLayout(tokens);
    restoreTensor("last tokens", rest, this.#rest);
  }

  /** Quantizes the first `quantized[b]` tokens of sequences of these lengths; the others stay in the rest. */
  quantize(
    lengths: readonly number[],
    quantized: readonly number[],
    before: readonly number[],
    counts: Tensor,
  ): Change {
    const { device, headDim, kvHeads } = this.spec;
    using made = new DisposableStack();
    const spans = { headDim, kvHeads, lengths: quantized };
    const words = made.use(keep(device, emptyKvCodes(device, spans, this.scheme)));
    const rest = made.use(this.#newRest(this.#rest!.shape[3]!));
    for (const part of [0, 1] as const) {
      tidy(device, () => {
        const x = flattenKv(words, spans, this.scheme, part, this.#coded(counts));
        quantizeKv(x, words, spans, this.scheme, part);
      });
    }
    this.#moveRest(
      this.#rest!,
      rest,
      quantized.map((n, b) => n - before[b]!),
      lengths.map((n, b) => n - quantized[b]!),
    );
    const owned = made.move();
    const apply = () => {
      this.#words?.dispose();
      this.#rest?.dispose();
      [this.#words, this.#rest, this.#spans] = [words, rest, spans];
    };
    return { apply, [Symbol.dispose]: () => owned.dispose() };
  }

  /** Room for `tokens` in the rest, `used[b]` of which are there; undefined where there is. */
  widen(tokens: number, used: readonly number[]): Change | undefined {
    if (this.#words && this.#rest && this.#rest.shape[3]! >= tokens) return undefined;
    const { device } = this.spec;
    using made = new DisposableStack();
    const rest = made.use(this.#newRest(Math.ceil(tokens / 64) * 64));
    const words = this.#words ?? made.use(keep(device, emptyKvCodes(device, this.#spans, this.scheme)));
    const geometry = made.use(this.#restLayout(rest.shape[3]!));
    if (this.#rest) this.#moveRest(this.#rest, rest, used.map(() => 0), used);
    const owned = made.move();
    const apply = () => {
      this.#rest?.dispose();
      this.#geometry?.dispose();
      [this.#rest, this.#words, this.#geometry] = [rest, words, geometry];
    };
    return { apply, [Symbol.dispose]: () => owned.dispose() };
  }

  /** Sequences know how many of their tokens are in codes: see {@linkcode QuantizedStore.read}. */
  contents(): PackedKv {
    throw new NotSupportedError("Cannot read a quantized layer as its cache must say what is in codes");
  }

  /** What is there of sequences of these lengths, as numbers. */
  read(lengths: readonly number[], counts: Tensor): PackedKv {
    const { device, headDim, kvHeads, dtype } = this.spec;
    const spans = { headDim, kvHeads, lengths };
    const { starts } = kvLayoutOf(spans, this.scheme);
    const index: number[] = [];
    for (const [b, n] of lengths.entries()) {
      for (let i = 0; i < n; i++) for (let h = 0; h < kvHeads; h++) index.push(starts[b]! / headDim + h * n + i);
    }
    return tidy(device, () => {
      const to = emptyKvCodes(device, spans, this.scheme), at = tensor(device, index, [index.length], "uint32");
      const part = (p: 0 | 1) => {
        const x = flattenKv(to, spans, this.scheme, p, this.#coded(counts));
        const taken = gatherRows(x.reshape([-1, headDim]), at);
        return cast(taken, dtype).reshape([index.length / kvHeads, kvHeads, headDim]);
      };
      return { k: part(0), v: part(1) };
    });
  }

  /** A copy of some sequences. */
  copy(rows: readonly number[]): LayerStore {
    const { device, size } = this.spec, lengths = rows.map((row) => this.#spans.lengths[row]!);
    using made = new DisposableStack();
    const to = made.use(new QuantizedStore({ ...this.spec, size: rows.length }, this.scheme));
    to.#spans = { ...this.#spans, lengths };
    if (this.#words) {
      to.#words = keep(device, emptyKvCodes(device, to.#spans, this.scheme));
      copyKvCodes(this.#words, to.#words, rows, [this.#spans, to.#spans], this.scheme);
    }
    if (this.#queries) to.#layoutOf(this.#queries.heads);
    if (this.#rest) {
      to.#rest = to.#newRest(this.#rest.shape[3]!);
      to.#geometry = to.#restLayout(this.#rest.shape[3]!);
      for (const part of [0, 1]) {
        using from = this.#rest.rows(part, part + 1);
        using into = to.#rest.rows(part, part + 1);
        copyRows(from, into, rows, size);
      }
    }
    made.move(); // nothing failed: it is the caller's
    return to;
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    this.#words?.dispose();
    this.#rest?.dispose();
    this.#geometry?.dispose();
    this.#queries?.layout.dispose();
  }

  #layoutOf(heads: number): Tensor {
    const { device, kvHeads } = this.spec, strides = { sequenceStride: 0, headStride: 0, keyStride: 0 };
    const layout = { heads, kvHeads, scale: 1, causal: true, counts: "past" as const, ...strides };
    return (this.#queries ??= { heads, layout: keep(device, kvLayout(device, layout)) }).layout;
  }

  #coded(counts: Tensor): CodedKv {
    return { words: this.#words!, rest: this.#rest!, counts };
  }

  #restLayout(tokens: number): Tensor {
    const { device, kvHeads, headDim } = this.spec;
    const strides = { sequenceStride: kvHeads * tokens * headDim, headStride: tokens * headDim, keyStride: headDim };
    const layout = { heads: kvHeads, kvHeads, scale: 1, causal: true, counts: "past" as const, ...strides };
    return keep(device, kvLayout(device, layout));
  }

  #newRest(tokens: number): Tensor {
    const { device, size, kvHeads, headDim, dtype } = this.spec;
    const shape = [2, size, kvHeads, tokens, headDim];
    return keep(device, empty(device, shape, dtype, { exact: true, label: "the cache" }));
  }

  /** Quantizes a first batch, and keeps what fills no group. */
  #take(k: Tensor, v: Tensor, { batch, past }: CachePass): void {
    const { device, headDim, kvHeads } = this.spec, quantized = this.quantizable(batch.lengths);
    const spans = { headDim, kvHeads, lengths: quantized };
    const words = keep(device, emptyKvCodes(device, spans, this.scheme));
    this.#words?.dispose();
    [this.#words, this.#spans] = [words, spans];
    const left = batch.lengths.map((n, b) => n - quantized[b]!);
    tidy(device, () => {
      const parts = batch.lengths.map((n, b) => [n, quantized[b]!] as const);
      for (const [part, t] of quantized.some((n) => n > 0) ? [[0, k] as const, [1, v] as const] : []) {
        const packed = firstTokens(t, parts);
        const cuSeqlens = tensor(device, startsOf(quantized), [batch.size + 1], "uint32");
        quantizeKv(flattenKv(words, spans, this.scheme, part, { packed, cuSeqlens }), words, spans, this.scheme, part);
      }
      if (!left.some((n) => n > 0)) return;
      this.widen(Math.max(...left), left.map(() => 0))?.apply();
      const zeros = tensor(device, left.map(() => 0), [batch.size], "uint32");
      const ends = (t: Tensor) => lastTokens(t, batch.lengths, left);
      this.#storeRest(ends(k), ends(v), zeros, tensor(past.device, startsOf(left), [batch.size + 1], "uint32"));
    });
  }

  #storeRest(k: Tensor, v: Tensor, counts: Tensor, cuSeqlens: Tensor): void {
    const { kvHeads, headDim, size } = this.spec, tokens = this.#rest!.shape[3]!;
    const half = (part: number) => {
      using rows = this.#rest!.rows(part, part + 1);
      return rows.reshape([size, kvHeads, tokens, headDim]);
    };
    using keys = half(0);
    using values = half(1);
    storeKv(k, v, { k: keys, v: values, geometry: this.#geometry!, past: counts }, cuSeqlens);
  }

  #attendFresh(q: Tensor, k: Tensor, v: Tensor, pass: CachePass, options: AttentionOptions): Tensor {
    const { kvHeads, headDim, device } = this.spec;
    const strides = { sequenceStride: 0, headStride: headDim, keyStride: kvHeads * headDim };
    const geometry = kvLayout(device, { heads: q.shape[1]!, kvHeads, ...options, ...strides });
    return attendOver(q, { k, v, geometry }, pass, options);
  }

  /** Moves `tokens[b]` tokens from slot `skip[b]` on to the front of `to`. */
  #moveRest(from: Tensor, to: Tensor, skip: readonly number[], tokens: readonly number[]): void {
    const { device, size, kvHeads, headDim, dtype } = this.spec, line = headDim * bytesPerElement(dtype);
    const [old, fresh] = [from.shape[3]!, to.shape[3]!];
    for (let row = 0; row < 2 * size * kvHeads; row++) {
      const b = Math.floor(row / kvHeads) % size;
      const at = from.byteOffset + (row * old + skip[b]!) * line, into = to.byteOffset + row * fresh * line;
      device.stream.copy(from.buffer.gpu, at, to.buffer.gpu, into, tokens[b]! * line);
    }
  }
}
