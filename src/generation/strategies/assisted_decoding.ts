/**
 * Assisted decoding: something cheap drafts tokens, the model checks them all in one pass.
 *
 * @module
 */
import { throwIfAborted } from "../../errors.ts";
import { argmax, draw, softmax } from "./math.ts";
import {
  type OutputOptions,
  record,
  requestOf,
  type SearchContext,
  type SearchStep,
  type StepRecord,
} from "./search.ts";
import { type Accepted, acceptMatching, acceptSampled, acceptTop, type Draft, MOST_CHECKED } from "./speculative.ts";
import type { HostTensor, StepOutput } from "./step_model.ts";

/** What drafts tokens. */
export interface DraftSource {
  /** At most `most` tokens that may follow `ids`. */
  propose(ids: readonly number[], most: number): Promise<Draft>;
  /** Of `drafted` tokens so many were accepted. */
  learn(drafted: number, accepted: number): void;
}

/**
 * Decodes one row: greedy tokens are those of greedy decoding, drawn ones are distributed as plain sampling's.
 *
 * Source: Transformers' assisted decoding and prompt lookup (semantics: G-59 … G-70).
 */
export async function* assistedDecoding(ctx: SearchContext, source: DraftSource): AsyncGenerator<SearchStep> {
  const { model, o, process, random } = ctx;
  const ids = [...ctx.prompts[0]!];
  for (let emitted = 0; emitted < o.newTokens;) {
    throwIfAborted(o.signal, "generating");
    const most = Math.min(o.newTokens - emitted, MOST_CHECKED, ctx.room?.() ?? Infinity) - 1;
    const draft = await source.propose(ids, most);
    throwIfAborted(o.signal, "generating");
    const n = draft.tokens.length;
    const few = ctx.plain && !o.doSample ? 1 : undefined;
    const output = await model.forward([[...ids, ...draft.tokens]], requestOf(o, { last: n + 1, top: few }));
    const scoresAt = async (i: number) => {
      const [scores] = await process([[...ids, ...draft.tokens.slice(0, i)]], [output.logits[i]!.slice()]);
      return scores!;
    };
    const choose = (s: Float32Array) => o.doSample ? draw(softmax(s), random) : argmax(s);
    const kept = output.top
      ? acceptTop(draft, output.top)
      : o.doSample && draft.probabilities
      ? await acceptSampled(draft, scoresAt, random)
      : await acceptMatching(draft, scoresAt, choose);
    source.learn(n, kept.tokens.length - 1);
    yield* emit(o, output, kept, n);
    ids.push(...kept.tokens);
    emitted += kept.tokens.length;
    model.crop([ids.length - 1]);
  }
}

/** The steps of one round of `n` drafted tokens, each with what it was made of. */
function* emit(o: OutputOptions, output: StepOutput, { tokens, scores }: Accepted, n: number): Generator<SearchStep> {
  for (const [i, token] of tokens.entries()) {
    yield { tokens: [token], more: i + 1 < tokens.length, ...recordAt(o, output, scores[i], i, n) };
  }
}

/** The first token has all that was run up to it, each later one its own position. */
function recordAt(
  o: OutputOptions,
  output: StepOutput,
  scores: Float32Array | undefined,
  i: number,
  n: number,
): StepRecord {
  const span = (run: number): [number, number] => i === 0 ? [0, run - n] : [run - n + i - 1, run - n + i];
  return record(o, {
    logits: output.logits.slice(i, i + 1),
    attentions: output.attentions?.map((t) => attentionRows(t, ...span(t.shape[2]!))),
    crossAttentions: output.crossAttentions?.map((t) => attentionRows(t, ...span(t.shape[2]!), t.shape[3]!)),
    hiddenStates: output.hiddenStates?.map((t) => hiddenRows(t, ...span(t.shape[1]!))),
  }, scores ? [scores] : []);
}

function hiddenRows({ data, shape: [, , D = 0] }: HostTensor, from: number, to: number): HostTensor {
  return { data: data.slice(from * D, to * D), shape: [1, to - from, D] };
}

/** Queries `from` to `to` of [1, H, queries, keys], with the keys that a plain step has, or `seen` of them. */
function attentionRows({ data, shape }: HostTensor, from: number, to: number, seen?: number): HostTensor {
  const [, H = 0, queries = 0, keys = 0] = shape;
  seen ??= keys - queries + to;
  const part = new Float32Array(H * (to - from) * seen);
  for (let h = 0; h < H; h++) {
    for (let q = from; q < to; q++) {
      const at = (h * queries + q) * keys;
      part.set(data.subarray(at, at + seen), (h * (to - from) + q - from) * seen);
    }
  }
  return { data: part, shape: [1, H, to - from, seen] };
}
