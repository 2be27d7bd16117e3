import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/ban_ngrams.wgsl" with { type: "text" };
import { empty, type Tensor } from "../tensor/mod.ts";
import { expectHistory, expectScores, expectSettings, rowThreads, type TokenHistory } from "./logits.ts";

const launch = kernel("ban_ngrams", wgsl);

/**
 * Forbids tokens that would complete an n-gram of a source: of the row itself, so that none comes twice, or of an
 * encoder's input.
 *
 * @param x [B, V] float32
 * @param past ids of each row so far
 * @param source where n-grams are looked up: S rows, B a multiple of S; `past` again for the row itself
 * @param size [1] uint32: n, from 1
 * @returns [B, V] float32
 * @throws {ShapeError} if shapes do not fit
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { banNgrams } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * const u32 = (data: number[], shape: number[]) => tensor(device, data, shape, "uint32");
 * const past = { ids: u32([0, 1, 0], [1, 3]), lengths: u32([3], [1]) };
 * using y = banNgrams(tensor(device, [4, 5], [1, 2]), past, past, u32([2], [1]));
 * console.log(await y.read()); // Float32Array(2) [ 4, -1e30 ]
 * ```
 */
export function banNgrams(x: Tensor, past: TokenHistory, source: TokenHistory, size: Tensor): Tensor {
  const [rows, vocab] = expectScores("banNgrams", x);
  expectHistory("banNgrams", past, rows);
  expectHistory("banNgrams", source, source.lengths.shape[0]!);
  expectSettings("banNgrams", { size }, "uint32");
  const y = empty(x.device, x.shape);
  launch(x.device, {
    consts: rowThreads(x.device, vocab),
    bindings: { x, ids: past.ids, lengths: past.lengths, source: source.ids, source_lengths: source.lengths, size, y },
    grid: [rows],
  });
  return y;
}

/** The same for one row in plain loops, in place: what the kernel must equal. */
export function banNgramsReference(
  scores: Float32Array,
  past: readonly number[],
  source: readonly number[],
  n: number,
): void {
  const start = past.length - n + 1;
  if (start < 0) return;
  for (let end = n - 1; end < source.length; end++) {
    let same = true;
    for (let i = 0; same && i < n - 1; i++) same = source[end - n + 1 + i] === past[start + i];
    if (same) scores[source[end]!] = -Infinity;
  }
}
