import { kernel } from "../gpu/mod.ts";
import emitWgsl from "../shaders/emit_tokens.wgsl" with { type: "text" };
import { expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";

const emit = kernel("emit_tokens", emitWgsl);

/** What {@linkcode emitTokens} writes for a row whose logits are not finite. */
export const INVALID_TOKEN = 0xffffffff;

/** What a decode loop keeps on the GPU; {@linkcode emitTokens} changes all but the last. */
export interface DecodeBuffers {
  /** [B] uint32: the next input. */
  tokens: Tensor;
  /** [B] uint32: its position. */
  positions: Tensor;
  /** [B] uint32: 1 once a row has ended. */
  done: Tensor;
  /** [N, B] uint32: the tokens of the last N steps; step s is in row s % N. */
  ring: Tensor;
  /** [1] uint32: steps so far. */
  step: Tensor;
  /** (pad token, N, tokens that end a row …) uint32. */
  settings: Tensor;
}

/**
 * Ends a decode step: `chosen` become the next input and a row of the ring; rows that have ended get the pad token, and
 * a token whose score is not finite is written as {@linkcode INVALID_TOKEN}.
 *
 * @param chosen [B] uint32
 * @param scores [B, V] float32 that they were chosen from
 */
export function emitTokens(chosen: Tensor, scores: Tensor, state: DecodeBuffers): void {
  const [B = 0] = expectShape("emitTokens", "chosen", chosen, ["B"]);
  expectShape("emitTokens", "scores", scores, [B, "V"]);
  expectDtype("emitTokens", "chosen", chosen, "uint32");
  const { settings, tokens, positions, done, ring, step } = state;
  emit(chosen.device, {
    bindings: { chosen, logits: scores, settings, tokens, positions, done, ring, step },
    grid: [1],
  });
}
