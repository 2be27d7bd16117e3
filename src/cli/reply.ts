/**
 * One streamed generation with its figures.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { AbortError, ValueError } from "../errors.ts";
import { generate, type GenerationOptions, stream, type StreamStep } from "../generation/mod.ts";
import { formatBytes } from "../gpu/mod.ts";
import type { Model } from "../models/mod.ts";
import type { Interrupt } from "./interrupt.ts";
import type { SamplingFlags } from "./options.ts";
import { StopFilter } from "./stop_filter.ts";

/** How long a generation took. */
export interface Timing {
  /** Tokens of the prompt that were run. */
  promptTokens: number;
  /** Tokens that were generated. */
  generatedTokens: number;
  /** Seconds from the start to the first token. */
  timeToFirstToken: number;
  /** `promptTokens` by `timeToFirstToken`. */
  promptTokensPerSecond: number;
  /** Tokens a second after the first one; 0 where there is none. */
  generationTokensPerSecond: number;
  /** Most bytes of GPU memory that were in use. */
  peakGpuBytes: number;
}

/** What a generation gave. */
export interface Reply {
  text: string;
  /** The new ids, end of sequence included. */
  tokens: number[];
  finishReason: "stop" | "length" | "interrupted";
  timing: Timing;
}

/** Options of {@linkcode streamReply}. */
export interface ReplyOptions extends GenerationOptions {
  /** Takes each piece of text as it comes. */
  onText?: (text: string) => void;
  /** Ends the generation, which then returns what it has. */
  interrupt?: Interrupt;
  /** Whether Ctrl-C ends the process until the first token is there: kernels may have to compile. */
  coldStart?: boolean;
}

/** Generates after `ids` and hands out text as it comes. */
export async function streamReply(model: Model, ids: readonly number[], options: ReplyOptions): Promise<Reply> {
  const { onText, interrupt, coldStart, ...generation } = options;
  const filter = new StopFilter([generation.stopStrings ?? []].flat());
  const tokens: number[] = [];
  let text = "", interrupted = false;
  const emit = (piece: string) => {
    text += piece;
    if (piece) onText?.(piece);
  };
  const promptTokens = ids.length - sharedLength(generation, ids);
  const start = performance.now();
  let first = start, last = start;
  const all = { ...generation, signal: interrupt?.signal };
  const steps = (all.numBeams ?? 1) > 1 ? atOnce(model, ids, all) : stream(model, { inputIds: [ids] }, all);
  try {
    const begin = () => steps.next();
    for (
      let step = await (coldStart && interrupt ? interrupt.lift(begin) : begin());
      !step.done;
      step = await steps.next()
    ) {
      last = performance.now();
      if (tokens.length === 0) first = last;
      tokens.push(...step.value.tokens);
      emit(filter.put(step.value.text ?? ""));
      await setImmediate(); // Ctrl-C is heard only when the event loop turns
    }
    emit(filter.end());
  } catch (error) {
    if (!(error instanceof AbortError)) throw error;
    interrupted = true;
    emit(filter.end());
  }
  const count = tokens.length, seconds = (first - start) / 1000;
  const cut = count === generation.maxNewTokens && !filter.stopped &&
    !endsOf(model, generation).includes(tokens.at(-1));
  return {
    text,
    tokens,
    finishReason: interrupted ? "interrupted" : cut ? "length" : "stop",
    timing: {
      promptTokens,
      generatedTokens: count,
      timeToFirstToken: seconds,
      promptTokensPerSecond: seconds > 0 ? promptTokens / seconds : 0,
      generationTokensPerSecond: last > first ? 1000 * (count - 1) / (last - first) : 0,
      peakGpuBytes: model.device.pool.stats.peakBytes,
    },
  };
}

/** Generates as beam search does, whose text is there only at its end, as one step of a stream. */
async function* atOnce(model: Model, ids: readonly number[], options: GenerationOptions): AsyncGenerator<StreamStep> {
  const { sequences } = await generate(model, { inputIds: [ids] }, options);
  const tokens = [...sequences[0]!].slice(ids.length);
  yield { tokens, text: options.tokenizer?.decode(tokens, { skipSpecialTokens: true }) };
}

/** The tokens that end a sequence. */
function endsOf(model: Model, { eosTokenId }: GenerationOptions): unknown[] {
  if (eosTokenId === null) return [];
  return [eosTokenId ?? model.generationConfig.eos_token_id ?? model.config.eos_token_id ?? []].flat();
}

/** Tokens of `ids` that the cache holds; the last one runs in any case. */
function sharedLength({ cache }: GenerationOptions, ids: readonly number[]): number {
  return Math.min(cache?.lengths[0] ?? 0, ids.length - 1);
}

/**
 * How many tokens to generate at most: what the flag says, else the model's own default, within the positions that
 * there are: the model's, if nothing else is said.
 *
 * @throws {ValueError} if the prompt leaves no room
 */
export function newTokensFor(
  model: Model,
  promptTokens: number,
  { maxTokens }: SamplingFlags,
  positions: number = model.sizes.maxPositionEmbeddings,
): number {
  const room = positions - promptTokens;
  if (room < 1) {
    throw new ValueError(
      `Cannot generate as the prompt must leave room in the ${positions} positions: ` +
        `it has ${promptTokens} tokens`,
      { hint: "Shorten the prompt, or use a model with a longer context." },
    );
  }
  const own = model.generationConfig.max_new_tokens;
  return Math.min(maxTokens ?? (typeof own === "number" && own > 0 ? own : 256), room);
}

/** The figures for humans, one a line. */
export function timingLines(timing: Timing): string[] {
  const { promptTokens, generatedTokens, timeToFirstToken, peakGpuBytes } = timing;
  return [
    `prompt      ${count(promptTokens)}, ${timing.promptTokensPerSecond.toFixed(1)} tok/s`,
    `generation  ${count(generatedTokens)}, ${timing.generationTokensPerSecond.toFixed(1)} tok/s`,
    `first token ${timeToFirstToken.toFixed(2)} s`,
    `peak GPU    ${formatBytes(peakGpuBytes)} (${peakGpuBytes} bytes)`,
  ];
}

function count(tokens: number): string {
  return `${tokens} token${tokens === 1 ? "" : "s"}`;
}
