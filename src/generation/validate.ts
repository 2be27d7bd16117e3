/**
 * What a generation config must hold, and what it warns of (semantics: G-9, G-10, G-19).
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import type { Model } from "../models/mod.ts";
import { warnOnce } from "../warn.ts";
import { DEFAULTS, type GenerationConfigFields } from "./config_fields.ts";
import { CALL_OPTIONS, type ResolvedOptions } from "./options.ts";
import { checkBiases } from "./validate_tokens.ts";

type Fields = GenerationConfigFields;
/** What must hold of a value, and what is said where it does not; `sampling`: only when tokens are drawn. */
type Rule = [name: keyof Fields, holds: (value: number) => boolean, message: string, sampling?: "sampling"];

const whole = (least: number) => (x: number) => Number.isSafeInteger(x) && x >= least;
const above = (least: number) => (x: number) => Number.isFinite(x) && x > least;
const within = (from: number, to: number) => (x: number) => x >= from && x <= to;

const SCHEDULES: readonly string[] = ["constant", "heuristic", "heuristic_transient"];
const TEMPERATURE = "has to be a strictly positive float, otherwise your next token scores will be invalid.";
const RULES: readonly Rule[] = [
  ["maxNewTokens", whole(1), "`maxNewTokens` must be greater than 0, but is $."],
  ["maxLength", whole(1), "`maxLength` has to be a strictly positive integer, but is $"],
  ["minLength", whole(0), "`minLength` has to be a non-negative integer, but is $"],
  ["minNewTokens", whole(0), "`minNewTokens` has to be a positive integer, but is $"],
  ["numBeams", whole(1), "`numBeams` has to be a strictly positive integer, but is $"],
  ["numBeamGroups", whole(1), "`numBeamGroups` has to be a strictly positive integer, but is $"],
  ["numReturnSequences", whole(1), "`numReturnSequences` has to be a strictly positive integer, but is $"],
  ["maxTime", within(0, Infinity), "`maxTime` has to be a non-negative float, but is $"],
  ["temperature", above(0), `\`temperature\` (=$) ${TEMPERATURE}`, "sampling"],
  ["topK", whole(0), "`topK` has to be a strictly positive integer, but is $", "sampling"],
  ["topP", within(0, Infinity), "`topP` has to be a float > 0 and < 1, but is $", "sampling"],
  ["minP", within(0, 1), "`minP` has to be a float in the [0, 1] interval, but is $", "sampling"],
  ["topH", (x) => x > 0 && x <= 1, "`topH` must be in the range (0, 1].", "sampling"],
  ["typicalP", above(0), "`typicalP` has to be a float > 0 and < 1, but is $", "sampling"],
  ["epsilonCutoff", within(0, Infinity), "`epsilonCutoff` has to be a float > 0 and < 1, but is $", "sampling"],
  ["etaCutoff", within(0, Infinity), "`etaCutoff` has to be a float > 0 and < 1, but is $", "sampling"],
  ["repetitionPenalty", above(0), "`repetitionPenalty` has to be a strictly positive float, but is $"],
  ["promptIgnoreLength", whole(0), "`promptIgnoreLength` has to be a positive integer, but is $"],
  ["encoderRepetitionPenalty", above(0), "`encoderRepetitionPenalty` has to be a strictly positive float, but is $"],
  ["frequencyPenalty", Number.isFinite, "`frequencyPenalty` has to be a finite float, but is $"],
  ["presencePenalty", Number.isFinite, "`presencePenalty` has to be a finite float, but is $"],
  ["lengthPenalty", Number.isFinite, "`lengthPenalty` has to be a finite float, but is $"],
  ["diversityPenalty", within(0, Infinity), "`diversityPenalty` should be a float strictly larger than 0."],
  ["guidanceScale", Number.isFinite, "`guidanceScale` has to be a finite float, but is $"],
  ["noRepeatNgramSize", whole(0), "`noRepeatNgramSize` has to be a strictly positive integer, but is $"],
  ["encoderNoRepeatNgramSize", whole(0), "`encoderNoRepeatNgramSize` has to be a strictly positive integer, but is $"],
  ["padTokenId", whole(0), "`padTokenId` should be positive but got $."],
  ["numAssistantTokens", whole(1), "`numAssistantTokens` has to be a strictly positive integer, but is $"],
  ["assistantConfidenceThreshold", within(0, 1), "`assistantConfidenceThreshold` has to be in [0, 1], but is $"],
  ["assistantLookbehind", whole(1), "`assistantLookbehind` has to be a strictly positive integer, but is $"],
  ["targetLookbehind", whole(1), "`targetLookbehind` has to be a strictly positive integer, but is $"],
];

/**
 * Checks what can be checked without a model.
 *
 * @throws {ValueError} in the words of Transformers, with our names of the options
 */
export function checkConfig(o: Fields): void {
  const given = o as unknown as Record<string, unknown>;
  if (!([true, false, "never"] as unknown[]).includes(o.earlyStopping)) {
    throw new ValueError(`\`earlyStopping\` must be a boolean or 'never', but is ${o.earlyStopping}.`);
  }
  for (const [name, holds, message, sampling] of RULES) {
    const value = given[name];
    if (value === null || (sampling && !o.doSample)) continue;
    if (typeof value === "number" && holds(value)) continue;
    const greedy = name === "temperature" && value === 0
      ? " If you're looking for greedy decoding strategies, set `doSample=False`."
      : "";
    throw new ValueError(message.replace("$", String(value)) + greedy);
  }
  if (!SCHEDULES.includes(o.numAssistantTokensSchedule)) {
    throw new ValueError(
      `\`numAssistantTokensSchedule\` has to be one of ${SCHEDULES.join(", ")}, but is ${o.numAssistantTokensSchedule}`,
    );
  }
  checkBeams(o);
  checkBiases(o);
  o.watermarkingConfig?.validate?.();
}

function checkBeams(o: Fields): void {
  if (o.numBeams > 1) {
    if (o.constraints ?? o.forceWordsIds) {
      if (o.doSample) throw new ValueError(constrained("doSample", "True"));
      if (o.numBeamGroups !== 1) throw new ValueError(constrained("numBeamGroups", o.numBeamGroups));
    }
    checkGroups(o);
  } else if (o.constraints ?? o.forceWordsIds) {
    throw new ValueError(
      "`numBeams` has to be an integer strictly greater than 1, but is 1. For `numBeams` == 1, one should make use of " +
        "`greedySearch` instead.",
    );
  }
  const { numReturnSequences: n, numBeams } = o;
  if (n === 1) return;
  if (numBeams === 1 && !o.doSample) {
    throw new ValueError(
      `Greedy methods without beam search do not support \`numReturnSequences\` different than 1 (got ${n}).`,
    );
  }
  if (numBeams > 1 && n > numBeams) {
    throw new ValueError(
      `\`numReturnSequences\` (${n}) has to be smaller or equal to \`numBeams\` (${numBeams}).`,
    );
  }
}

function constrained(flag: string, value: unknown): string {
  return "one of `constraints`, `forceWordsIds` is not `None`, triggering constrained beam search. However, " +
    `\`${flag}\` is set to \`${value}\`, which is incompatible with this generation mode. Set ` +
    `\`constraints\` and \`forceWordsIds\` to \`None\` or unset \`${flag}\` to continue.`;
}

function checkGroups(o: Fields): void {
  if (o.diversityPenalty === 0 && o.numBeamGroups === 1) return;
  const prefix = "`diversityPenalty` is not 0.0 or `numBeamGroups` is not 1, triggering group beam search. In this " +
    "generation mode, ";
  if (o.doSample) throw new ValueError(`${prefix}\`doSample\` must be set to \`False\``);
  if (o.numBeamGroups > o.numBeams) throw new ValueError("`numBeamGroups` has to be smaller or equal to `numBeams`");
  if (o.numBeams % o.numBeamGroups !== 0) {
    throw new ValueError(`${prefix}\`numBeams\` should be divisible by \`numBeamGroups\``);
  }
  if (o.diversityPenalty === 0) {
    throw new ValueError(
      `${prefix}\`diversityPenalty\` should be greater than \`0.0\`, otherwise your groups will be identical.`,
    );
  }
}

/**
 * Checks what depends on the call and the model.
 *
 * @throws {ValueError} if something does not fit
 */
export function checkCall(o: ResolvedOptions, model: Model): void {
  const must = (name: string, value: unknown, least: number) => {
    if (whole(least)(value as number)) return;
    throw new ValueError(`Cannot generate as ${name} must be a whole number from ${least}: current value is ${value}`);
  };
  must("seed", o.seed, 0);
  must("prefillChunkSize", o.prefillChunkSize, 1);
  if (o.stops.some((stop) => typeof stop !== "string" || stop === "")) {
    throw new ValueError(
      `Cannot generate as stopStrings must be texts that are not empty: current value is ${o.stops}`,
    );
  }
  if (o.stops.length && !o.tokenizer) {
    throw new ValueError(
      "There are one or more stop strings, either in the arguments to `generate` or in the model's generation config, " +
        "but we could not locate a tokenizer. When generating with stop strings, you must pass the model's tokenizer " +
        "to the `tokenizer` argument of `generate`.",
    );
  }
  if (o.streamer && o.numBeams > 1) {
    throw new ValueError("`streamer` cannot be used with beam search (yet!). Make sure that `numBeams` is set to 1.");
  }
  checkBiases(o, model.sizes.vocabSize);
}

/** Refuses arguments of a call inside a config. */
export function refuseCallOptions(config: object): void {
  const arg = CALL_OPTIONS.find((name) => name in config);
  if (!arg) return;
  throw new ValueError(
    `Argument \`${arg}\` is not a valid argument of \`GenerationConfig\`. It should be passed to \`generate()\` (or a ` +
      "pipeline) directly.",
  );
}

const SAMPLING = ["temperature", "topP", "minP", "topH", "typicalP", "topK", "epsilonCutoff", "etaCutoff"] as const;
const BEAMS = ["earlyStopping", "numBeamGroups", "diversityPenalty", "lengthPenalty", "constraints"] as const;
const OUTPUTS = ["outputAttentions", "outputHiddenStates", "outputScores", "outputLogits"] as const;

/** Everything that a config sets and its mode ignores. */
export function configWarnings(o: Fields): string[] {
  const given = (names: readonly (keyof Fields)[]) => names.filter((name) => o[name] !== DEFAULTS[name]);
  const sampling = o.doSample ? [] : given(SAMPLING).filter((name) => name !== "topK" || o.penaltyAlpha === null);
  const beams = o.numBeams === 1 ? given(BEAMS) : [];
  return [
    ...sampling.map((name) =>
      `\`doSample\` is set to \`False\`. However, \`${name}\` is set to \`${o[name]}\` -- this flag is only used in ` +
      `sample-based generation modes. You should set \`doSample=True\` or unset \`${name}\`.`
    ),
    ...beams.map((name) =>
      `\`numBeams\` is set to 1. However, \`${name}\` is set to \`${
        pythonic(o[name])
      }\` -- this flag is only used in ` +
      `beam-based generation modes. You should set \`numBeams>1\` or unset \`${name}\`.`
    ),
    ...(o.dolaLayers !== null && o.repetitionPenalty < 1.2 ? [DOLA.replace("$", String(o.repetitionPenalty))] : []),
  ];
}

/** Outputs that are asked for, but not kept without `returnDictInGenerate`. */
export function outputWarnings(o: Fields): string[] {
  const asked = o.returnDictInGenerate ? [] : OUTPUTS.filter((name) => o[name] === true);
  return asked.map((name) =>
    `\`returnDictInGenerate\` is NOT set to \`True\`, but \`${name}\` is. When \`returnDictInGenerate\` is not ` +
    `\`True\`, \`${name}\` is ignored.`
  );
}

const DOLA =
  "`dolaLayers` is set to trigger DoLa decoding, but `repetitionPenalty` is set to a value of $, which could " +
  "induce unwanted repetition. The recommended value for DoLa decoding is `repetitionPenalty>=1.2`.";

function pythonic(value: unknown): string {
  return typeof value === "boolean" ? value ? "True" : "False" : String(value);
}

/** Warns of what the call itself set in vain; what only the model's file says is not the caller's doing. */
export function warnOfConfig(o: Fields, given: Partial<Fields>): void {
  const { doSample, numBeams, penaltyAlpha, repetitionPenalty } = o;
  const own = { ...DEFAULTS, ...given, doSample, numBeams, penaltyAlpha, repetitionPenalty };
  for (const message of configWarnings(own)) warnOnce("UserWarning", message);
}
