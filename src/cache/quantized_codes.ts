/**
 * Codes of some sequences, copied on the GPU.
 *
 * @module
 */
import { kvLayoutOf, type KvScheme, type KvSpans } from "../ops/kv_quantization.ts";
import type { Tensor } from "../tensor/mod.ts";

/** Copies the codes and scales of the sequences `rows` of `from` into `to`; `spans` of both. */
export function copyKvCodes(
  from: Tensor,
  to: Tensor,
  rows: readonly number[],
  [mine, theirs]: readonly [from: KvSpans, to: KvSpans],
  scheme: KvScheme,
): void {
  const a = kvLayoutOf(mine, scheme), b = kvLayoutOf(theirs, scheme);
  const sections = [ // keys' and values' codes, then their scales: where each begins, and words an element
    { at: [0, a.codes], into: [0, b.codes], each: a.codes / a.elements },
    {
      at: [2 * a.codes, 2 * a.codes + a.scales],
      into: [2 * b.codes, 2 * b.codes + b.scales],
      each: a.scales / a.elements,
    },
  ];
  for (const { at, into, each } of sections) {
    for (const part of [0, 1]) {
      for (const [i, row] of rows.entries()) {
        const source = a.header.length + at[part]! + a.starts[row]! * each;
        const target = b.header.length + into[part]! + b.starts[i]! * each;
        const words = (b.starts[i + 1]! - b.starts[i]!) * each, { stream } = from.device;
        stream.copy(
          from.buffer.gpu,
          from.byteOffset + 4 * source,
          to.buffer.gpu,
          to.byteOffset + 4 * target,
          4 * words,
        );
      }
    }
  }
}
