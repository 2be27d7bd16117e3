/**
 * Tensors: a range of a GPU buffer with a shape and a dtype, always dense and row-major.
 *
 * @module
 */
import { DtypeError, ShapeError, ValueError } from "../errors.ts";
import { type Bindable, type Device, quiet, type ReadOptions } from "../gpu/mod.ts";
import type { PoolBuffer } from "../gpu/pool.ts";
import { bytesPerElement, decode, type Dtype, DTYPES, encode, type TensorData, type TypedArray } from "./dtype.ts";
import { own } from "./scope.ts";
import { elements, formatShape, type Shape } from "./shape.ts";

/** A pool buffer shared by the tensors that are views of it; returned to the pool with the last of them. */
class Storage {
  #references = 1;
  constructor(
    readonly device: Device,
    readonly buffer: PoolBuffer,
    readonly byteLength: number,
  ) {}
  retain(): this {
    this.#references++;
    return this;
  }
  release(): void {
    if (--this.#references === 0) this.device.pool.release(this.buffer);
  }
}

/**
 * A dense row-major array on the GPU. Ops never change or consume their arguments; `using` or {@linkcode Tensor.dispose}
 * returns the memory.
 */
export class Tensor implements Disposable, Bindable {
  readonly #storage: Storage;
  #disposed = false;

  /** Use {@linkcode tensor} or {@linkcode empty}. */
  constructor(
    storage: unknown,
    /** Length of each dimension. */
    readonly shape: Shape,
    /** Element type. */
    readonly dtype: Dtype,
    /** Where it begins in its buffer, in bytes. */
    readonly byteOffset = 0,
  ) {
    this.#storage = storage as Storage;
    own(this.device, this);
  }

  /** The device it lies on. */
  get device(): Device {
    return this.#storage.device;
  }

  /**
   * The buffer it lies in.
   *
   * @throws {ValueError} if the tensor was disposed of
   */
  get buffer(): PoolBuffer {
    return this.#live.buffer;
  }

  /** Number of elements. */
  get size(): number {
    return elements(this.shape);
  }

  /** Number of bytes of its elements. */
  get byteLength(): number {
    return this.size * bytesPerElement(this.dtype);
  }

  /** The same elements in another shape, without a copy. `-1` stands for what is left over. */
  reshape(shape: Shape): Tensor {
    const known = elements(shape.filter((n) => n !== -1));
    const full = shape.map((n) => n === -1 ? this.size / Math.max(1, known) : n);
    if (shape.filter((n) => n === -1).length > 1 || elements(full) !== this.size || !full.every(Number.isInteger)) {
      throw new ShapeError(
        `Cannot reshape a tensor as its ${this.size} elements must fill the new shape: ` +
          `${formatShape(this.shape)} to ${formatShape(shape)}`,
      );
    }
    return new Tensor(this.#live.retain(), full, this.dtype, this.byteOffset);
  }

  /**
   * Rows `start` to `end` of the first dimension, without a copy.
   *
   * @throws {ShapeError} out of range, or if the first row does not begin at the device's offset alignment
   */
  rows(start: number, end: number): Tensor {
    const [n = 0, ...rest] = this.shape;
    if (this.shape.length === 0 || !(0 <= start && start <= end && end <= n)) {
      throw new ShapeError(
        `Cannot take rows ${start} to ${end} as they must lie within the first dimension: shape is ${
          formatShape(this.shape)
        }`,
      );
    }
    const offset = this.byteOffset + start * elements(rest) * bytesPerElement(this.dtype);
    const alignment = this.device.limits.minStorageBufferOffsetAlignment;
    if (offset % alignment !== 0) {
      throw new ShapeError(
        `Cannot view rows ${start} to ${end} of ${
          formatShape(this.shape)
        } ${this.dtype} without a copy as the first must ` +
          `begin at a multiple of ${alignment} bytes: it begins at ${offset}`,
        { hint: "Use sliceRows() of ./ops, which copies." },
      );
    }
    return new Tensor(this.#live.retain(), [end - start, ...rest], this.dtype, offset);
  }

  /** The elements, on the host, once everything recorded so far has run; bfloat16 is given as float32. */
  read(options?: ReadOptions): Promise<TypedArray> {
    const bytes = this.device.stream.read(this.buffer.gpu, this.byteOffset, this.byteLength, options);
    return quiet(bytes.then((bytes) => decode(bytes, this.dtype)));
  }

  /**
   * Overwrites the elements from the host.
   *
   * @throws {ShapeError} if `data` does not fill the tensor, or the tensor is a view that ends inside a 4-byte word
   */
  write(data: TensorData): void {
    if (data.length !== this.size) throw wrongLength(data.length, this.shape);
    if (this.byteLength % 4 !== 0 && this.byteOffset + this.byteLength < this.#live.byteLength) {
      throw new ShapeError(
        `Cannot write to a view ${formatShape(this.shape)} ${this.dtype} as it must end at a multiple of 4 bytes: ` +
          `it has ${this.byteLength}, and elements that are not its own follow`,
      );
    }
    this.device.stream.write(this.buffer, this.byteOffset, padded(encode(data, this.dtype)));
  }

  get #live(): Storage {
    if (!this.#disposed) return this.#storage;
    throw new ValueError(`Cannot use a tensor ${formatShape(this.shape)} as it must be alive: it was disposed of`);
  }

  /** Returns the memory, once no other view uses it. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#storage.release();
  }

  /** As {@linkcode dispose}. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** "Tensor [2, 3] float32" */
  toString(): string {
    return `Tensor ${formatShape(this.shape)} ${this.dtype}`;
  }
}

/**
 * A tensor of `data`.
 *
 * @param data numbers in row-major order; a `Uint16Array` holds the bits of float16 or bfloat16
 * @param shape length of each dimension
 * @param dtype default float32
 * @throws {ShapeError} if `data` does not fill `shape`
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * await using device = await openDevice();
 * using t = tensor(device, [1, 2, 3, 4, 5, 6], [2, 3]);
 * console.log(await t.read()); // Float32Array(6) [ 1, 2, 3, 4, 5, 6 ]
 * ```
 */
export function tensor(device: Device, data: TensorData, shape: Shape, dtype: Dtype = "float32"): Tensor {
  checkShape(shape, dtype);
  if (data.length !== elements(shape)) throw wrongLength(data.length, shape);
  const t = empty(device, shape, dtype);
  try {
    t.write(data);
  } catch (error) {
    t.dispose();
    throw error;
  }
  return t;
}

/** How {@linkcode empty} allocates. */
export interface EmptyOptions {
  /** For tensors that live long (weights, caches): no rounding to a size class. */
  exact?: boolean;
  /** What it is for, in error messages. */
  label?: string;
}

/** A tensor whose elements are undefined until something writes them. */
export function empty(device: Device, shape: Shape, dtype: Dtype = "float32", options: EmptyOptions = {}): Tensor {
  checkShape(shape, dtype);
  const bytes = elements(shape) * bytesPerElement(dtype);
  const buffer = device.pool.acquire(
    Math.max(4, bytes),
    options.label ?? `a tensor ${formatShape(shape)}`,
    options.exact,
  );
  return new Tensor(new Storage(device, buffer, bytes), [...shape], dtype);
}

function checkShape(shape: Shape, dtype: Dtype): void {
  if (!shape.every((n) => Number.isSafeInteger(n) && n >= 0) || !Number.isSafeInteger(elements(shape))) {
    throw new ShapeError(
      `Cannot make a tensor as its dimensions must be whole numbers from 0: current shape is ${formatShape(shape)}`,
    );
  }
  if (!DTYPES.includes(dtype)) {
    throw new DtypeError(
      `Cannot make a tensor as its dtype must be one of ${DTYPES.join(", ")}: current value is ${dtype}`,
    );
  }
}

function wrongLength(length: number, shape: Shape): ShapeError {
  return new ShapeError(
    `Cannot fill a tensor as the data must have ${elements(shape)} elements for shape ${
      formatShape(shape)
    }: ${length} came`,
  );
}

/** WebGPU writes whole words: an odd number of 16-bit elements gets two zero bytes at the end. */
function padded(bytes: Uint8Array): Uint8Array {
  if (bytes.byteLength % 4 === 0) return bytes;
  const words = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
  words.set(bytes);
  return words;
}
