import { NotSupportedError, ShapeError } from "../errors.ts";
import { type Device, kernel } from "../gpu/mod.ts";
import advanceWgsl from "../shaders/advance.wgsl" with { type: "text" };
import wgsl from "../shaders/conv_state.wgsl" with { type: "text" };
import { zeros } from "../ops/zeros.ts";
import { keep, type Tensor, tensor } from "../tensor/mod.ts";
import type { Batch } from "./batch.ts";
import type { Cache } from "./cache.ts";
import { type CacheState, restoreTensor } from "./cache_state.ts";
import { bytesOf } from "./layer_store.ts";
import { copyRows } from "./packed_rows.ts";
import { expectCount } from "./sliding_window_cache.ts";

const shift = kernel("conv_state", wgsl);
const launchAdvance = kernel("advance", advanceWgsl);

/** Sizes of a {@linkcode MambaCache}. */
export interface MambaCacheOptions {
  /** Number of layers. */
  layers: number;
  /** I: channels of the convolution. */
  intermediateSize: number;
  /** K: tokens that the convolution sees. */
  convKernel: number;
  /** N: size of a channel's state. */
  stateSize: number;
}

interface States {
  conv: Tensor; // [B, I, K]
  ssm: Tensor; // [B, I, N]
}

/**
 * The states of a state-space model: the last inputs of each convolution, and each channel's state. Their size does not
 * grow with the sequence, and tokens cannot be taken back.
 *
 * Source: Transformers' `MambaCache`.
 *
 * @example
 * ```ts
 * import { MambaCache } from "@tensaur/tensaur";
 * using cache = new MambaCache({ layers: 2, intermediateSize: 64, convKernel: 4, stateSize: 16 });
 * console.log(cache.lengths); // []
 * ```
 */
export class MambaCache implements Cache {
  /** States cannot forget. */
  readonly croppable = false;
  /** Sizes. */
  readonly options: MambaCacheOptions;
  #lengths: number[] = [];
  #layers: States[] = [];
  #past: Tensor | undefined;
  #device: Device | undefined;
  #generation = 0;

  /** An empty cache. */
  constructor(options: MambaCacheOptions) {
    for (const [name, value] of Object.entries(options)) expectCount("MambaCache", name, value);
    this.options = options;
  }

  /** Tokens that each sequence has had. */
  get lengths(): readonly number[] {
    return this.#lengths;
  }

  /** Bytes on the GPU. */
  get byteLength(): number {
    return bytesOf(this.#past, ...this.#layers.flatMap(({ conv, ssm }) => [conv, ssm]));
  }

  /** Changes whenever the buffers do. */
  get generation(): number {
    return this.#generation;
  }

  /** Checks the number of sequences; states need no room that grows. */
  reserve(size: number, tokens: readonly number[]): void {
    if (this.#lengths.length === 0) this.#lengths = Array<number>(size).fill(0);
    if (this.#lengths.length === size && tokens.length === size) return;
    throw new ShapeError(
      `Cannot use the cache as the batch must have its ${this.#lengths.length} sequences: current batch has ${size}`,
      { hint: "Use a new cache, or dispose of this one to empty it for another batch." },
    );
  }

  /** [B, I, K]: the last inputs of the convolution of `layer`; zeros at first. */
  convStates(device: Device, layer: number): Tensor {
    return this.#statesOf(device)[layer]!.conv;
  }

  /** [B, I, N]: the states of `layer`; zeros at first. */
  ssmStates(device: Device, layer: number): Tensor {
    return this.#statesOf(device)[layer]!.ssm;
  }

  /** Puts `column` [B, I] at the end of the convolution's window, one token of each sequence. */
  updateConvState(layer: number, column: Tensor): Tensor {
    const { device } = column, states = this.convStates(device, layer), [B = 0, I = 0] = states.shape;
    if (`${column.shape}` !== `${[B, I]}`) {
      throw new ShapeError(`Cannot update the state as the column must be [${B}, ${I}]: it is [${column.shape}]`);
    }
    shift(device, { bindings: { states, column, positions: this.#pastOn(device) }, grid: [Math.ceil(B * I / 64)] });
    return states;
  }

  /** Replaces the states of `layer` by `state` [B, I, N], which is copied. */
  updateSsmState(layer: number, state: Tensor): Tensor {
    const to = this.ssmStates(state.device, layer);
    if (`${state.shape}` !== `${to.shape}`) {
      throw new ShapeError(`Cannot update the state as it must be [${to.shape}]: it is [${state.shape}]`);
    }
    state.device.stream.copy(state.buffer.gpu, state.byteOffset, to.buffer.gpu, to.byteOffset, to.byteLength);
    return to;
  }

  /** States are no keys. */
  attend(): Tensor {
    throw new NotSupportedError("Cannot attend as a MambaCache must be used by state-space layers: it holds no keys");
  }

  /** Counts the batch's tokens on the GPU. */
  advance({ cuSeqlens, size }: Batch): void {
    const past = this.#pastOn(cuSeqlens.device);
    launchAdvance(cuSeqlens.device, { bindings: { cuSeqlens, past }, grid: [Math.ceil(size / 64)] });
  }

  /** Counts tokens on the host. */
  advanced(tokens: readonly number[]): void {
    this.#lengths = this.#lengths.map((n, b) => n + tokens[b]!);
  }

  /** A state cannot forget: only to keep everything, or nothing at all, can be asked for. */
  crop(lengths: readonly number[]): void {
    if (lengths.every((n, b) => n === this.#lengths[b])) return this.#past?.write(lengths);
    if (lengths.every((n) => n === 0)) return this.reset();
    throw new NotSupportedError(
      `Cannot crop the cache as a state must keep all of its ${this.#lengths} tokens: current value is ${lengths}`,
    );
  }

  /** Makes sequence b what sequence `rows[b]` was. */
  reorder(rows: readonly number[]): void {
    this.batchSelectIndices(rows);
  }

  /** The same, with fewer sequences or more. */
  batchSelectIndices(rows: readonly number[]): void {
    const copy = this.#copy(rows);
    this.#free();
    [this.#layers, this.#lengths] = [copy.#layers, copy.#lengths];
    this.#generation++;
  }

  /** An independent copy. */
  fork(): MambaCache {
    return this.#copy([...this.#lengths.keys()]);
  }

  /** Zeroes all states in place. */
  reset(): void {
    for (const { conv, ssm } of this.#layers) {
      for (const t of [conv, ssm]) {
        using none = zeros(t.device, t.shape);
        t.device.stream.copy(none.buffer.gpu, none.byteOffset, t.buffer.gpu, t.byteOffset, t.byteLength);
      }
    }
    this.#lengths = this.#lengths.map(() => 0);
    this.#past?.write(this.#lengths);
  }

  /** All that it holds. */
  get state(): CacheState {
    const layers = this.#layers.map(({ conv, ssm }) => ({ kvHeads: 0, headDim: 0, tensors: { conv, ssm } }));
    return {
      kind: "mamba",
      options: { ...this.options },
      lengths: [...this.#lengths],
      reach: [...this.#lengths],
      layers,
    };
  }

  /** A cache of what {@linkcode MambaCache.state} gave; the tensors are copied. */
  static restore({ options, lengths, layers }: CacheState, device: Device): MambaCache {
    using made = new DisposableStack();
    const cache = made.use(new MambaCache(options as unknown as MambaCacheOptions));
    cache.#lengths = [...lengths];
    for (const [i, { conv, ssm }] of (layers.length ? cache.#statesOf(device) : []).entries()) {
      restoreTensor("states of convolutions", layers[i]?.tensors.conv, conv);
      restoreTensor("states", layers[i]?.tensors.ssm, ssm);
    }
    made.move(); // nothing failed: it is the caller's
    return cache;
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    this.#free();
    this.#lengths = [];
    this.#generation++;
  }

  #statesOf(device: Device): States[] {
    if (this.#layers.length) return this.#layers;
    const { layers, intermediateSize: I, convKernel, stateSize } = this.options, B = this.#lengths.length;
    this.#device = device;
    using made = new DisposableStack();
    const make = (last: number) => made.use(keep(device, zeros(device, [B, I, last], "float32", { exact: true })));
    this.#layers = Array.from({ length: layers }, () => ({ conv: make(convKernel), ssm: make(stateSize) }));
    made.move(); // nothing failed: they are the cache's
    return this.#layers;
  }

  #pastOn(device: Device): Tensor {
    return this.#past ??= keep(device, tensor(device, this.#lengths, [this.#lengths.length], "uint32"));
  }

  #copy(rows: readonly number[]): MambaCache {
    const copy = new MambaCache(this.options), size = this.#lengths.length;
    copy.#lengths = rows.map((row) => this.#lengths[row]!);
    if (!this.#device || !this.#layers.length) return copy;
    for (const [i, { conv, ssm }] of copy.#statesOf(this.#device).entries()) {
      copyRows(this.#layers[i]!.conv, conv, rows, size);
      copyRows(this.#layers[i]!.ssm, ssm, rows, size);
    }
    return copy;
  }

  #free(): void {
    for (const { conv, ssm } of this.#layers) (conv.dispose(), ssm.dispose());
    this.#layers = [];
    this.#past?.dispose();
    this.#past = undefined;
  }
}
