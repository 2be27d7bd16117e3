import { kernel } from "../gpu/mod.ts";
import acceptWgsl from "../shaders/accept_drafts.wgsl" with { type: "text" };
import drawnWgsl from "../shaders/accept_drawn.wgsl" with { type: "text" };
import draftWgsl from "../shaders/draft_token.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";
import { INVALID_TOKEN } from "./decode_state.ts";
import { NEG, rowThreads } from "./logits.ts";
import { gumbelNoise, pcg4d } from "./sample_logits.ts";

const launchAccept = kernel("accept_drafts", acceptWgsl);
const launchDrawn = kernel("accept_drawn", drawnWgsl);
const launchDraft = kernel("draft_token", draftWgsl);

/** Words of {@linkcode SpeculationBuffers.state} before the ring. */
export const STATE_HEADER = 8;

/** What "over" says of a draft whose logits are not finite. */
export const BROKEN_DRAFT = 2;

/** What rounds of speculative decoding keep on the GPU, all uint32. */
export interface SpeculationBuffers {
  /** [n]: the last token of the sequence, then what was drafted. */
  window: Tensor;
  /** [n]: where those stand. */
  positions: Tensor;
  /** [n]: how many tokens were chosen before the one that follows each. */
  steps: Tensor;
  /** [2]: the last two tokens. */
  pair: Tensor;
  /** [2]: where they stand. */
  pairPositions: Tensor;
  /**
   * [8 + N]: place of the last token; tokens drafted on the GPU, how many of them until the draft was over, whether it is;
   * tokens emitted in all; of the last round how many until its draft was over, how many were accepted, and whether it was
   * over; then the ring of emitted tokens, token t in word 8 + t % N.
   */
  state: Tensor;
}

/**
 * Ends a round: keeps drafted tokens as long as `chosen` says the same, then the one of `chosen`, and makes the window of
 * the next round. Where `state` counts a draft, what came after it was over is not kept. A token whose logit is not finite is given as `INVALID_TOKEN`.
 *
 * @param chosen [k + 1] uint32: what follows each of the first k + 1 tokens of the window
 * @param logits [k + 1, V] float32 that they were chosen from
 */
export function acceptDrafts(chosen: Tensor, logits: Tensor, buffers: SpeculationBuffers): void {
  const [rows = 0] = expectShape("acceptDrafts", "chosen", chosen, ["k"]);
  expectShape("acceptDrafts", "logits", logits, [rows, "V"]);
  expectDtype("acceptDrafts", "chosen", chosen, "uint32");
  launchAccept(chosen.device, { bindings: { chosen, logits, ...buffers }, grid: [1] });
}

/** What a draft was drawn from. */
export interface DrawnDraft {
  /** [k or more, V] float32: the scores of each drafted token's row, warped. */
  q: Tensor;
  /** [1, 8] uint32 of `samplingParams`, of which the seed is used. */
  params: Tensor;
}

/**
 * Chooses what follows each token of the window so that it is distributed as the model's own draws: a drafted token with
 * probability min(1, p / q), else a draw from what p has beyond q; after the last draft that `state` counts, a draw from
 * p. The same seed and steps give the same tokens.
 *
 * Source: Leviathan et al. 2022, https://arxiv.org/abs/2211.17192
 *
 * @param p [k + 1, V] float32: the model's scores, warped
 * @returns [k + 1] uint32
 */
export function acceptDrawn(
  p: Tensor,
  { q, params }: DrawnDraft,
  { window, steps, state }: SpeculationBuffers,
): Tensor {
  const [rows = 0, vocab = 0] = expectShape("acceptDrawn", "p", p, ["k", "V"]);
  expectShape("acceptDrawn", "q", q, ["n", vocab]);
  expectShape("acceptDrawn", "params", params, [1, 8]);
  const chosen = empty(p.device, [rows], "uint32");
  launchDrawn(p.device, {
    consts: rowThreads(p.device, vocab),
    bindings: { p, q, window, steps, params, state, chosen },
    grid: [rows],
  });
  return chosen;
}

/** A token that was drawn by the draft, for {@linkcode draftToken}. */
export interface DrawnToken {
  /** [rows] uint32: of which the last is taken. */
  chosen: Tensor;
  /** [n, V] float32: gets the row that it was drawn from, that of the i-th draft being row i. */
  kept: Tensor;
}

/** What follows a drafted token. */
export interface DraftInput {
  /** [1] uint32: the next input of the drafting model. */
  tokens: Tensor;
  /** [1] uint32: where it stands. */
  positions: Tensor;
  /** (V, threshold as float32 bits, tokens that end a sequence …) uint32 of {@linkcode draftSettings}. */
  settings: Tensor;
}

/** What {@linkcode DraftInput.settings} holds. */
export function draftSettings(vocabSize: number, threshold: number, eosTokenIds: readonly number[]): Uint32Array {
  return Uint32Array.of(vocabSize, new Uint32Array(Float32Array.of(threshold).buffer)[0]!, ...eosTokenIds);
}

/**
 * Ends a step of a draft: the likeliest token after the last row is the next of the window and the next input. A token
 * that ends a sequence or is less likely than the threshold ends the draft: what comes after it is not counted.
 *
 * @param logits [rows, V] float32; warped scores where the token was drawn
 * @param drawn the token, if it is not the likeliest
 */
export function draftToken(
  logits: Tensor,
  input: DraftInput,
  { window, state }: SpeculationBuffers,
  drawn?: DrawnToken,
): void {
  const [, vocab = 0] = expectShape("draftToken", "logits", logits, ["rows", "V"]);
  expectDtype("draftToken", "logits", logits, "float32");
  launchDraft(logits.device, {
    flags: { DRAWN: drawn !== undefined },
    consts: rowThreads(logits.device, vocab),
    bindings: { logits, ...input, window, state, ...drawn },
    grid: [1],
  });
}

/** The words of {@linkcode SpeculationBuffers}. */
export type SpeculationWords = Record<keyof SpeculationBuffers, Uint32Array>;

/** {@linkcode acceptDrafts} in plain loops: what the kernel must equal. */
export function acceptDraftsReference(chosen: Uint32Array, logits: Float32Array, words: SpeculationWords): void {
  const { window, positions, steps, pair, pairPositions, state } = words, V = logits.length / chosen.length;
  const choices = [...chosen].map((t, i) => t < V && Number.isFinite(logits[i * V + t]) ? t : INVALID_TOKEN);
  const width = chosen.length - 1,
    k = state[1]! > 0 ? Math.min(width, state[2]!) : width,
    ring = state.length - STATE_HEADER;
  let accepted = 0;
  while (accepted < k && choices[accepted] === window[accepted + 1]) accepted++;
  for (let i = 0; i <= accepted; i++) state[STATE_HEADER + (state[4]! + i) % ring] = choices[i]!;
  const last = choices[accepted]!, place = state[0]! + accepted + 1, emitted = state[4]! + accepted + 1;
  pair.set([window[accepted]!, last === INVALID_TOKEN ? 0 : last]);
  window[0] = pair[1]!;
  pairPositions.set([place - 1, place]);
  state.set([place, 0, 0, 0, emitted, state[2]!, accepted, state[3]!]);
  positions.forEach((_, i) => positions[i] = place + i);
  steps.forEach((_, i) => steps[i] = emitted + i);
}

/** {@linkcode draftToken} in plain loops; returns the token. */
export function draftTokenReference(
  row: Float32Array,
  { threshold, eosTokenIds }: { threshold: number; eosTokenIds: readonly number[] },
  { window, state }: Pick<SpeculationWords, "window" | "state">,
): number {
  const most = Math.max(...row), token = row.indexOf(most);
  const sum = row.reduce((sum, x) => sum + Math.exp(x - most), 0);
  window[++state[1]!] = token;
  if (state[3] === 1) return token;
  state[2] = state[1]!;
  state[3] = Number.isFinite(sum) ? Number(!(1 / sum >= threshold) || eosTokenIds.includes(token)) : BROKEN_DRAFT;
  return token;
}

const TRY = 0x10000, DRAW = 0x20000;

/** {@linkcode acceptDrawn} for one row in plain loops; `draft` is undefined where there is none. */
export function acceptDrawnReference(
  p: Float32Array,
  q: Float32Array,
  draft: number | undefined,
  { seed, step }: { seed: number; step: number },
): number {
  const P = chances(p), Q = chances(q), bits = BigInt.asUintN(64, BigInt(seed));
  const u = ((pcg4d([Number(bits & 0xffffffffn), Number(bits >> 32n), step, TRY])[0] >>> 0) + 0.5) / 2 ** 32;
  if (draft !== undefined && u * Q[draft]! < P[draft]!) return draft;
  const rest = draft === undefined ? P : P.map((x, v) => Math.max(0, x - Q[v]!));
  const weights = rest.some((x) => x > 0) ? rest : P, noise = gumbelNoise(seed, step, DRAW);
  let best = -Infinity, token = -1;
  weights.forEach((w, v) => {
    const score = w > 0 ? Math.log(w) + noise(v) : -Infinity;
    if (score > best) [best, token] = [score, v];
  });
  return token;
}

function chances(scores: Float32Array): number[] {
  const most = scores.reduce((a, b) => Math.max(a, b)), all = [...scores].map((x) => x > NEG ? Math.exp(x - most) : 0);
  const sum = all.reduce((a, b) => a + b, 0);
  return all.map((x) => x / sum);
}
