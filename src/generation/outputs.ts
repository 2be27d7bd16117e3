/**
 * What generation gives back, and what can be computed from it.
 *
 * @module
 */
import type { Cache } from "../cache/mod.ts";
import { ValueError } from "../errors.ts";
import type { ResolvedOptions } from "./options.ts";
import type { BeamResult } from "./strategies/beam_search.ts";
import { logSoftmax } from "./strategies/math.ts";
import type { OutputOptions, StepRecord } from "./strategies/search.ts";
import type { HostTensor } from "./strategies/step_model.ts";

/** What {@linkcode generate} gives. R rows are B prompts times `numReturnSequences`. */
export interface GenerateOutput {
  /** [R]: each row as it was given, then its new tokens, padded on the right to one length. */
  sequences: number[][];
  /** [R]: how many tokens of each sequence were given. */
  promptLengths: number[];
  /** V: length of a row of scores. */
  vocabSize: number;
  /** With `outputScores`: the scores after the processors, [R · V] of each step; of a beam search [B · numBeams · V]. */
  scores?: Float32Array[];
  /** With `outputLogits`: the same before the processors. */
  logits?: Float32Array[];
  /**
   * With `outputAttentions`: for each step and layer [rows, H, queries, keys]; rows that differ in length end together. Of
   * an encoder-decoder these are the decoder's (`decoder_attentions` in Transformers).
   */
  attentions?: HostTensor[][];
  /**
   * With `outputHiddenStates`: for each step the embeddings, then each layer's output, [rows, tokens, D]. Of an
   * encoder-decoder these are the decoder's (`decoder_hidden_states` in Transformers).
   */
  hiddenStates?: HostTensor[][];
  /**
   * With `outputAttentions`, of an encoder-decoder: for each step and layer the decoder's attention to the encoder's
   * states, [rows, H, queries, S]; zero where the encoder's rows are padded.
   */
  crossAttentions?: HostTensor[][];
  /** With `outputAttentions`, of an encoder-decoder: each layer's attention in the encoder, [B, H, S, S]. */
  encoderAttentions?: HostTensor[];
  /** With `outputHiddenStates`, of an encoder-decoder: the encoder's embeddings, then each layer's output, [B, S, D]. */
  encoderHiddenStates?: HostTensor[];
  /** [R], of a beam search: sum of the log probabilities over a power of the length. */
  sequencesScores?: number[];
  /** [R], of a beam search: for each new token the row of `scores` that it was chosen from, -1 after the last. */
  beamIndices?: number[][];
  /** The cache that was passed in, or, with `returnDictInGenerate`, the run's own, which is then yours to dispose of. */
  cache?: Cache;
}

/** The step records of a run as lists, as far as they were asked for. */
export function recordsOf(o: OutputOptions, steps: readonly StepRecord[]): Partial<GenerateOutput> {
  const all = <T>(pick: (step: StepRecord) => T | undefined) => steps.map(pick).filter((x) => x !== undefined);
  return {
    ...o.outputScores && { scores: all(({ scores }) => scores) },
    ...o.outputLogits && { logits: all(({ logits }) => logits) },
    ...o.outputAttentions && { attentions: all(({ attentions }) => attentions) },
    ...steps[0]?.crossAttentions && { crossAttentions: all(({ crossAttentions }) => crossAttentions) },
    ...o.outputHiddenStates && { hiddenStates: all(({ hiddenStates }) => hiddenStates) },
  };
}

/** `fresh` after `given`, filled to one length. */
export function sequencesOf(
  given: readonly (readonly number[])[],
  fresh: readonly (readonly number[])[],
  padToken: number,
): Pick<GenerateOutput, "sequences" | "promptLengths"> {
  const width = Math.max(...given.map((row, b) => row.length + fresh[b]!.length));
  const sequences = given.map((row, b) => {
    const full = [...row, ...fresh[b]!];
    return [...full, ...Array<number>(width - full.length).fill(padToken)];
  });
  return { sequences, promptLengths: given.map((row) => row.length) };
}

/** What {@linkcode beamOutput} looks at. */
type BeamOutputOptions =
  & OutputOptions
  & Pick<ResolvedOptions, "eosTokenIds" | "padToken" | "newTokens" | "profile">;

/**
 * What a beam search gives. Where there is room an end of sequence follows: the first of `eosTokenIds`, or, as
 * Transformers 5 has it, the one that came.
 */
export function beamOutput(
  given: readonly (readonly number[])[],
  { rows, steps }: BeamResult,
  o: BeamOutputOptions,
): Omit<GenerateOutput, "vocabSize"> {
  const best = rows.flat(), latest = o.profile === "hf5";
  const lengths = best.map(({ tokens, eos }) => tokens.length + (latest && eos === undefined ? 0 : 1));
  const width = Math.min(Math.max(...lengths), o.newTokens);
  const end = (eos?: number) => latest ? eos : o.eosTokenIds[0];
  const fresh = best.map(({ tokens, eos }) => tokens.length < width ? [...tokens, end(eos) ?? o.padToken] : tokens);
  const fill = latest && o.padToken === 0 ? o.eosTokenIds[0] ?? 0 : o.padToken; // 5.x takes a pad of 0 for none
  const indices = Math.max(...best.map(({ beamIndices }) => beamIndices.length));
  return {
    ...sequencesOf(given.flatMap((row, b) => rows[b]!.map(() => row)), fresh, fill),
    ...recordsOf(o, steps),
    sequencesScores: best.map(({ score }) => score),
    beamIndices: best.map(({ beamIndices: own }) => [...own, ...Array<number>(indices - own.length).fill(-1)]),
  };
}

/**
 * The score of each new token when it was chosen: [R][steps]. Of a beam search they sum up to `sequencesScores` times a
 * power of the length; 0 after the last token.
 *
 * Source: Transformers' `compute_transition_scores`.
 *
 * @param output of {@linkcode generate} with `outputScores`
 * @param options.normalizeLogits make the scores of each step log probabilities first
 * @throws {ValueError} if the output has no scores
 *
 * @example
 * ```ts
 * import { computeTransitionScores, generate, loadModel } from "@tensaur/tensaur";
 * using model = await loadModel("models/tensaur-tiny");
 * const output = await generate(model, { inputIds: [[2043, 55]] }, { numBeams: 2, maxNewTokens: 3, outputScores: true });
 * console.log(computeTransitionScores(output)[0]!.length); // 3
 * ```
 */
export function computeTransitionScores(
  output: GenerateOutput,
  { normalizeLogits = false }: { normalizeLogits?: boolean } = {},
): number[][] {
  const { sequences, promptLengths, scores, beamIndices } = output;
  if (!scores) {
    throw new ValueError("Cannot compute transition scores as the output must have scores: it has none", {
      hint: "Generate with outputScores: true.",
    });
  }
  const V = output.vocabSize, cache = new Map<string, Float32Array>();
  const rowOf = (step: number, row: number) => {
    const key = `${step} ${row}`;
    const scored = cache.get(key) ?? scores[step]!.subarray(row * V, (row + 1) * V);
    if (normalizeLogits && !cache.has(key)) cache.set(key, logSoftmax(scored));
    return cache.get(key) ?? scored;
  };
  return sequences.map((ids, r) =>
    (beamIndices?.[r] ?? scores.map(() => r)).map((row, step) =>
      row < 0 ? 0 : rowOf(step, row)[ids[promptLengths[r]! + step]!]!
    )
  );
}
