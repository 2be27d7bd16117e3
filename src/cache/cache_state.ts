/**
 * What a cache holds that cannot be had as keys and values: the form in which it goes into a file.
 *
 * @module
 */
import { ModelFormatError } from "../errors.ts";
import type { Tensor } from "../tensor/mod.ts";

/** A layer of a {@linkcode CacheState}. */
export interface LayerState {
  /** Key and value heads. */
  readonly kvHeads: number;
  /** Length of a head. */
  readonly headDim: number;
  /** Tokens of each sequence that are in codes, where there are any. */
  readonly spans?: readonly number[];
  /** By name; they are the cache's own. */
  readonly tensors: Readonly<Record<string, Tensor>>;
}

/** All that a cache holds, as it lies. */
export interface CacheState {
  /** Which kind of cache it is of. */
  readonly kind: string;
  /** What that cache was made with. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Tokens of each sequence. */
  readonly lengths: readonly number[];
  /** Tokens that each sequence has had, cropped ones included. */
  readonly reach: readonly number[];
  /** Tokens of each sequence that are in codes and were not cropped. */
  readonly quantized?: readonly number[];
  /** The layers in order. */
  readonly layers: readonly LayerState[];
}

/**
 * Copies `from` into `to`, behind the first `skip` bytes.
 *
 * @throws {ModelFormatError} if their shapes or dtypes differ
 */
export function restoreTensor(what: string, from: Tensor | undefined, to: Tensor, skip = 0): void {
  if (!from || `${from.shape}` !== `${to.shape}` || from.dtype !== to.dtype) {
    throw new ModelFormatError(
      `Cannot restore the cache as its ${what} must be ${to.dtype} [${to.shape}]: it is ` +
        (from ? `${from.dtype} [${from.shape}]` : "not there"),
    );
  }
  const { gpu } = from.buffer, bytes = to.byteLength - skip;
  to.device.stream.copy(gpu, from.byteOffset + skip, to.buffer.gpu, to.byteOffset + skip, bytes);
}
