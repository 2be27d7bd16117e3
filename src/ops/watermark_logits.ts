import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/watermark_logits.wgsl" with { type: "text" };
import { empty, type Tensor } from "../tensor/mod.ts";
import { blocksOf, expectHistory, expectScores, expectSettings, type TokenHistory } from "./logits.ts";
import { pcg4d } from "./sample_logits.ts";

const launch = kernel("watermark_logits", wgsl);

/** Which tokens are green, and what they gain. */
export interface Watermark {
  /** Share of green tokens. */
  greenlistRatio: number;
  /** Added to their logits. */
  bias: number;
  /** The secret. */
  hashingKey: number;
  /** What green depends on. */
  seedingScheme: "lefthash" | "selfhash";
  /** Tokens that must be there. */
  contextWidth: number;
}

/** Packs a watermark for {@linkcode watermarkLogits}. */
export function watermarkWords(w: Watermark): Uint32Array<ArrayBuffer> {
  const key = BigInt.asUintN(64, BigInt(w.hashingKey)), bias = new Uint32Array(Float32Array.of(w.bias).buffer)[0]!;
  const share = Math.floor(w.greenlistRatio * 2 ** 32), self = Number(w.seedingScheme === "selfhash");
  return Uint32Array.of(Number(key & 0xffffffffn), Number(key >> 32n), share, bias, self, w.contextWidth);
}

/**
 * Makes green tokens likelier: which ones are green follows from a key and the tokens before, and, with "selfhash", from
 * the token itself. Rows with fewer tokens than the context stay as they are.
 *
 * Source: https://arxiv.org/abs/2306.04634
 *
 * @param x [B, V] float32
 * @param past ids of each row so far
 * @param settings [6] uint32 of {@linkcode watermarkWords}
 * @returns [B, V] float32
 * @throws {ShapeError} if shapes do not fit
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { watermarkLogits, watermarkWords } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * const u32 = (data: ArrayLike<number>, shape: number[]) => tensor(device, Uint32Array.from(data), shape, "uint32");
 * const past = { ids: u32([7], [1, 1]), lengths: u32([1], [1]) };
 * const settings = { greenlistRatio: 0.5, bias: 2, hashingKey: 1, seedingScheme: "lefthash", contextWidth: 1 } as const;
 * using y = watermarkLogits(tensor(device, [1, 1], [1, 2]), past, u32(watermarkWords(settings), [6]));
 * ```
 */
export function watermarkLogits(x: Tensor, past: TokenHistory, settings: Tensor): Tensor {
  const [rows] = expectScores("watermarkLogits", x);
  expectHistory("watermarkLogits", past, rows);
  expectSettings("watermarkLogits", { settings }, "uint32");
  const y = empty(x.device, x.shape);
  launch(x.device, { bindings: { x, ids: past.ids, lengths: past.lengths, settings, y }, grid: blocksOf(x) });
  return y;
}

/** Whether a token is green after `past`, by token. */
export function greenAfter(past: readonly number[], w: Watermark): (token: number) => boolean {
  const [low = 0, high = 0, share = 0, , self = 0] = watermarkWords(w);
  const before = past.slice(past.length - w.contextWidth + 1), last = past.at(-1)!;
  const hash = (...words: [number, number, number, number]) => pcg4d(words)[0] >>> 0;
  const greenBy = (seed: number) => {
    const [a, b, c, d] = pcg4d([low, high, seed, self]);
    return (token: number) => hash(a ^ token, b, c, d) < share;
  };
  if (!self) return greenBy(last);
  const context = w.contextWidth > 1 ? before : [];
  return (t) => greenBy(Math.min(hash(low, high, t, t), ...context.map((id) => hash(low, high, id, t))))(t);
}

/** The same for one row in plain loops, in place: what the kernel must equal. */
export function watermarkLogitsReference(scores: Float32Array, past: readonly number[], w: Watermark): void {
  if (past.length < w.contextWidth) return;
  const green = greenAfter(past, w);
  for (let t = 0; t < scores.length; t++) if (green(t)) scores[t]! += w.bias;
}
