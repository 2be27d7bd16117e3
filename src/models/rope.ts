/**
 * Rotary position embeddings: the settings of config.json, the frequencies of every scaling, and the table of cosines
 * and sines on a device.
 *
 * Sources: https://arxiv.org/abs/2104.09864 (RoPE), https://arxiv.org/abs/2309.00071 (YaRN and dynamic NTK),
 * https://arxiv.org/abs/2402.13753 (LongRoPE).
 *
 * @module
 */
import type { ConfigJson } from "./config.ts";
import { ModelFormatError, NotSupportedError } from "../errors.ts";

export { RopeTable } from "./rope_table.ts";

/** The scalings that are supported. */
export const ROPE_TYPES = ["default", "linear", "dynamic", "yarn", "longrope", "llama3"] as const;

/** The name of a scaling, as `rope_type` of config.json has it. */
export type RopeType = typeof ROPE_TYPES[number];

/** What each scaling needs beside its type. */
export type RopeScaling =
  | { readonly ropeType: "default" }
  | { readonly ropeType: "linear" | "dynamic"; readonly factor: number }
  | {
    readonly ropeType: "yarn";
    readonly factor: number;
    readonly betaFast: number;
    readonly betaSlow: number;
    readonly truncate: boolean;
  }
  | { readonly ropeType: "longrope"; readonly shortFactor: readonly number[]; readonly longFactor: readonly number[] }
  | {
    readonly ropeType: "llama3";
    readonly factor: number;
    readonly lowFreqFactor: number;
    readonly highFreqFactor: number;
  };

/** The rotary settings of a model. */
export type RopeConfig = RopeScaling & {
  /** The base of the frequencies. */
  readonly ropeTheta: number;
  /** How many dimensions of a head rotate, an even number; the rest passes through. */
  readonly rotaryDim: number;
  /** Positions that the model was made for; infinite where config.json does not say. */
  readonly maxPositionEmbeddings: number;
  /** Positions that it was trained on before it was scaled. */
  readonly originalMaxPositionEmbeddings: number;
  /** What cosines and sines are multiplied by. */
  readonly attentionFactor: number;
};

/** The frequencies for one sequence length. */
export interface RopeFrequencies {
  /** [rotaryDim / 2] radians per position. */
  invFreq: Float64Array;
  /** What cosines and sines are multiplied by. */
  attentionFactor: number;
}

const REQUIRED: Record<RopeType, readonly string[]> = {
  default: [],
  linear: ["factor"],
  dynamic: ["factor", "max_position_embeddings"],
  yarn: ["factor", "original_max_position_embeddings"],
  longrope: ["short_factor", "long_factor", "original_max_position_embeddings", "factor"],
  llama3: ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
};

/**
 * Reads the rotary settings of a config.json in either form: `rope_theta`, `rope_scaling` and `partial_rotary_factor`
 * beside each other (transformers 4), or together in `rope_parameters` (transformers 5).
 *
 * @param config the parsed config.json
 * @param headDim dimensions of a head
 * @param layerType which of several settings, for models whose layers differ ("full_attention", "sliding_attention")
 * @throws {NotSupportedError} an unknown `rope_type`
 * @throws {ModelFormatError} a missing or wrong value
 *
 * @example
 * ```ts
 * import { ropeConfig, ropeFrequencies } from "@tensaur/tensaur";
 * const rope = ropeConfig({ rope_theta: 10000, rope_scaling: { rope_type: "linear", factor: 4 } }, 64);
 * console.log(ropeFrequencies(rope, 1).invFreq[0]); // 0.25
 * ```
 */
export function ropeConfig(config: ConfigJson, headDim: number, layerType?: string): RopeConfig {
  const settings = ropeSettings(config, layerType);
  const ropeType = supportedType(settings);
  addLengths(ropeType, settings, config);
  const missing = REQUIRED[ropeType].filter((key) => settings[key] === undefined);
  if (missing.length) {
    throw new ModelFormatError(
      `Cannot read the rotary settings of config.json as rope_type "${ropeType}" must have ${
        REQUIRED[ropeType].join(", ")
      }: it lacks ${missing.join(", ")}`,
    );
  }
  const rotaryDim = settings.rotary_dim === undefined
    ? Math.floor(headDim * numberOf(settings, "partial_rotary_factor", 1))
    : numberOf(settings, "rotary_dim");
  if (!(rotaryDim >= 2 && rotaryDim <= headDim && rotaryDim % 2 === 0)) {
    throw wrong(`the rotary dimensions must be an even number from 2 to ${headDim}`, rotaryDim);
  }
  const maxPositionEmbeddings = numberOf(settings, "max_position_embeddings", Infinity);
  const rope: RopeConfig = {
    ...scalingOf(ropeType, settings, rotaryDim),
    ropeTheta: numberOf(settings, "rope_theta", 10_000),
    rotaryDim,
    maxPositionEmbeddings,
    originalMaxPositionEmbeddings: numberOf(settings, "original_max_position_embeddings", maxPositionEmbeddings),
    attentionFactor: attentionFactor(ropeType, settings),
  };
  const { invFreq } = ropeFrequencies(rope, 1);
  if (Number.isFinite(rope.attentionFactor) && invFreq.every(Number.isFinite)) return rope;
  throw wrong("they must give finite frequencies", rope);
}

/** The frequencies for sequences of `seqLen` positions; only "dynamic" and "longrope" depend on the length. */
export function ropeFrequencies(rope: RopeConfig, seqLen: number): RopeFrequencies {
  const plain = powers(rope.ropeTheta, rope.rotaryDim);
  return { invFreq: scaled(rope, plain, seqLen), attentionFactor: rope.attentionFactor };
}

function scaled(rope: RopeConfig, plain: Float64Array, seqLen: number): Float64Array {
  switch (rope.ropeType) {
    case "default":
      return plain;
    case "linear":
      return plain.map((f) => f / rope.factor);
    case "dynamic": {
      const { factor, maxPositionEmbeddings: max, rotaryDim: d } = rope;
      const stretch = factor * Math.max(seqLen, max) / max - (factor - 1);
      return powers(rope.ropeTheta * stretch ** (d / (d - 2)), d);
    }
    case "yarn":
      return yarn(rope, plain);
    case "longrope": {
      const factors = seqLen > rope.originalMaxPositionEmbeddings ? rope.longFactor : rope.shortFactor;
      return plain.map((f, i) => f / factors[i]!);
    }
    case "llama3":
      return plain.map((f) => llama3(rope, f));
  }
}

/** theta^(-2i/dim) */
function powers(theta: number, dim: number): Float64Array {
  return Float64Array.from({ length: dim / 2 }, (_, i) => theta ** (-2 * i / dim));
}

/** Fast dimensions stay as they are, slow ones are stretched, a ramp lies between. */
function yarn(rope: RopeConfig & { ropeType: "yarn" }, plain: Float64Array): Float64Array {
  const { rotaryDim: d, ropeTheta, originalMaxPositionEmbeddings: original, truncate } = rope;
  const dimension = (rotations: number) =>
    d * Math.log(original / (rotations * 2 * Math.PI)) / (2 * Math.log(ropeTheta));
  const fast = dimension(rope.betaFast), slow = dimension(rope.betaSlow);
  const low = Math.max(truncate ? Math.floor(fast) : fast, 0);
  const high = Math.min(truncate ? Math.ceil(slow) : slow, d - 1);
  const width = high === low ? 0.001 : high - low;
  return plain.map((f, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / width));
    return f / rope.factor * ramp + f * (1 - ramp);
  });
}

/** Short wavelengths stay as they are, long ones are stretched, those between are blended. */
function llama3(rope: RopeConfig & { ropeType: "llama3" }, frequency: number): number {
  const { factor, lowFreqFactor: low, highFreqFactor: high } = rope;
  const rotations = rope.originalMaxPositionEmbeddings * frequency / (2 * Math.PI);
  if (rotations > high) return frequency;
  if (rotations < low) return frequency / factor;
  const smooth = (rotations - low) / (high - low);
  return (1 - smooth) * frequency / factor + smooth * frequency;
}

/** All rotary keys of config.json in one record, under the names of transformers 5; null counts as missing. */
function ropeSettings(config: ConfigJson, layerType: string | undefined): Record<string, unknown> {
  const local = layerType === "sliding_attention" ? config.rope_local_base_freq : undefined;
  const outer = {
    rope_theta: local ?? config.rope_theta ?? config.rotary_emb_base,
    partial_rotary_factor: config.partial_rotary_factor ?? config.rotary_pct,
    rotary_dim: config.rotary_dim,
  };
  const given = record(config.rope_parameters ?? (local === undefined ? config.rope_scaling : undefined) ?? {});
  const layers = Object.keys(given).filter((key) => key.endsWith("_attention"));
  if (layers.length && !layers.includes(layerType ?? "")) {
    throw wrong(`the layer type must be one of ${layers.join(", ")}`, layerType);
  }
  const inner = layers.length ? record(given[layerType ?? ""] ?? {}) : given;
  return present({ ...outer, ...present(inner), max_position_embeddings: config.max_position_embeddings });
}

/** The lengths that scalings need, from beside them in config.json (Phi-3) or from `max_position_embeddings`. */
function addLengths(ropeType: RopeType, settings: Record<string, unknown>, config: ConfigJson): void {
  const max = settings.max_position_embeddings;
  const original = config.original_max_position_embeddings ?? settings.original_max_position_embeddings;
  if (original !== undefined) settings.original_max_position_embeddings = original;
  if (ropeType !== "yarn" && ropeType !== "longrope") return;
  if (typeof original === "number" && typeof max === "number") settings.factor ??= max / original;
  if (max !== undefined) settings.original_max_position_embeddings ??= max;
}

function supportedType(settings: ConfigJson): RopeType {
  const given = settings.rope_type ?? settings.type ?? "default";
  const type = given === "su" ? "longrope" : given; // the name that Phi-3's first checkpoints use
  if (ROPE_TYPES.includes(type as RopeType)) return type as RopeType;
  throw new NotSupportedError(
    `Cannot read the rotary settings of config.json as rope_type must be one of ${ROPE_TYPES.join(", ")}: ` +
      `current value is ${JSON.stringify(given)}`,
  );
}

function scalingOf(ropeType: RopeType, settings: ConfigJson, rotaryDim: number): RopeScaling {
  const factor = numberOf(settings, "factor", 1);
  switch (ropeType) {
    case "default":
      return { ropeType };
    case "linear":
    case "dynamic":
      return { ropeType, factor };
    case "yarn":
      return {
        ropeType,
        factor,
        betaFast: numberOf(settings, "beta_fast", 32),
        betaSlow: numberOf(settings, "beta_slow", 1),
        truncate: settings.truncate !== false,
      };
    case "longrope": {
      const [shortFactor, longFactor] = ["short_factor", "long_factor"].map((key) => {
        const list = settings[key];
        const positive = (f: unknown) => Number.isFinite(f) && f as number > 0;
        if (Array.isArray(list) && list.length === rotaryDim / 2 && list.every(positive)) return list as number[];
        throw wrong(`${key} must be ${rotaryDim / 2} positive numbers`, list);
      });
      return { ropeType, shortFactor: shortFactor!, longFactor: longFactor! };
    }
    case "llama3":
      return {
        ropeType,
        factor,
        lowFreqFactor: numberOf(settings, "low_freq_factor"),
        highFreqFactor: numberOf(settings, "high_freq_factor"),
      };
  }
}

function attentionFactor(ropeType: RopeType, settings: ConfigJson): number {
  if (ropeType !== "yarn" && ropeType !== "longrope") return 1;
  if (settings.attention_factor !== undefined) return numberOf(settings, "attention_factor");
  const factor = numberOf(settings, "factor");
  if (ropeType === "longrope") {
    const original = numberOf(settings, "original_max_position_embeddings");
    return factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
  }
  const scale = (mscale: number) => factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
  const { mscale, mscale_all_dim: all } = settings;
  return mscale && all ? scale(numberOf(settings, "mscale")) / scale(numberOf(settings, "mscale_all_dim")) : scale(1);
}

function numberOf(settings: ConfigJson, key: string, otherwise?: number): number {
  const value = settings[key] ?? otherwise;
  const finite = value === otherwise || Number.isFinite(value);
  if (typeof value === "number" && finite && (value > 0 || key.startsWith("mscale"))) return value;
  throw wrong(`${key} must be a positive number`, value);
}

function record(value: unknown): ConfigJson {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as ConfigJson;
  throw wrong("rope_parameters or rope_scaling must be an object", value);
}

function present(settings: ConfigJson): ConfigJson {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== null && value !== undefined));
}

function wrong(rule: string, value: unknown): ModelFormatError {
  return new ModelFormatError(
    `Cannot read the rotary settings of config.json as ${rule}: current value is ${JSON.stringify(value)}`,
  );
}
