/**
 * Which strategy the options ask for (semantics: §4.2).
 *
 * @module
 */
import { ValueError } from "../../errors.ts";
import type { Model } from "../../models/mod.ts";
import { warnOnce } from "../../warn.ts";
import type { ResolvedOptions } from "../options.ts";

/** Ways of choosing tokens. */
export type Strategy =
  | "greedy"
  | "sample"
  | "beam"
  | "beamSample"
  | "groupBeam"
  | "constrainedBeam"
  | "contrastive"
  | "dola"
  | "assisted"
  | "promptLookup";

/** What the choice looks at. */
export type StrategyOptions = Pick<
  ResolvedOptions,
  | "constraints"
  | "forceWordsIds"
  | "numBeams"
  | "numBeamGroups"
  | "doSample"
  | "topK"
  | "penaltyAlpha"
  | "assistantModel"
  | "promptLookupNumTokens"
  | "dolaLayers"
  | "profile"
>;

const BEAMS: readonly Strategy[] = ["beam", "beamSample", "groupBeam", "constrainedBeam"];

/** Whether sequences are given only at the end. */
export function isBeamSearch(strategy: Strategy): boolean {
  return BEAMS.includes(strategy);
}

/**
 * The strategy that `o` asks for.
 *
 * @throws {ValueError} if it asks for two that do not go together; by the profile "hf5" one of them is left out instead
 */
export function chooseStrategy(o: StrategyOptions): Strategy {
  const base = baseOf(o), plain = base === "greedy" || base === "sample";
  if (o.assistantModel && o.promptLookupNumTokens !== null) {
    warnOnce("UserWarning", "Both `assistantModel` and `promptLookupNumTokens` are set: the assistant is not used.");
  }
  if (o.assistantModel || o.promptLookupNumTokens !== null) {
    if (plain) return o.promptLookupNumTokens !== null ? "promptLookup" : "assisted";
    refuse(o, base, "assistantModel", "assisted");
  }
  if (o.dolaLayers === null) return base;
  if (plain) return "dola";
  refuse(o, base, "dolaLayers", "DoLa");
  return base;
}

function refuse({ profile }: StrategyOptions, base: Strategy, option: string, name: string): void {
  const triggers = `You've set \`${option}\`, which triggers ${name} generate. Currently, `;
  const only = `${name} generate is only supported with Greedy Search and Sample.`;
  if (profile !== "hf5") throw new ValueError(triggers + only);
  warnOnce(
    "UserWarning",
    `${triggers}${only} However, the base decoding mode (based on current flags) is ${base} -- some of the set flags ` +
      "will be ignored.",
  );
}

function baseOf(o: StrategyOptions): Strategy {
  if (o.constraints ?? o.forceWordsIds) return "constrainedBeam";
  if (o.numBeams === 1) {
    if (!o.doSample && o.topK > 1 && (o.penaltyAlpha ?? 0) > 0) return "contrastive";
    return o.doSample ? "sample" : "greedy";
  }
  if (o.numBeamGroups > 1) return "groupBeam";
  return o.doSample ? "beamSample" : "beam";
}

/**
 * Checks what the strategy needs of the model, the batch and the cache.
 *
 * @throws {ValueError} if it cannot be had
 */
export function checkStrategy(strategy: Strategy, o: ResolvedOptions, model: Model, rows: number): void {
  if (strategy === "contrastive" && !o.useCache) throw new ValueError("Contrastive search requires `useCache=True`");
  if (strategy === "dola" && model.isEncoderDecoder) {
    throw new ValueError("DoLa decoding is only available for decoder-only models.");
  }
  const assisted = strategy === "assisted" || strategy === "promptLookup";
  if (assisted) checkAssisted(strategy, o, model, rows);
  const named = assisted ? "assisted generation" : GOES_BACK[strategy];
  if (named && model.sizes.states) {
    const [name] = [model.config.architectures ?? model.config.model_type].flat();
    throw new ValueError(`${named} is not supported with stateful models, such as ${name}`);
  }
}

/** Strategies that a model with states cannot run, as its cache does not go back; assisted ones beside them. */
const GOES_BACK: Partial<Record<Strategy, string>> = { contrastive: "contrastive search", dola: "dola decoding" };

function checkAssisted(strategy: Strategy, o: ResolvedOptions, model: Model, rows: number): void {
  const isStatic = o.cache?.isStatic || (o.cacheImplementation ?? "").includes("static");
  const refusals: readonly [boolean, string][] = [
    [
      o.numReturnSequences > 1,
      `numReturnSequences has to be 1 when doing assisted generate, but is ${o.numReturnSequences}.`,
    ],
    [rows > 1, "assisted generate is only supported for batchSize = 1"],
    [!o.useCache, "assisted generate requires `useCache=True`"],
    [isStatic, "assisted generate is not supported with Static cache classes`"],
    [
      o.cache?.movesByPass === true,
      `Cannot check drafts with a ${o.cache?.constructor.name} as a pass of several tokens must see what single steps ` +
      "see: its window moves by the whole pass",
    ],
  ];
  const refusal = refusals.find(([refused]) => refused);
  if (refusal) throw new ValueError(refusal[1]);
  if (strategy === "assisted") checkTokenizers(o, model);
}

const DOCS = "(see https://huggingface.co/docs/transformers/en/generation_strategies#universal-assisted-decoding)";

function checkTokenizers({ assistantModel, tokenizer, assistantTokenizer }: ResolvedOptions, model: Model): void {
  const task = model.isEncoderDecoder ? "seq2seq-lm" : "causal-lm";
  if (model.isEncoderDecoder && assistantModel!.task === "causal-lm") {
    throw new ValueError(
      "The main model and the assistant don't have compatible encoder-dependent input shapes. Ensure you load the " +
        "assistant with the correct encoder-decoder class.",
    );
  }
  if (assistantModel!.task !== task) {
    throw new ValueError(
      `Cannot draft as assistantModel must be a ${task} model, as the model is: its task is "${assistantModel!.task}"`,
    );
  }
  const same = assistantModel!.sizes.vocabSize === model.sizes.vocabSize;
  if (same && assistantTokenizer) {
    throw new ValueError(
      "`assistantTokenizer` is not required when the main and assistant models use the same tokenizer. Please omit " +
        `\`assistantTokenizer\` from \`generate()\` ${DOCS}.`,
    );
  }
  if (!same && !(tokenizer && assistantTokenizer)) {
    throw new ValueError(
      "The main and assistant models have different tokenizers. Please provide `tokenizer` and `assistantTokenizer` " +
        `to \`generate()\` ${DOCS}.`,
    );
  }
}
