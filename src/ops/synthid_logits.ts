import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/synthid_logits.wgsl" with { type: "text" };
import { empty, type Tensor } from "../tensor/mod.ts";
import { extent } from "./launching.ts";
import { expectHistory, expectScores, expectSettings, NEG, rowThreads, type TokenHistory } from "./logits.ts";
import { pcg4d } from "./sample_logits.ts";

const launch = kernel("synthid_logits", wgsl);

/** A SynthID watermark. */
export interface SynthId {
  /** Tokens of an n-gram: the context, and the token that is drawn. */
  ngramLen: number;
  /** A key for each tournament. */
  keys: readonly number[];
  /** How many earlier contexts are looked at; one that was there is not marked again. */
  contextHistorySize: number;
  /** Seed of the bits. */
  samplingTableSeed: number;
  /** Leave the first n-grams alone. */
  skipFirstNgramCalls: boolean;
  /** Start from equal probabilities, for tests. */
  debugMode: boolean;
}

/** Packs a watermark for {@linkcode synthIdLogits}. */
export function synthIdWords(w: SynthId): Uint32Array<ArrayBuffer> {
  const halves = [w.samplingTableSeed, ...w.keys].flatMap((value) => {
    const bits = BigInt.asUintN(64, BigInt(value));
    return [Number(bits & 0xffffffffn), Number(bits >> 32n)];
  });
  return Uint32Array.of(w.ngramLen, w.contextHistorySize, +w.skipFirstNgramCalls, +w.debugMode, ...halves);
}

/**
 * SynthID: log-probabilities after one tournament a key, each of which makes tokens likelier that a hash of the key, the
 * last tokens and the token itself picks. Rows that are too short, and contexts that were there before, are left alone.
 *
 * Source: https://www.nature.com/articles/s41586-024-08025-4
 *
 * @param logits [B, V] float32
 * @param past ids of each row so far
 * @param settings [n] uint32 of {@linkcode synthIdWords}
 * @param step [1] uint32, tokens generated so far
 * @returns [B, V] float32
 * @throws {ShapeError} if shapes do not fit
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { synthIdLogits, synthIdWords } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * const u32 = (data: ArrayLike<number>, shape: number[]) => tensor(device, Uint32Array.from(data), shape, "uint32");
 * const rest = { contextHistorySize: 1024, samplingTableSeed: 0, skipFirstNgramCalls: false, debugMode: false };
 * const words = synthIdWords({ ngramLen: 2, keys: [654, 400], ...rest });
 * const past = { ids: u32([7], [1, 1]), lengths: u32([1], [1]) };
 * using y = synthIdLogits(tensor(device, [1, 1], [1, 2]), past, u32(words, [words.length]), u32([0], [1]));
 * ```
 */
export function synthIdLogits(logits: Tensor, past: TokenHistory, settings: Tensor, step: Tensor): Tensor {
  const [rows, vocab] = expectScores("synthIdLogits", logits, "logits");
  expectHistory("synthIdLogits", past, rows);
  expectSettings("synthIdLogits", { settings, step }, "uint32");
  const y = empty(logits.device, logits.shape), { ids, lengths } = past;
  launch(logits.device, {
    consts: rowThreads(logits.device, vocab),
    bindings: { logits, width: extent(logits, vocab), ids, lengths, step, settings, y },
    grid: [rows],
  });
  return y;
}

/** The bits of a token after `past`, one a key: by token. */
export function synthIdBits(past: readonly number[], w: SynthId): (token: number) => number[] {
  const [, , , , low = 0, high = 0, ...keys] = synthIdWords(w);
  let hash = pcg4d([low, high, w.ngramLen, 0]);
  for (const id of past.slice(past.length - w.ngramLen + 1)) hash = pcg4d([hash[0] ^ id, hash[1], hash[2], hash[3]]);
  const mixed = w.keys.map((_, k) => pcg4d([hash[0] ^ keys[2 * k]!, hash[1] ^ keys[2 * k + 1]!, hash[2], hash[3]]));
  return (token) => mixed.map(([a, b, c, d]) => pcg4d([a ^ token, b, c, d])[0] >>> 31);
}

/** Whether the last tokens of `past`, of which `step` were generated, are marked: they are enough, and new. */
export function synthIdMarks(past: readonly number[], w: SynthId, step: number): boolean {
  const context = w.ngramLen - 1, last = past.slice(past.length - context).join();
  if (past.length < context || (w.skipFirstNgramCalls && step + 1 < w.ngramLen)) return false;
  const back = Math.min(step, w.contextHistorySize, past.length - context);
  return Array.from({ length: back }, (_, i) => past.length - 1 - i)
    .every((end) => past.slice(end - context, end).join() !== last);
}

/** The same for one row in plain loops, in place: what the kernel must equal. */
export function synthIdLogitsReference(scores: Float32Array, past: readonly number[], w: SynthId, step: number): void {
  if (!synthIdMarks(past, w, step)) return;
  const bits = synthIdBits(past, w), of = Array.from(scores, (_, t) => bits(t));
  const top = scores.reduce((a, b) => b > a ? b : a, NEG);
  const weights = Array.from(scores, (x) => x > NEG ? w.debugMode ? 1 : Math.exp(x - top) : 0);
  const sum = w.debugMode ? scores.length : weights.reduce((a, b) => a + b, 0);
  let p = weights.map((x) => x / sum);
  for (const k of w.keys.keys()) {
    const mass = p.reduce((total, x, t) => total + x * of[t]![k]!, 0);
    p = p.map((x, t) => x * (1 + of[t]![k]! - mass));
  }
  for (let t = 0; t < scores.length; t++) scores[t] = p[t]! > 0 ? Math.log(p[t]!) : -Infinity;
}
