/**
 * Parts of packed and of batched tensors, copied on the GPU.
 *
 * @module
 */
import { empty, type Tensor } from "../tensor/mod.ts";

/** Copies the `1 / size`-th parts `rows` of `from` one after the other into `into`. */
export function copyRows(from: Tensor, into: Tensor, rows: readonly number[], size: number): void {
  const bytes = from.byteLength / size;
  for (const [b, row] of rows.entries()) {
    const at = from.byteOffset + row * bytes;
    from.device.stream.copy(from.buffer.gpu, at, into.buffer.gpu, into.byteOffset + b * bytes, bytes);
  }
}

/** The last `kept[b]` of the `lengths[b]` tokens of each sequence. */
export function lastTokens(t: Tensor, lengths: readonly number[], kept: readonly number[]): Tensor {
  if (lengths.every((n, b) => n === kept[b])) return t;
  const row = t.byteLength / t.shape[0]!, { device } = t;
  const y = empty(device, [kept.reduce((sum, n) => sum + n, 0), ...t.shape.slice(1)], t.dtype);
  let from = 0, to = 0;
  for (const [b, n] of lengths.entries()) {
    const bytes = kept[b]! * row;
    from += n * row;
    device.stream.copy(t.buffer.gpu, t.byteOffset + from - bytes, y.buffer.gpu, y.byteOffset + to, bytes);
    to += bytes;
  }
  return y;
}

/** Where packed sequences of these lengths begin, and where the last one ends. */
export function startsOf(lengths: readonly number[]): number[] {
  return lengths.reduce((sums, n) => [...sums, sums.at(-1)! + n], [0]);
}

/** The first tokens of each sequence, of `[all, first]`. */
export function firstTokens(t: Tensor, lengths: readonly (readonly [all: number, first: number])[]): Tensor {
  if (lengths.every(([all, first]) => all === first)) return t;
  const row = t.byteLength / t.shape[0]!, total = lengths.reduce((sum, [, first]) => sum + first, 0);
  const y = empty(t.device, [total, ...t.shape.slice(1)], t.dtype);
  let from = t.byteOffset, to = y.byteOffset;
  for (const [all, first] of lengths) {
    t.device.stream.copy(t.buffer.gpu, from, y.buffer.gpu, to, first * row);
    from += all * row;
    to += first * row;
  }
  return y;
}

/** The packed tokens of the sequences `rows`. */
export function selectPacked(t: Tensor, lengths: readonly number[], rows: readonly number[]): Tensor {
  const starts = startsOf(lengths), bytes = t.byteLength / Math.max(1, t.shape[0]!);
  const total = rows.reduce((sum, b) => sum + lengths[b]!, 0);
  const y = empty(t.device, [total, ...t.shape.slice(1)], t.dtype);
  let to = y.byteOffset;
  for (const b of rows) {
    const from = t.byteOffset + starts[b]! * bytes, size = lengths[b]! * bytes;
    t.device.stream.copy(t.buffer.gpu, from, y.buffer.gpu, to, size);
    to += size;
  }
  return y;
}
