/**
 * Options of generation: what the call gives, then the config it passes or else the model's generation_config.json, then
 * the defaults of the documents (semantics: G-2).
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import type { ConfigJson, Model } from "../models/mod.ts";
import { warnOnce } from "../warn.ts";
import { DEFAULTS, FIELD_NAMES, type GenerationConfigFields } from "./config_fields.ts";
import { withoutReplaced } from "./custom_options.ts";
import { lengthsOf } from "./lengths.ts";
import { snakeCase } from "./names.ts";
import { CALL_OPTIONS, type GenerationOptions, type ResolvedOptions } from "./options.ts";
import { nextSeed } from "./seed.ts";
import { remindOfPositions } from "./stopping.ts";
import { watermarkingConfigOf } from "./watermarking_config.ts";
import { checkCall, checkConfig, refuseCallOptions, warnOfConfig } from "./validate.ts";

const SPECIAL: readonly string[] = ["bosTokenId", "eosTokenId", "padTokenId", "decoderStartTokenId"];

/**
 * Fills in what the caller left out, checks, and warns.
 *
 * @param longest length of the longest prompt
 * @throws {ValueError} naming the option, what must hold and what came
 */
export function resolveOptions(model: Model, given: GenerationOptions, longest: number): ResolvedOptions {
  refuseUnknown(given);
  const call = definedOf(given);
  const { generationConfig, ...rest } = call;
  if (generationConfig) refuseCallOptions(generationConfig);
  const base = generationConfig
    ? withSpecialTokens(definedOf(generationConfig), model)
    : fieldsOf(model.generationConfig);
  const merged = { ...base, ...rest };
  const o: ResolvedOptions = {
    ...withoutReplaced(withoutNulls(merged)),
    seed: given.seed ?? nextSeed(),
    prefillChunkSize: given.prefillChunkSize ?? 512,
    watermarkingConfig: merged.watermarkingConfig ? watermarkingConfigOf(merged.watermarkingConfig) : null,
    stops: [],
    eosTokenIds: [],
    padToken: 0,
    newTokens: 0,
  };
  o.stops = [o.stopStrings ?? []].flat();
  checkConfig(o);
  Object.assign(o, specialTokens(o, model, merged));
  Object.assign(o, lengthsOf(o, rest, longest));
  checkCall(o, model);
  warnOfConfig(o, withoutNulls({ ...generationConfig, ...rest }));
  remindOfPositions(o, model);
  return o;
}

/** The fields that a generation_config.json sets. */
export function fieldsOf(json: ConfigJson): Partial<GenerationConfigFields> {
  const read = FIELD_NAMES.map((name) => [name, json[snakeCase(name)]] as const);
  return Object.fromEntries(read.filter(([, value]) => (value ?? null) !== null));
}

function refuseUnknown(given: GenerationOptions): void {
  const known: readonly string[] = [...FIELD_NAMES, ...CALL_OPTIONS];
  const unknown = Object.keys(definedOf(given)).filter((name) => !known.includes(name));
  if (unknown.length === 0) return;
  throw new ValueError(
    `The following \`modelKwargs\` are not used by the model: [${unknown.map((name) => `'${name}'`).join(", ")}] ` +
      "(note: typos in the generate arguments will also show up in this list)",
  );
}

function definedOf<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}

/** A config without an end, a pad or a start falls back on the model's. */
function withSpecialTokens(config: Partial<GenerationConfigFields>, model: Model): Partial<GenerationConfigFields> {
  const own = fieldsOf(model.generationConfig);
  const set = Object.entries(config).filter(([name, value]) => value !== null || !SPECIAL.includes(name));
  const special = SPECIAL.map((name) => [name, own[name as "eosTokenId"]]);
  return { ...definedOf(Object.fromEntries(special)), ...Object.fromEntries(set) };
}

/** `null` is off: the default of all fields but `topK`, which has one that is on. */
function withoutNulls(o: GenerationOptions): GenerationConfigFields & GenerationOptions {
  const set = Object.entries(o).filter(([, value]) => value !== null);
  return { ...DEFAULTS, ...o.topK === null && { topK: 0 }, ...Object.fromEntries(set) };
}

function specialTokens(o: ResolvedOptions, model: Model, merged: GenerationOptions) {
  const given = merged.eosTokenId === undefined ? model.config.eos_token_id : merged.eosTokenId;
  const eosTokenIds = eosOf(given, model.sizes.vocabSize);
  const pad = o.padTokenId ?? model.config.pad_token_id as number | null | undefined;
  if (pad === null || pad === undefined) {
    const [eos] = eosTokenIds;
    if (eos !== undefined) warnOnce("log", `Setting \`padTokenId\` to \`eosTokenId\`:${eos} for open-end generation.`);
    return { eosTokenIds, padToken: eos ?? 0 };
  }
  return { eosTokenIds, padToken: pad };
}

function eosOf(value: unknown, vocabSize: number): readonly number[] {
  const ids = value === undefined || value === null ? [] : [value].flat();
  for (const id of ids) {
    if (Number.isInteger(id) && id as number >= 0 && id as number < vocabSize) continue;
    throw new ValueError(`Cannot generate as eosTokenId must be token ids below ${vocabSize}: current value is ${id}`);
  }
  return ids as number[];
}
