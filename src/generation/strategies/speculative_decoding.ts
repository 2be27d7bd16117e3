/**
 * Assisted decoding and prompt lookup where nothing but the tokens is wanted: drafts, checks and acceptance lie on the
 * GPU, and the host reads once a round. `assisted_decoding.ts` does the same through the host.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import type { Cache } from "../../cache/mod.ts";
import { throwIfAborted } from "../../errors.ts";
import type { Model } from "../../models/mod.ts";
import type { GpuDraftSource } from "./gpu_drafts.ts";
import { submitSteps } from "./replayed_step.ts";
import type { SearchContext, SearchStep } from "./search.ts";
import { tokenOf } from "./search.ts";
import type { SpeculationRounds } from "./speculation_rounds.ts";

/** What a speculative run is made of. */
export interface Speculation {
  /** The model that checks. */
  model: Model;
  /** Its cache. */
  cache: Cache;
  /** Its windows. */
  rounds: SpeculationRounds;
  /** What drafts. */
  source: GpuDraftSource;
}

/** Decodes one row: the tokens that greedy search gives, or that sampling draws with the same seed. */
export async function* speculativeDecoding(
  ctx: SearchContext,
  { model, cache, rounds, source }: Speculation,
): AsyncGenerator<SearchStep> {
  const { o } = ctx, ids = [...ctx.prompts[0]!], until = ids.length + o.newTokens;
  ids.push(await firstToken(ctx));
  yield { tokens: ids.slice(-1) };
  if (o.newTokens === 1) return;
  rounds.begin(ids, 1);
  await source.begin?.(ids);
  while (ids.length < until) {
    throwIfAborted(o.signal, "generating");
    const most = Math.min(until - ids.length - 1, rounds.most, (ctx.room?.() ?? Infinity) - 1);
    const draft = await source.draft(ids, most), { rows } = draft;
    cache.reserve(1, [rows]);
    submitSteps(model, [...draft.steps, { step: rounds.check(rows), length: ids.length + rows - 1 }], until);
    cache.advanced([rows]);
    const round = await rounds.read(), { tokens } = round;
    await setImmediate(); // an early read resolves without letting timers and signals run
    throwIfAborted(o.signal, "generating");
    ids.push(...tokens);
    if (tokens.length < rows) cache.crop([ids.length - 1]);
    source.learn(draft.tokens, round, ids);
    for (const [i, token] of tokens.entries()) yield { tokens: [token], more: i + 1 < tokens.length };
  }
}

/** Runs the prompt and chooses what follows it. */
async function firstToken({ model, prompts, o, process }: SearchContext): Promise<number> {
  const output = await model.forward(prompts, { top: o.doSample ? undefined : 1 });
  if (output.top) return output.top[0]!.tokens[0]!;
  const [scores] = await process(prompts, [output.logits[0]!.slice()]);
  return tokenOf(scores!, o, 0, 0);
}
