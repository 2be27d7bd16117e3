/**
 * What a run starts from: the prompts of a decoder, or what an encoder reads and how its decoder begins.
 *
 * @module
 */
import { type Cache, CrossCache, EncoderDecoderCache, type ModelInputs } from "../cache/mod.ts";
import { NotSupportedError, ShapeError, ValueError } from "../errors.ts";
import { crossPart, type EncoderDecoderInputs } from "../models/encoder_decoder.ts";
import type { Model } from "../models/mod.ts";
import type { GenerationOptions } from "./options.ts";
import { checkEmbedded, type EmbeddedInputs, isEmbedded, PromptEmbeds } from "./prompt_embeds.ts";
import { fromBos, realTokens } from "./rows.ts";

/** What `generate` takes: rows of ids, or of embeddings, or what an encoder-decoder reads. */
export type GenerationInputs = ModelInputs | EmbeddedInputs | EncoderDecoderInputs;

/** What a run starts from. */
export interface Prompts {
  /** The rows as they came, padding included: what sequences begin with. */
  given: readonly (readonly number[])[];
  /** Their real tokens. */
  prompts: number[][];
  /** The prompts, where they came as embeddings. */
  embeds?: PromptEmbeds;
  /** What the encoder reads, where there is one. */
  encoder?: EncoderDecoderInputs;
  /** Real tokens of the encoder's rows, where it reads tokens. */
  encoderIds?: number[][];
}

/**
 * The prompts of a run.
 *
 * @throws {ShapeError} if masks or rows do not fit each other
 * @throws {ValueError} if a row has no token, or one that is none
 */
export function promptsOf(model: Model, inputs: GenerationInputs | undefined, o: GenerationOptions): Prompts {
  const { vocabSize } = model.sizes;
  if (isEmbedded(model, inputs)) {
    checkEmbedded(o);
    const embeds = new PromptEmbeds(inputs, vocabSize), { rows: inputIds, given } = embeds;
    return { given, embeds, prompts: realTokens({ inputIds, attentionMask: inputs.attentionMask }, Infinity) };
  }
  if (!model.isEncoderDecoder) {
    const rows = (inputs ?? fromBos(model, o)) as ModelInputs;
    return { given: rows.inputIds, prompts: realTokens(rows, vocabSize) };
  }
  if ((o.guidanceScale ?? 1) !== 1) {
    throw new NotSupportedError(`Cannot guide an encoder-decoder as guidanceScale must be 1: it is ${o.guidanceScale}`);
  }
  const { inputIds, attentionMask, inputFeatures, decoderInputIds, decoderAttentionMask }: EncoderDecoderInputs =
    inputs ?? {};
  const size = (inputFeatures ? inputFeatures.shape[0] : inputIds?.length) ?? 0;
  if (size === 0) {
    throw new ValueError("Cannot generate as the encoder must have an input: neither inputIds nor inputFeatures came");
  }
  const encoderIds = inputFeatures ? undefined : realTokens({ inputIds: inputIds!, attentionMask }, vocabSize);
  const encoder = { inputIds, attentionMask, inputFeatures };
  const given = startedRows(decoderInputIds, startTokens(model, o, size));
  if (given.length !== size) {
    throw new ShapeError(`Cannot generate as decoderInputIds must have ${size} rows: there are ${given.length}`);
  }
  const mask = decoderAttentionMask?.map((row, b) => [...Array(given[b]!.length - row.length).fill(1), ...row]);
  return { given, prompts: realTokens({ inputIds: given, attentionMask: mask }, vocabSize), encoder, encoderIds };
}

/** The rows, each behind its start token; where one has it already, they come as they are (semantics: G-13). */
function startedRows(rows: EncoderDecoderInputs["decoderInputIds"], starts: readonly number[]): number[][] {
  if (!rows) return starts.map((id) => [id]);
  const started = rows.some((row, b) => row[0] === starts[b]);
  return rows.map((row, b) => started ? [...row] : [starts[b]!, ...row]);
}

/** The token that each row of the decoder starts with. */
function startTokens(model: Model, { generationConfig, ...o }: GenerationOptions, size: number): number[] {
  const { generationConfig: saved, config } = model;
  const start = o.decoderStartTokenId ?? generationConfig?.decoderStartTokenId ?? saved.decoder_start_token_id ??
    config.decoder_start_token_id ?? o.bosTokenId ?? generationConfig?.bosTokenId ?? saved.bos_token_id ??
    config.bos_token_id;
  const ids = Array.isArray(start) ? start : Array<unknown>(size).fill(start);
  if (ids.length === size && ids.every((id) => Number.isInteger(id))) return ids as number[];
  throw new ValueError(
    "`decoderStartTokenId` or `bosTokenId` has to be defined for encoder-decoder generation, one for all rows or one " +
      `for each: it is ${start}`,
  );
}

/** `cache` as a model wants it: an encoder-decoder's has a part for the encoder's keys beside it. */
export function cacheFor(model: Model, cache: Cache): Cache {
  return model.isEncoderDecoder ? new EncoderDecoderCache(cache, new CrossCache(model.cacheDtype)) : cache;
}

/** Runs the encoder where the cache does not hold its keys yet, each row for `copies` sequences. */
export function fillCross(model: Model, cache: Cache, encoder: EncoderDecoderInputs, copies: number): void {
  const cross = crossPart(cache);
  if (!cross.isUpdated(0)) model.encode(encoder, cache).dispose();
  const size = encoder.inputFeatures?.shape[0] ?? encoder.inputIds!.length;
  if (cross.lengths.length !== size || copies === 1) return;
  cross.batchSelectIndices(Array.from({ length: size * copies }, (_, i) => Math.floor(i / copies)));
}
