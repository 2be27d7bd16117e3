import { type Kernel, kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/count_tokens.wgsl" with { type: "text" };
import { expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";

const launch: Kernel = kernel("count_tokens", wgsl);

/**
 * Adds the occurrences of tokens to `counts`, for {@linkcode repetitionPenalty}. This op alone changes its argument: the
 * counts of a vocabulary are many, the tokens of a step few.
 *
 * @param counts [B, V] uint32, added to in place
 * @param tokens [T] uint32, sequences end to end; what is no token (from V on) is not counted
 * @param cuSeqlens [B+1] uint32: sequence b is tokens[cuSeqlens[b] .. cuSeqlens[b+1]); 0, 1, … B when decoding
 * @throws {ShapeError} if `counts` and `cuSeqlens` are for different numbers of sequences
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { countTokens, zeros } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using counts = zeros(device, [1, 4], "uint32");
 * countTokens(counts, tensor(device, [3, 1, 3], [3], "uint32"), tensor(device, [0, 3], [2], "uint32"));
 * console.log(await counts.read()); // Uint32Array(4) [ 0, 1, 0, 2 ]
 * ```
 */
export function countTokens(counts: Tensor, tokens: Tensor, cuSeqlens: Tensor): void {
  const [sequences = 0, vocab = 0] = expectShape("countTokens", "counts", counts, ["B", "V"]);
  expectShape("countTokens", "tokens", tokens, ["T"]);
  expectShape("countTokens", "cuSeqlens", cuSeqlens, [sequences + 1]);
  for (const [name, t] of Object.entries({ counts, tokens, cuSeqlens })) expectDtype("countTokens", name, t, "uint32");
  if (tokens.size * vocab === 0) return;
  launch(counts.device, { bindings: { counts, tokens, cu_seqlens: cuSeqlens }, grid: [sequences] });
}

/** The same in plain loops: what the kernel must equal. */
export function countTokensReference(
  counts: Uint32Array,
  tokens: ArrayLike<number>,
  cuSeqlens: ArrayLike<number>,
): void {
  const vocab = counts.length / (cuSeqlens.length - 1);
  for (let b = 0; b < cuSeqlens.length - 1; b++) {
    for (let i = cuSeqlens[b]!; i < cuSeqlens[b + 1]!; i++) if (tokens[i]! < vocab) counts[b * vocab + tokens[i]!]!++;
  }
}
