/**
 * Strategies on a loaded model: what each needs is made, run, and returned.
 *
 * @module
 */
import type { Cache } from "../../cache/mod.ts";
import type { EncoderDecoderInputs, Model } from "../../models/mod.ts";
import { Decoder } from "../decoder.ts";
import { decode } from "../loop.ts";
import { negativePrompts } from "../negative_prompts.ts";
import type { ResolvedOptions } from "../options.ts";
import { hostPipe, processorsOf, warpersOf } from "../processors/mod.ts";
import type { Rows } from "../rows.ts";
import { type BeamResult, beamSearch } from "./beam_search.ts";
import type { Strategy } from "./choose_strategy.ts";
import { constrainedBeamSearch } from "./constrained_beam_search.ts";
import { type Constraint, constraintsOf } from "./constraints.ts";
import { contrastiveSearch } from "./contrastive_search.ts";
import { dola } from "./dola.ts";
import { FollowingModel } from "./following_model.ts";
import { GpuStepModel } from "./gpu_step_model.ts";
import { groupBeamSearch } from "./group_beam_search.ts";
import { seededRandom } from "./math.ts";
import { plainSearch } from "./plain_search.ts";
import type { Process, SearchContext, SearchStep } from "./search.ts";
import { assistedSteps, lookupSteps } from "./start_speculation.ts";

/** A run that is about to start. */
export interface Start {
  /** The model. */
  model: Model;
  /** Prompts and what comes after them. */
  rows: Rows;
  /** The options. */
  o: ResolvedOptions;
  /** The cache to run with. */
  cache: Cache;
  /** What the encoder reads, where there is one. */
  encoder?: EncoderDecoderInputs;
  /** What must be disposed of at the end. */
  owned: DisposableStack;
}

/** Runs a strategy that gives all tokens at the end. */
export function searchBeams(strategy: Strategy, start: Start): Promise<BeamResult> {
  const { o } = start, { lengthPenalty, earlyStopping, numReturnSequences, numBeams, lowMemory, diversityPenalty } = o;
  const beams = { lengthPenalty, earlyStopping, numReturnSequences, numBeams, lowMemory, diversityPenalty };
  const context = contextOf(start);
  const groups = { ...context, o: { ...context.o, ...beams, numBeamGroups: 1 } };
  if (strategy === "groupBeam") groups.o.numBeamGroups = o.numBeamGroups;
  if (strategy === "groupBeam") return groupBeamSearch(groups);
  if (strategy !== "constrainedBeam") return beamSearch(groups);
  const constraints = o.constraints as readonly Constraint[] | null ?? constraintsOf(o.forceWordsIds ?? []);
  return constrainedBeamSearch(groups, constraints);
}

/** Runs a strategy that gives tokens as it goes. */
export async function* searchSteps(strategy: Strategy, start: Start): AsyncGenerator<SearchStep> {
  const { o, rows } = start;
  switch (strategy) {
    case "contrastive": {
      const { penaltyAlpha, topK, lowMemory } = o, context = contextOf(start);
      yield* contrastiveSearch({ ...context, o: { ...context.o, penaltyAlpha: penaltyAlpha!, topK, lowMemory } });
      break;
    }
    case "dola": {
      const context = contextOf(start);
      yield* dola({ ...context, o: { ...context.o, dolaLayers: o.dolaLayers! } });
      break;
    }
    case "assisted":
      yield* assistedSteps(start, contextOf(start), () => processOf(start));
      break;
    case "promptLookup":
      yield* lookupSteps(start, contextOf(start));
      break;
    default:
      // what runs ahead of a stop must not stay in states that the caller sees
      if (o.outputAttentions || o.outputHiddenStates || !o.useCache || keepsStates(start)) {
        yield* plainSearch(contextOf(start), (row) => rows.done[row]!);
      } else yield* decodeOnGpu(start);
  }
}

function keepsStates({ cache, o }: Start): boolean {
  return cache.croppable === false && (o.cache !== undefined || o.returnDictInGenerate === true);
}

async function* decodeOnGpu({ model, rows, o, cache }: Start): AsyncGenerator<SearchStep> {
  using decoder = new Decoder(model, rows.prompts, cache, o, rows.encoderIds);
  try {
    for await (const step of decode(decoder, o)) {
      const before = rows.fresh.map(({ length }) => length);
      yield step;
      rows.fresh.forEach((tokens, b) => decoder.ids[b]!.push(...tokens.slice(before[b])));
    }
  } finally {
    await decoder.settled();
  }
}

function contextOf(start: Start): SearchContext {
  const { model, rows, o, cache, encoder, owned } = start;
  const { prefillChunkSize, signal, useCache, embeds } = o;
  return {
    model: owned.use(new GpuStepModel(model, cache, { prefillChunkSize, signal, useCache, embeds, encoder })),
    prompts: rows.prompts,
    o,
    process: processOf(start),
    stops: (ids) => rows.stops(ids),
    random: seededRandom(o.seed),
    room: () => cache.horizon ? (cache.lengths.some((n) => n > 0) ? cache.horizon() : 1) : Infinity,
    plain: isPlain(start) && !o.outputScores && !o.outputLogits,
  };
}

/** Whether no processor and no warper changes the scores, but for the one that groups of beams know themselves. */
function isPlain({ model, rows, o }: Start): boolean {
  const { prompts, encoderIds } = rows, context = { vocabSize: model.sizes.vocabSize, prompts, encoderIds };
  return [...processorsOf(o, context), ...warpersOf(o, context)].every(({ name }) => name === "diversityPenalty");
}

/** The processors on the host, with the logits after the negative prompt where guidance wants them. */
function processOf(start: Start): Process {
  const { model, rows: { prompts, encoderIds }, o } = start, V = model.sizes.vocabSize;
  const seen = (ids: readonly number[]) => o.embeds?.seen(ids) ?? ids;
  const pipe = hostPipe(o, { vocabSize: V, prompts: prompts.map(seen), encoderIds });
  const away = o.guidanceScale !== null && o.guidanceScale !== 1 ? afterNegative(start) : undefined;
  return async (ids, scores, context) => {
    const flat = joined(scores, V), unconditional = away && joined(await away(ids), V);
    pipe(ids.map(seen), flat, { ...context, unconditional });
    return ids.map((_, r) => flat.subarray(r * V, (r + 1) * V));
  };
}

/** Logits of sequences that have the negative prompts instead of their own. */
function afterNegative({ model, rows: { prompts }, o, owned }: Start) {
  const { prefillChunkSize, signal, embeds } = o, negative = negativePrompts(o, prompts, model.sizes.vocabSize);
  const step = owned.use(new GpuStepModel(model, owned.use(model.newCache()), { prefillChunkSize, signal, embeds }));
  const away = new FollowingModel(step);
  return async (ids: readonly (readonly number[])[]): Promise<Float32Array[]> => {
    const each = ids.length / prompts.length;
    const after = ids.map((row, r) => {
      const b = Math.floor(r / each);
      return [...negative[b]!, ...row.slice(prompts[b]!.length)];
    });
    return (await away.forward(after)).logits;
  };
}

function joined(rows: readonly Float32Array[], V: number): Float32Array {
  const flat = new Float32Array(rows.length * V);
  rows.forEach((row, b) => flat.set(row, b * V));
  return flat;
}
