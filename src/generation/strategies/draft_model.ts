/**
 * A smaller model that drafts, and how many tokens it drafts.
 *
 * @module
 */
import { throwIfAborted } from "../../errors.ts";
import type { DraftSource } from "./assisted_decoding.ts";
import { argmax, draw, type Random, softmax } from "./math.ts";
import type { Process } from "./search.ts";
import type { Draft } from "./speculative.ts";
import { FollowingModel } from "./following_model.ts";
import type { StepModel } from "./step_model.ts";

/** How the number of drafted tokens changes: not at all, by success for ever, or by success within one call. */
export type AssistantSchedule = "constant" | "heuristic" | "heuristic_transient";

/** Settings of a {@linkcode DraftModel}. */
export interface DraftOptions {
  /** Tokens that end a draft. */
  eosTokenIds: readonly number[];
  /** Draw the tokens. */
  doSample: boolean;
  /** A draft ends with a token that is less likely than this. */
  confidenceThreshold: number;
  /** How {@linkcode DraftLength.tokens} changes. */
  schedule: AssistantSchedule;
  /** No processor changes the scores. */
  plain: boolean;
  /** Stops a draft. */
  signal?: AbortSignal;
}

/** How many tokens to draft; the heuristic schedule keeps it with the assistant. */
export interface DraftLength {
  /** Tokens of the next draft. */
  tokens: number;
}

/** Drafts with a model of its own, with its own cache. */
export class DraftModel implements DraftSource {
  readonly #model: FollowingModel;
  readonly #process: Process;
  readonly #o: DraftOptions;
  readonly #length: DraftLength;
  readonly #random: Random;

  /** A drafter whose cache is empty. */
  constructor(model: StepModel, process: Process, o: DraftOptions, length: DraftLength, random: Random) {
    this.#model = new FollowingModel(model);
    this.#process = process;
    this.#o = o;
    this.#length = length;
    this.#random = random;
  }

  /** Decodes token by token until one is not sure, or ends the sequence. */
  async propose(ids: readonly number[], most: number): Promise<Draft> {
    const { doSample, confidenceThreshold, eosTokenIds, signal } = this.#o;
    const tokens: number[] = [], probabilities: Float32Array[] = [];
    while (tokens.length < Math.min(most, Math.floor(this.#length.tokens))) {
      throwIfAborted(signal, "drafting");
      const { token, chance, all } = await this.#next([...ids, ...tokens]);
      tokens.push(token);
      if (all) probabilities.push(all);
      if (chance < confidenceThreshold || eosTokenIds.includes(token)) break;
    }
    return doSample ? { tokens, probabilities } : { tokens };
  }

  /** The token that follows `ids`, how likely it is, and, where one is drawn, how likely all are. */
  async #next(ids: readonly number[]): Promise<{ token: number; chance: number; all?: Float32Array }> {
    const { doSample, plain } = this.#o;
    const output = await this.#model.forward([ids], { top: plain && !doSample ? 1 : undefined });
    const likeliest = output.top?.[0];
    if (likeliest) return { token: likeliest.tokens[0]!, chance: Math.exp(likeliest.logProbs[0]!) };
    const [scores] = await this.#process([ids], [output.logits[0]!.slice()]);
    const all = softmax(scores!), token = doSample ? draw(all, this.#random) : argmax(all);
    return { token, chance: all[token]!, all };
  }

  /** Drafts more after success, less after failure. */
  learn(drafted: number, accepted: number): void {
    learnLength(this.#length, this.#o.schedule, drafted, accepted);
  }
}

/** Changes the length of drafts by what became of one. */
export function learnLength(length: DraftLength, schedule: AssistantSchedule, drafted: number, accepted: number): void {
  if (schedule === "constant" || drafted === 0) return;
  length.tokens = accepted === drafted ? length.tokens + 2 : Math.max(1, length.tokens - 1);
}
