/**
 * From a checkpoint's bytes to the GPU: bounded chunks, converted and packed there.
 *
 * @module
 */
import { ModelFormatError, throwIfAborted } from "../errors.ts";
import { type Device, quiet } from "../gpu/mod.ts";
import { emptyPacked, packedColumns } from "../ops/pack_weight.ts";
import type { Progress } from "../progress.ts";
import type { ByteRange, Quantization, TensorReader } from "../quantization/scheme.ts";
import { type Shard, shardsOf } from "../quantization/bytes.ts";
import { packOutputs, packRows } from "../quantization/dense.ts";
import { DenseEmbedding, DenseLinear, type Embedding, type Linear } from "../quantization/mod.ts";
import { decode, elements, empty, keep, type Shape, type Tensor, tensor, tidy } from "../tensor/mod.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { buffersOf, elementsOf, FLOATS } from "./piece.ts";
import type { TensorInfo } from "./safetensors.ts";
import {
  CHUNK,
  hasBias,
  layerShape,
  type LinearOptions,
  lookupIn,
  pieceOf,
  quantizes,
  resolveName,
  type VectorOptions,
  type WeightDtype,
  type WeightSource,
} from "./source.ts";

/** What a {@linkcode WeightLoader} takes. */
export interface LoaderOptions {
  /** What matrices are kept as; vectors are always float32. */
  dtype: WeightDtype;
  /** How linear layers are quantized, where they are. */
  quantization?: Quantization;
  /** The base model's prefix, which a checkpoint may leave out. */
  prefix: string;
  /** Bytes that will be read in all, for `onProgress`. */
  readBytes: number;
  /** Told about bytes read. */
  onProgress?: (progress: Progress) => void;
  /** Stops the load. */
  signal?: AbortSignal;
}

// Bytes uploaded before waiting, which bounds the driver's copies of them; these are in the CPU's memory where the GPU is.
const IN_FLIGHT = 64 * 2 ** 20, IN_FLIGHT_CPU = 16 * 2 ** 20;

/**
 * Loads the weights that a family asks for: each gets its place on the GPU at once, and {@linkcode WeightLoader.load}
 * fills them in order. The loader owns them until {@linkcode WeightLoader.take}.
 */
export class WeightLoader implements WeightSource, Disposable {
  readonly #device: Device;
  readonly #checkpoint: Checkpoint;
  readonly #options: LoaderOptions;
  #buffers = buffersOf(CHUNK);
  #owned: Disposable[] = [];
  readonly #jobs: (() => Promise<void>)[] = [];
  readonly #later: Promise<void>[] = [];
  #loaded = 0;
  #waiting = 0;

  /** A loader from `checkpoint`, whose tensors a plan has checked. */
  constructor(device: Device, checkpoint: Checkpoint, options: LoaderOptions) {
    this.#device = device;
    this.#checkpoint = checkpoint;
    this.#options = options;
  }

  /** Whether the checkpoint has this tensor. */
  has(name: string): boolean {
    return this.#checkpoint.tensors.has(resolveName(this.#checkpoint, this.#options.prefix, name));
  }

  /** Reads everything that was asked for. */
  async load(): Promise<void> {
    for (const job of this.#jobs.splice(0)) await job();
    await this.#device.stream.settled();
    await Promise.all(this.#later.splice(0));
  }

  /** A vector as float32. */
  vector(name: string, length: number | Shape, { plus = 0 }: VectorOptions = {}): Promise<Tensor> {
    const shape = typeof length === "number" ? [length] : length;
    return Promise.resolve(this.#vector([[name, elements(shape)]], shape, plus));
  }

  /** Numbers that follow from the config. */
  constant(_name: string, data: Float32Array | Uint32Array): Promise<Tensor> {
    const dtype = data instanceof Uint32Array ? "uint32" : "float32";
    return Promise.resolve(this.#own(keep(this.#device, tensor(this.#device, data, [data.length], dtype))));
  }

  /** A linear layer; a quantized one is read at once, as what it takes depends on what is in it. */
  async linear(
    names: string | readonly string[],
    inputs: number,
    outputs: number | readonly number[],
    { bias = false, conv1d = false, window }: LinearOptions = {},
  ): Promise<Linear> {
    const layer = layerShape(names, inputs, outputs, { bias, conv1d });
    const lookup = lookupIn(this.#checkpoint, this.#options.prefix);
    const scheme = quantizes(window, bias) ? this.#options.quantization?.schemeOf(layer, lookup) : undefined;
    if (scheme) return this.#own(await scheme.load(this.#reader, layer, lookup));
    const list = [names].flat(), outs = [outputs].flat();
    const total = outs.reduce((sum, n) => sum + n, 0);
    const label = list.join(" + "), { dtype } = this.#options;
    const parts = shardsOf(total, inputs, dtype, this.#limit).map((shard) => ({
      ...shard,
      w: this.#own(this.#matrix(inputs, shard.count, label)),
    }));
    let output = 0;
    for (const [i, name] of list.entries()) {
      const at = output;
      this.#pieces(`${name}.weight`, (piece, row) => {
        packOutputs(piece, parts, { transpose: !conv1d, output: conv1d ? at : at + row, input: conv1d ? row : 0 });
      });
      output += outs[i]!;
    }
    const biases = list.map((name, i) => [hasBias(bias, i) ? `${name}.bias` : undefined, outs[i]!] as const);
    const b = layer.bias ? this.#vector(biases, [total]) : undefined;
    return this.#own(new DenseLinear(parts, inputs, total, b));
  }

  /** An embedding table. */
  embedding(name: string, rows: number, width: number, { skip = 0 } = {}): Promise<Embedding> {
    const parts = shardsOf(skip + rows, packedColumns(width), this.#options.dtype, this.#limit).map((shard) => ({
      ...shard,
      w: this.#own(this.#matrix(shard.count, width, name)),
    }));
    this.#pieces(`${name}.weight`, (piece, row) => packRows(piece, parts, row));
    const named = parts.map((part) => ({ ...part, first: part.first - skip }));
    return Promise.resolve(this.#own(new DenseEmbedding(named, rows, width)));
  }

  /** Hands over what was loaded: the caller disposes of it. */
  take(): Disposable[] {
    const owned = this.#owned;
    this.#owned = [];
    return owned;
  }

  /** Returns the memory of what was not handed over. */
  [Symbol.dispose](): void {
    for (const value of this.take()) value[Symbol.dispose]();
  }

  /** Bytes that a buffer may have to be bound. */
  get #limit(): number {
    return this.#device.limits.maxStorageBufferBindingSize;
  }

  #matrix(rows: number, columns: number, label: string): Tensor {
    return keep(this.#device, emptyPacked(this.#device, rows, columns, this.#options.dtype, label));
  }

  /** Vectors of these names and lengths, one after the other; one without a name is zeros. */
  #vector(parts: readonly (readonly [name: string | undefined, length: number])[], shape: Shape, plus = 0): Tensor {
    const t = this.#own(keep(this.#device, empty(this.#device, [...shape])));
    this.#jobs.push(async () => {
      const data = new Float32Array(t.size).fill(plus);
      let at = 0;
      for (const [name, length] of parts) {
        const numbers = name === undefined ? [] : await this.#numbers(name);
        for (const [i, x] of numbers.entries()) data[at + i]! += x;
        at += length;
      }
      t.write(data);
    });
    return t;
  }

  /** A small tensor as float32 numbers on the host. */
  async #numbers(name: string): Promise<Float32Array> {
    const info = this.#info(name);
    const bytes = (await this.#checkpoint.read(info.name)).slice();
    await this.#count(info, bytes.byteLength);
    if (info.dtype === "F64") return new Float32Array(new Float64Array(bytes.buffer));
    return Float32Array.from(decode(bytes.buffer, FLOATS[info.dtype]!));
  }

  /** Will read a matrix in pieces of whole rows and give each to `pack`, with its first row. */
  #pieces(name: string, pack: (piece: Tensor, row: number) => void): void {
    this.#jobs.push(() => this.#readPieces(name, pack));
  }

  /** Each piece is read while the one before is uploaded and packed. */
  async #readPieces(
    name: string,
    pack: (piece: Tensor, row: number) => void,
    { multiple = 1, rows: range }: { multiple?: number; rows?: Shard } = {},
  ): Promise<void> {
    const info = this.#info(name);
    const [all = 0, ...rest] = info.shape, cols = elements(rest);
    const { rows: step, line } = pieceOf(info, multiple), { first, count: rows } = range ?? { first: 0, count: all };
    if (line * step > this.#buffers[0].length) this.#buffers = buffersOf(line * step);
    const read = (row: number) => {
      this.#buffers.reverse();
      const end = Math.min(row + step, rows);
      if (row >= rows) return undefined;
      return quiet(this.#bytes(info, (first + row) * line, (first + end) * line, this.#buffers[0]));
    };
    let next = read(0);
    try {
      for (let row = 0; row < rows; row += step) {
        const bytes = (await next)!;
        next = read(row + step);
        const n = Math.min(step, rows - row);
        tidy(this.#device, () => pack(tensor(this.#device, ...elementsOf(bytes, info, [n, cols])), row));
        this.#device.stream.flush(); // the GPU begins
        await this.#count(info, bytes.byteLength);
      }
    } finally {
      await next?.catch(() => {}); // the file is not closed under it
    }
  }

  /** The checkpoint as schemes read it. */
  get #reader(): TensorReader {
    return {
      device: this.#device,
      has: (name) => this.has(name),
      numbers: (name) => this.#numbers(name),
      bytes: async (name, range) => {
        const info = this.#info(name), { start, end } = range ?? { start: 0, end: info.end - info.start };
        const bytes = new Uint8Array(end - start);
        let at = 0;
        for await (const chunk of this.#checkpoint.chunks(info.name, { start, end, maxBytes: end - start || 1 })) {
          bytes.set(chunk, at);
          at += chunk.byteLength;
        }
        await this.#count(info, bytes.byteLength);
        return bytes;
      },
      words: (name, range) => this.#words(name, range),
      pieces: (name, pack, options) => this.#readPieces(name, pack, options),
      later: (work) => void this.#later.push(work),
    };
  }

  /** A tensor's bytes, as they are. */
  async #words(name: string, range?: ByteRange): Promise<Tensor> {
    const info = this.#info(name), device = this.#device;
    const { start, end } = range ?? { start: 0, end: info.end - info.start };
    const words = Math.ceil((end - start) / 4);
    const t = keep(device, empty(device, [words], "uint32", { exact: true, label: name }));
    using made = new DisposableStack();
    made.use(t);
    let at = 0;
    const buffer = this.#buffers[0];
    for await (const chunk of this.#checkpoint.chunks(info.name, { start, end, maxBytes: CHUNK, buffer })) {
      const whole = new Uint8Array(Math.ceil(chunk.byteLength / 4) * 4);
      whole.set(chunk);
      device.stream.write(t.buffer, at, whole);
      at += chunk.byteLength;
      await this.#count(info, chunk.byteLength);
    }
    made.move(); // nothing failed: it is the caller's
    return t;
  }

  async #bytes(info: TensorInfo, start: number, end: number, buffer: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
    for await (const chunk of this.#checkpoint.chunks(info.name, { start, end, maxBytes: end - start, buffer })) {
      return chunk as Uint8Array<ArrayBuffer>;
    }
    return new Uint8Array();
  }

  async #count({ name }: TensorInfo, bytes: number): Promise<void> {
    const { signal, onProgress, readBytes } = this.#options;
    throwIfAborted(signal, "loading the model");
    this.#loaded += bytes;
    this.#waiting += bytes;
    const loaded = Math.min(this.#loaded, readBytes); // of a layer that is split some is read twice
    onProgress?.({ phase: "load", label: name, loaded, total: readBytes });
    if (this.#waiting < (this.#device.isCpu ? IN_FLIGHT_CPU : IN_FLIGHT)) return;
    this.#waiting = 0;
    await this.#device.stream.drain();
  }

  #info(name: string): TensorInfo {
    const info = this.#checkpoint.tensors.get(resolveName(this.#checkpoint, this.#options.prefix, name));
    if (!info) throw new ModelFormatError(`Cannot load ${name} as the checkpoint must hold it: it does not`);
    return info;
  }

  #own<T extends Disposable>(value: T): T {
    this.#owned.push(value);
    return value;
  }
}
