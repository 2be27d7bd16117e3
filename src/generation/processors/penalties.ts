/**
 * Penalties for tokens that were there: repetition, its encoder form, frequency and presence (semantics: G-32).
 *
 * @module
 */
import { countTokens, occurrencePenalty, repetitionPenalty } from "../../ops/mod.ts";
import { type Tensor, tensor } from "../../tensor/mod.ts";
import { encoderIdsOf, type GpuState, perRow, type ProcessorOf } from "./processor.ts";

/** `repetitionPenalty`: logits of tokens that were there are divided by it, or multiplied where they are negative. */
export const repetition: ProcessorOf = ({ repetitionPenalty: penalty, promptIgnoreLength }, c) => {
  if (penalty === 1) return;
  const skip = promptIgnoreLength ?? 0, reaches = c.prompts.every((row) => skip <= row.length);
  return {
    name: "repetitionPenalty",
    host: perRow(c, (scores, { ids }) => penalize(scores, ids.slice(skip), penalty)),
    gpu: reaches ? onGpu : undefined,
  };

  function onGpu(state: GpuState) {
    const counts = state.counts(skip), by = state.put([penalty], "float32");
    return (scores: Tensor) => repetitionPenalty(scores, counts, by);
  }
};

/** `encoderRepetitionPenalty`: the same with one over it, for the tokens of the encoder's input. */
export const encoderRepetition: ProcessorOf = ({ encoderRepetitionPenalty }, c) => {
  if (encoderRepetitionPenalty === 1) return;
  const penalty = 1 / encoderRepetitionPenalty, rows = encoderIdsOf(c);
  return {
    name: "encoderRepetitionPenalty",
    host: perRow(c, (scores, { prompt }) => penalize(scores, rows[prompt]!, penalty)),
    gpu: ({ device, put }) => {
      const starts = rows.reduce((sums, row) => [...sums, sums.at(-1)! + row.length], [0]);
      const counts = put(new Array(rows.length * c.vocabSize).fill(0), "uint32", [rows.length, c.vocabSize]);
      using ids = tensor(device, rows.flat(), [starts.at(-1)!], "uint32");
      using cuSeqlens = tensor(device, starts, [starts.length], "uint32");
      countTokens(counts, ids, cuSeqlens);
      const by = put([penalty], "float32");
      return (scores) => repetitionPenalty(scores, counts, by);
    },
  };
};

/** `frequencyPenalty` and `presencePenalty`: subtracted for each time a token was generated, and once if it was. */
export const occurrence: ProcessorOf = ({ frequencyPenalty, presencePenalty }, c) => {
  if (frequencyPenalty === 0 && presencePenalty === 0) return;
  return {
    name: "frequencyPenalty",
    host: perRow(c, (scores, { ids, step }) => {
      const fresh = step > 0 ? ids.slice(-step) : [];
      for (const id of fresh) scores[id]! -= frequencyPenalty;
      for (const id of new Set(fresh)) scores[id]! -= presencePenalty;
    }),
    gpu: (state) => {
      const counts = state.counts(Infinity), by = state.put([frequencyPenalty, presencePenalty], "float32");
      return (scores) => occurrencePenalty(scores, counts, by);
    },
  };
};

function penalize(scores: Float32Array, ids: readonly number[], penalty: number): void {
  for (const id of new Set(ids)) {
    const x = scores[id]!;
    scores[id] = x < 0 ? x * penalty : x / penalty;
  }
}
