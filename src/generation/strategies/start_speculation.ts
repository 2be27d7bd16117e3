/**
 * Speculative decoding on a loaded model: what drafts, and whether all of it can lie on the GPU.
 *
 * @module
 */
import type { Model } from "../../models/mod.ts";
import { argmax, sampleLogits, samplingParams, type SamplingSettings, warpLogits } from "../../ops/mod.ts";
import { acceptDrawn, type DrawnDraft } from "../../ops/speculation.ts";
import { empty, keep, type Tensor } from "../../tensor/mod.ts";
import { DEFAULTS, type GenerationConfigFields } from "../config_fields.ts";
import type { ResolvedOptions } from "../options.ts";
import { entropyWarpersOf, processorsOf } from "../processors/mod.ts";
import { fillCross } from "../prompts.ts";
import { fieldsOf } from "../resolve.ts";
import { assistedDecoding, type DraftSource } from "./assisted_decoding.ts";
import { type DraftLength, DraftModel, type DraftOptions } from "./draft_model.ts";
import { GpuDraftModel, hostDrafts } from "./gpu_drafts.ts";
import { GpuStepModel } from "./gpu_step_model.ts";
import { seededRandom } from "./math.ts";
import { promptLookup } from "./prompt_lookup.ts";
import type { Process, SearchContext, SearchStep } from "./search.ts";
import { type ChooseNext, SpeculationRounds } from "./speculation_rounds.ts";
import { MOST_CHECKED } from "./speculative.ts";
import { speculativeDecoding } from "./speculative_decoding.ts";
import type { Start } from "./start.ts";
import { type Codec, translatedDraft } from "./translated_draft.ts";

/** Assisted decoding; `process` makes the processors that the assistant's scores go through. */
export function assistedSteps(
  start: Start,
  context: SearchContext,
  process: () => Process,
): AsyncGenerator<SearchStep> {
  const { o, model } = start, assistant = o.assistantModel!;
  const alike = assistant.sizes.vocabSize === model.sizes.vocabSize && assistant.device === model.device;
  const cache = start.owned.use(assistant.newCache());
  if (start.encoder) fillCross(assistant, cache, start.encoder, 1);
  const begun = start.rows.prompts[0]!.length > 1; // a draft on the GPU begins behind a token that its cache holds
  const onGpu = alike && begun && staysOnGpu(start, context) && cache.croppable !== false;
  const { tokens, ...settings } = assistantSettings(o, assistant);
  const length = settings.schedule === "heuristic" && draftLengths.get(assistant) || { tokens };
  if (settings.schedule === "heuristic") draftLengths.set(assistant, length);
  const { prefillChunkSize, signal, doSample, eosTokenIds } = o;
  const runner = start.owned.use(new GpuStepModel(assistant, cache, { prefillChunkSize, signal }));
  const options = { ...settings, doSample, eosTokenIds, signal, plain: context.plain };
  if (!onGpu) return assistedDecoding(context, hostDraft(start, runner, options, length, process));
  const drafts = o.doSample ? drawnDrafts(start) : undefined;
  const rounds = roundsOf(start, drafts ? acceptingDraws(drafts) : argmax), by = { model: assistant, cache, runner };
  const source = start.owned.use(new GpuDraftModel(by, rounds, options, length, drafts?.draft));
  return speculativeDecoding(context, { model, cache: start.cache, rounds, source });
}

/** Prompt lookup decoding. */
export function lookupSteps(start: Start, context: SearchContext): AsyncGenerator<SearchStep> {
  const { o: { promptLookupNumTokens: numTokens, maxMatchingNgramSize, eosTokenIds }, model } = start;
  const source = promptLookup({ numTokens: numTokens!, maxNgram: maxMatchingNgramSize ?? 2, eosTokenIds });
  if (!staysOnGpu(start, context)) return assistedDecoding(context, source);
  const rounds = roundsOf(start, start.o.doSample ? drawn(start) : argmax);
  return speculativeDecoding(context, { model, cache: start.cache, rounds, source: hostDrafts(source, rounds) });
}

const draftLengths = new WeakMap<Model, DraftLength>();

/** How many tokens `assistant` drafts in its next round, where the schedule "heuristic" has changed it. */
export function learntDraftLength(assistant: Model): number | undefined {
  return draftLengths.get(assistant)?.tokens;
}

/** Whether nothing but the tokens is wanted, and the scores are used as they are or drawn from by the kernel. */
function staysOnGpu({ model, rows, o, cache }: Start, { plain }: SearchContext): boolean {
  const { outputScores, outputLogits, outputAttentions, outputHiddenStates, useCache } = o;
  if (outputScores || outputLogits || outputAttentions || outputHiddenStates || !useCache) return false;
  if (cache.croppable === false) return false;
  const { prompts, encoderIds } = rows, context = { vocabSize: model.sizes.vocabSize, prompts, encoderIds };
  return plain || o.doSample && [...processorsOf(o, context), ...entropyWarpersOf(o, context)].length === 0;
}

function roundsOf({ model, cache, o, owned }: Start, choose: ChooseNext): SpeculationRounds {
  return owned.use(new SpeculationRounds(model, cache, widthOf(o), choose));
}

/** How drafts are drawn, and how the model's own scores are warped. */
interface DrawnBoth {
  draft: DrawnDraft;
  params: Tensor;
}

const MOST_DRAWN = 32; // drafts of a round whose scores are kept

function drawnDrafts({ model, o, owned }: Start): DrawnBoth {
  const { device, sizes: { vocabSize } } = model, settings = samplingOf(o);
  const kept = (t: Tensor) => owned.use(keep(device, t));
  const params = kept(samplingParams(device, settings));
  const own = kept(samplingParams(device, { ...settings, seed: ~o.seed >>> 0 }));
  return { draft: { q: kept(empty(device, [MOST_DRAWN, vocabSize])), params: own }, params };
}

function acceptingDraws({ draft: { q }, params }: DrawnBoth): ChooseNext {
  return (logits, buffers) => acceptDrawn(warpLogits(logits, params), { q, params }, buffers);
}

function widthOf({ newTokens }: ResolvedOptions): number {
  return Math.min(newTokens, MOST_CHECKED);
}

function samplingOf({ temperature, topK, topP, minP, seed }: ResolvedOptions): SamplingSettings {
  return { temperature, topK, topP, minP: minP ?? 0, seed };
}

/** Draws as plain sampling does, with the same numbers for the same token. */
function drawn({ model, o, owned }: Start): ChooseNext {
  const each = samplingOf(o);
  const { device } = model, most = widthOf(o);
  const params = owned.use(keep(device, samplingParams(device, Array<typeof each>(most).fill(each))));
  return (logits, { steps }) => {
    const rows = logits.shape[0]!;
    return sampleLogits(logits, params.rows(0, rows), steps.rows(0, rows));
  };
}

function hostDraft(
  { o, model }: Start,
  runner: GpuStepModel,
  options: DraftOptions,
  length: DraftLength,
  process: () => Process,
): DraftSource {
  const random = seededRandom(~o.seed >>> 0);
  if (o.assistantModel!.sizes.vocabSize === model.sizes.vocabSize) {
    return new DraftModel(runner, process(), options, length, random);
  }
  const { tokenizer, assistantTokenizer, targetLookbehind, assistantLookbehind } = o;
  const own = { ...options, eosTokenIds: [], plain: true };
  return translatedDraft(new DraftModel(runner, (_ids, scores) => scores, own, length, random), {
    target: tokenizer as unknown as Codec,
    assistant: assistantTokenizer as unknown as Codec,
    targetLookbehind,
    assistantLookbehind,
  });
}

/** How to draft: what the call says, else the assistant's generation_config.json, else the defaults. */
function assistantSettings(o: ResolvedOptions, { generationConfig }: Model) {
  const own = fieldsOf(generationConfig);
  const pick = <K extends keyof GenerationConfigFields>(name: K): GenerationConfigFields[K] =>
    o[name] === DEFAULTS[name] ? own[name] ?? o[name] : o[name];
  return {
    tokens: pick("numAssistantTokens"),
    schedule: pick("numAssistantTokensSchedule"),
    confidenceThreshold: pick("assistantConfidenceThreshold"),
  };
}
