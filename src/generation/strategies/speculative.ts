/**
 * Which drafted tokens are kept (semantics: G-62, G-63). Scores of later positions are asked for only when needed.
 *
 * @module
 */
import { draw, type Random, softmax } from "./math.ts";
import type { TopTokens } from "./step_model.ts";

/** Most tokens of a pass that checks a draft: a ring can take back as many. */
export const MOST_CHECKED = 64;

/** Tokens that were drafted, and what they were drawn from where the draft was a sample. */
export interface Draft {
  /** Tokens. */
  tokens: readonly number[];
  /** [V] for each of them. */
  probabilities?: readonly Float32Array[];
}

/** Scores [V] after the processors, after the first `i` drafted tokens. */
export type ScoresAt = (i: number) => Promise<Float32Array>;

/** What is kept: drafted tokens, and one of the model's own. */
export interface Accepted {
  /** At least one. */
  tokens: number[];
  /** What each was chosen from, where that is known. */
  scores: Float32Array[];
}

/** Keeps drafted tokens as long as the model would choose the same, then the model's choice. */
export async function acceptMatching(
  draft: Draft,
  scoresAt: ScoresAt,
  choose: (scores: Float32Array) => number,
): Promise<Accepted> {
  const tokens: number[] = [], scores: Float32Array[] = [];
  for (let i = 0; i <= draft.tokens.length; i++) {
    const s = await scoresAt(i), token = choose(s);
    tokens.push(token);
    scores.push(s);
    if (token !== draft.tokens[i]) break;
  }
  return { tokens, scores };
}

/** The same where the model's likeliest token is known of each position. */
export function acceptTop(draft: Draft, top: readonly TopTokens[]): Accepted {
  const choices = top.map(({ tokens }) => tokens[0]!);
  const differ = choices.findIndex((token, i) => token !== draft.tokens[i]);
  return { tokens: choices.slice(0, differ + 1), scores: [] };
}

/**
 * Keeps a drafted token with probability p / q, else draws from what p has beyond q: the tokens are distributed as if the
 * model had drawn them.
 *
 * Source: Leviathan et al. 2022, https://arxiv.org/abs/2211.17192
 */
export async function acceptSampled(draft: Draft, scoresAt: ScoresAt, random: Random): Promise<Accepted> {
  const tokens: number[] = [], scores: Float32Array[] = [];
  for (let i = 0; i <= draft.tokens.length; i++) {
    const s = await scoresAt(i), p = softmax(s), token = draft.tokens[i], q = draft.probabilities?.[i];
    scores.push(s);
    if (token === undefined || !q) {
      tokens.push(draw(p, random));
      break;
    }
    if (random() * q[token]! < p[token]!) {
      tokens.push(token);
      continue;
    }
    const rest = p.map((x, v) => Math.max(0, x - q[v]!));
    tokens.push(draw(rest.some((x) => x > 0) ? rest : p, random));
    break;
  }
  return { tokens, scores };
}
