import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/bias_tokens.wgsl" with { type: "text" };
import { empty, type Tensor } from "../tensor/mod.ts";
import { extent } from "./launching.ts";
import { blocksOf, expectHistory, expectScores, expectSettings, NEG, type TokenHistory } from "./logits.ts";

const launch = kernel("bias_tokens", wgsl);

/** What is added to the logit of the last of `ids` where the others are the last ones of the row so far. */
export interface TokenBias {
  /** The token and, before it, those that must have come. */
  ids: readonly number[];
  /** What is added; -Infinity forbids the token. */
  bias: number;
  /** The first step that it holds at. Default 0. */
  from?: number;
  /** The first step that it does not hold at any more. Default: never. */
  until?: number;
}

const FIELDS = 5;

/** Packs biases for {@linkcode biasTokens}: uint32 words, laid out as its shader says. */
export function biasTable(biases: readonly TokenBias[]): Uint32Array<ArrayBuffer> {
  const sorted = biases.toSorted((a, b) => a.ids.at(-1)! - b.ids.at(-1)!);
  const targets = [...new Set(sorted.map(({ ids }) => ids.at(-1)!))];
  const entries = 1 + 2 * (targets.length + 1), bits = new Uint32Array(new Float32Array(1).buffer);
  const head = [targets.length], words: number[] = [], before: number[] = [];
  for (const token of targets) {
    head.push(token, entries + words.length);
    for (const { ids, bias, from = 0, until = 0xffffffff } of sorted.filter(({ ids }) => ids.at(-1) === token)) {
      new Float32Array(bits.buffer)[0] = Math.max(bias, NEG);
      words.push(bits[0]!, from, until, entries + FIELDS * sorted.length + before.length, ids.length - 1);
      before.push(...ids.slice(0, -1));
    }
  }
  return Uint32Array.from([...head, 0xffffffff, entries + words.length, ...words, ...before]);
}

/**
 * Adds to the logits of single tokens, always or where others come before them, at all steps or some. A bias of -infinity
 * forbids a token whatever its logit is, NaN too.
 *
 * @param x [B, V] float32
 * @param table [n] uint32 of {@linkcode biasTable}
 * @param step [1] uint32, tokens generated so far
 * @param past ids of each row so far; may be left out if no bias is for more than one token
 * @returns [B, V] float32
 * @throws {ShapeError} if shapes do not fit
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { biasTable, biasTokens } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * const words = biasTable([{ ids: [1], bias: 2 }]), step = tensor(device, [0], [1], "uint32");
 * using y = biasTokens(tensor(device, [5, 5], [1, 2]), tensor(device, words, [words.length], "uint32"), step);
 * console.log(await y.read()); // Float32Array(2) [ 5, 7 ]
 * ```
 */
export function biasTokens(x: Tensor, table: Tensor, step: Tensor, past?: TokenHistory): Tensor {
  const [rows, vocab] = expectScores("biasTokens", x);
  expectSettings("biasTokens", { table, step }, "uint32");
  if (past) expectHistory("biasTokens", past, rows);
  const y = empty(x.device, x.shape);
  const { ids, lengths } = past ?? { ids: table, lengths: table };
  launch(x.device, { bindings: { x, width: extent(x, vocab), table, step, ids, lengths, y }, grid: blocksOf(x) });
  return y;
}

/** The same for one row in plain loops, in place: what the kernel must equal. */
export function biasTokensReference(
  scores: Float32Array,
  biases: readonly TokenBias[],
  past: readonly number[],
  step: number,
): void {
  const sums = new Map<number, number>();
  for (const { ids, bias, from = 0, until = Infinity } of biases) {
    const start = past.length - ids.length + 1;
    if (step < from || step >= until || start < 0) continue;
    if (!ids.every((id, i) => i === ids.length - 1 || past[start + i] === id)) continue;
    sums.set(ids.at(-1)!, (sums.get(ids.at(-1)!) ?? 0) + bias);
  }
  for (const [id, bias] of sums) scores[id] = bias === -Infinity ? bias : scores[id]! + bias;
}
