/**
 * From logits to the next token of each row, on the GPU: processors, warpers, the draw.
 *
 * @module
 */
import type { Device } from "../gpu/mod.ts";
import { suppressTokens } from "../ops/decode_state.ts";
import { argmax, countTokens, repetitionPenalty, sampleLogits, samplingParams, zeros } from "../ops/mod.ts";
import { keep, type Tensor, tensor } from "../tensor/mod.ts";
import type { ResolvedOptions } from "./options.ts";

/** The processors and the choice of one generation, composed in the documented order (semantics: G-25). */
export class Chooser implements Disposable {
  readonly #owned: Disposable[] = [];
  readonly #processors: ((scores: Tensor) => Tensor)[] = [];
  readonly #choose: (scores: Tensor) => Tensor;
  readonly #counts: Tensor | undefined;

  /** @param step [1] uint32: steps so far */
  constructor(
    device: Device,
    o: ResolvedOptions,
    vocabSize: number,
    rows: readonly (readonly number[])[],
    step: Tensor,
  ) {
    const own = (t: Tensor) => {
      this.#owned.push(t);
      return keep(device, t);
    };
    const put = (data: readonly number[]) => own(tensor(device, data, [data.length], "uint32"));
    if (o.repetitionPenalty !== 1) {
      const counts = this.#counts = own(zeros(device, [rows.length, vocabSize], "uint32"));
      const starts = rows.reduce((sums, row) => [...sums, sums.at(-1)! + row.length], [0]);
      using prompt = tensor(device, rows.flat(), [starts.at(-1)!], "uint32");
      using cuSeqlens = tensor(device, starts, [starts.length], "uint32");
      countTokens(counts, prompt, cuSeqlens);
      const penalty = own(tensor(device, [o.repetitionPenalty], [1]));
      this.#processors.push((scores) => repetitionPenalty(scores, counts, penalty));
    }
    if (o.minNewTokens !== null && o.minNewTokens > 0 && o.eosTokenIds.length) {
      const ids = put(o.eosTokenIds), limits = put([vocabSize, o.minNewTokens]);
      this.#processors.push((scores) => suppressTokens(scores, ids, limits, step));
    }
    if (o.doSample) {
      const { temperature, topK, topP, seed } = o;
      const params = samplingParams(device, { temperature, topK, topP, minP: o.minP ?? 0, seed });
      this.#owned.push(params);
      this.#choose = (scores) => sampleLogits(scores, params, step);
    } else this.#choose = argmax;
  }

  /** Scores [B, V] after the processors. */
  process(logits: Tensor): Tensor {
    return this.#processors.reduce((scores, process) => process(scores), logits);
  }

  /** A token of each row: [B] uint32. */
  choose(scores: Tensor): Tensor {
    return this.#choose(scores);
  }

  /** Counts tokens that were chosen, for the penalties. */
  count(tokens: Tensor, cuSeqlens: Tensor): void {
    if (this.#counts) countTokens(this.#counts, tokens, cuSeqlens);
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    for (const t of this.#owned) t[Symbol.dispose]();
  }
}
