import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/append_tokens.wgsl" with { type: "text" };
import { expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";
import { expectHistory, type TokenHistory } from "./logits.ts";

const launch = kernel("append_tokens", wgsl);

/**
 * Appends a token to each row of a history, which it changes in place, as `countTokens` does: the tokens of a step are few,
 * those before it many. A row that is full stays as it is.
 *
 * @param history ids [B, N] uint32 and lengths [B] uint32, changed in place
 * @param tokens [B] uint32
 * @throws {ShapeError} if there are not as many tokens as rows
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { appendTokens } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * const u32 = (data: number[], shape: number[]) => tensor(device, data, shape, "uint32");
 * const history = { ids: u32([5, 0], [1, 2]), lengths: u32([1], [1]) };
 * appendTokens(history, u32([7], [1]));
 * console.log(await history.ids.read()); // Uint32Array(2) [ 5, 7 ]
 * ```
 */
export function appendTokens(history: TokenHistory, tokens: Tensor): void {
  const [rows = 0] = expectShape("appendTokens", "tokens", tokens, ["B"]);
  expectDtype("appendTokens", "tokens", tokens, "uint32");
  expectHistory("appendTokens", history, rows);
  const { ids, lengths } = history;
  launch(tokens.device, { bindings: { tokens, ids, lengths }, grid: [Math.ceil(rows / 64)] });
}

/** The same in plain loops: what the kernel must equal. */
export function appendTokensReference(ids: Uint32Array, lengths: Uint32Array, tokens: ArrayLike<number>): void {
  const N = ids.length / lengths.length;
  for (let b = 0; b < lengths.length; b++) {
    if (lengths[b]! < N) ids[b * N + lengths[b]!++] = tokens[b]!;
  }
}
