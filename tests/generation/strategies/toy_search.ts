/** Searches on the closed-form model, with the options that a call of generate() would have. */
import { DEFAULTS } from "../../../src/generation/config_fields.ts";
import type { GenerationOptions, ResolvedOptions } from "../../../src/generation/options.ts";
import { beamOutput, type GenerateOutput, recordsOf, sequencesOf } from "../../../src/generation/outputs.ts";
import { hostPipe, processorsOf, warpersOf } from "../../../src/generation/processors/mod.ts";
import { Rows } from "../../../src/generation/rows.ts";
import { beamSearch } from "../../../src/generation/strategies/beam_search.ts";
import { chooseStrategy } from "../../../src/generation/strategies/choose_strategy.ts";
import { constrainedBeamSearch } from "../../../src/generation/strategies/constrained_beam_search.ts";
import { constraintsOf } from "../../../src/generation/strategies/constraints.ts";
import { groupBeamSearch } from "../../../src/generation/strategies/group_beam_search.ts";
import { seededRandom } from "../../../src/generation/strategies/math.ts";
import { plainSearch } from "../../../src/generation/strategies/plain_search.ts";
import type { Process, SearchContext, SearchStep } from "../../../src/generation/strategies/search.ts";
import type { StepModel } from "../../../src/generation/strategies/step_model.ts";
import { V } from "./toy_model.ts";

/** Options as resolveOptions() makes them. */
export function toyOptions(given: GenerationOptions, longest: number): ResolvedOptions {
  const eosTokenIds = [given.eosTokenId ?? []].flat(), newTokens = given.maxNewTokens ?? given.maxLength! - longest;
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));
  return {
    ...DEFAULTS,
    ...set,
    minLength: given.minNewTokens ? longest + given.minNewTokens : given.minLength ?? 0,
    maxLength: longest + newTokens,
    seed: given.seed ?? 1,
    stops: [],
    prefillChunkSize: 512,
    eosTokenIds,
    padToken: given.padTokenId ?? 0,
    newTokens,
  };
}

/** What every search gets. */
export function toyContext(
  model: StepModel,
  rows: Rows,
  o: ResolvedOptions,
): SearchContext<ResolvedOptions> & { process: Process } {
  const { prompts } = rows, pipe = hostPipe(o, { vocabSize: V, prompts });
  return {
    model,
    prompts,
    o,
    process: (ids, scores, context) => {
      const flat = Float32Array.from(scores.flatMap((row) => [...row]));
      pipe(ids, flat, context);
      return ids.map((_, r) => flat.subarray(r * V, (r + 1) * V));
    },
    stops: (ids) => rows.stops(ids),
    random: seededRandom(o.seed),
    plain: !o.outputScores &&
      [processorsOf, warpersOf].flatMap((of) => of(o, { vocabSize: V, prompts })).every(({ name }) =>
        name === "diversityPenalty"
      ),
  };
}

/** Follows a search that gives tokens as it goes. */
export async function followed(rows: Rows, steps: AsyncIterable<SearchStep>): Promise<SearchStep[]> {
  const all: SearchStep[] = [];
  for await (const step of steps) {
    rows.accept(step.tokens);
    all.push(step);
    if (rows.done.every(Boolean)) break;
  }
  return all;
}

/** As generate(), on `model`. */
export async function toyGenerate(
  model: StepModel,
  inputIds: number[][],
  given: GenerationOptions,
): Promise<GenerateOutput> {
  const o = toyOptions(given, Math.max(...inputIds.map((row) => row.length)));
  const rows = new Rows(inputIds, o), context = toyContext(model, rows, o);
  const beams = {
    beam: beamSearch,
    beamSample: beamSearch,
    groupBeam: groupBeamSearch,
    constrainedBeam: (c: typeof context) => constrainedBeamSearch(c, constraintsOf(o.forceWordsIds!)),
  };
  const strategy = chooseStrategy(o);
  if (strategy in beams) {
    const result = await beams[strategy as keyof typeof beams](context);
    return { ...beamOutput(inputIds, result, o), vocabSize: V };
  }
  const steps = await followed(rows, plainSearch(context, (row) => rows.done[row]!));
  return { ...sequencesOf(inputIds, rows.fresh, o.padToken), ...recordsOf(o, steps), vocabSize: V };
}
