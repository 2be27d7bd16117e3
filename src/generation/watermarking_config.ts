/**
 * How text is watermarked.
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import { camelCase } from "./names.ts";

/** Settings of a {@linkcode WatermarkingConfig}. */
export interface WatermarkingSettings {
  /** Share of the tokens that are green, between 0 and 1. Default 0.25. */
  greenlistRatio?: number;
  /** Added to the logits of green tokens. Default 2. */
  bias?: number;
  /** The secret. Default 15485863. */
  hashingKey?: number;
  /** What decides which tokens are green: the last token, or the last ones and the token itself. Default "lefthash". */
  seedingScheme?: "lefthash" | "selfhash";
  /** Tokens before the next one that must be there, and that "selfhash" looks at. Default 1. */
  contextWidth?: number;
}

/**
 * A watermark: some tokens, which change with the text before them, are made likelier. {@linkcode WatermarkDetector}
 * finds it again.
 *
 * The green tokens are not those of PyTorch, whose random numbers no other library has.
 *
 * Source: https://arxiv.org/abs/2306.04634
 *
 * @example
 * ```ts
 * import { WatermarkingConfig } from "@tensaur/tensaur";
 * const watermarkingConfig = new WatermarkingConfig({ bias: 2.5 });
 * console.log(watermarkingConfig.greenlistRatio); // 0.25
 * ```
 */
export class WatermarkingConfig implements Required<WatermarkingSettings> {
  /** See {@linkcode WatermarkingSettings}. */
  readonly greenlistRatio: number;
  /** See {@linkcode WatermarkingSettings}. */
  readonly bias: number;
  /** See {@linkcode WatermarkingSettings}. */
  readonly hashingKey: number;
  /** See {@linkcode WatermarkingSettings}. */
  readonly seedingScheme: "lefthash" | "selfhash";
  /** See {@linkcode WatermarkingSettings}. */
  readonly contextWidth: number;

  /** Settings that are left out have their defaults. */
  constructor(settings: WatermarkingSettings = {}) {
    this.greenlistRatio = settings.greenlistRatio ?? 0.25;
    this.bias = settings.bias ?? 2;
    this.hashingKey = settings.hashingKey ?? 15485863;
    this.seedingScheme = settings.seedingScheme ?? "lefthash";
    this.contextWidth = settings.contextWidth ?? 1;
  }

  /**
   * Checks the settings.
   *
   * @throws {ValueError} naming the one that does not hold
   */
  validate(): void {
    const { seedingScheme, greenlistRatio: ratio, contextWidth, hashingKey, bias } = this;
    if (!["selfhash", "lefthash"].includes(seedingScheme)) {
      throw wrong("seedingScheme", "[`selfhash`, `lefthash`]", seedingScheme);
    }
    if (!(ratio > 0 && ratio < 1)) throw wrong("greenlistRatio", "in range between 0.0 and 1.0", ratio);
    if (!(Number.isSafeInteger(contextWidth) && contextWidth >= 1)) {
      throw wrong("contextWidth", "a positive integer", contextWidth);
    }
    if (!Number.isSafeInteger(hashingKey)) throw wrong("hashingKey", "an integer", hashingKey);
    if (!Number.isFinite(bias)) throw wrong("bias", "a finite number", bias);
  }
}

/** Settings of a {@linkcode SynthIDTextWatermarkingConfig}. */
export interface SynthIDTextWatermarkingSettings {
  /** Tokens of an n-gram: those looked back at, and the one that is drawn; at least 2. */
  ngramLen: number;
  /** A key for each tournament; they are the secret. */
  keys: readonly number[];
  /** How many earlier contexts are looked at, so that none is marked twice. Default 1024. */
  contextHistorySize?: number;
  /** Seed of the bits that decide. Default 0. */
  samplingTableSeed?: number;
  /** Kept for files of Transformers; bits are hashed here, not looked up. Default 65536. */
  samplingTableSize?: number;
  /** Leave the first tokens alone. Default false. */
  skipFirstNgramCalls?: boolean;
  /** Start from equal probabilities, for tests. Default false. */
  debugMode?: boolean;
}

/**
 * A watermark that changes no token's chance on average: tokens are drawn in tournaments that keys decide.
 * {@linkcode WatermarkDetector} finds it again. The bits are not those of PyTorch.
 *
 * Source: https://www.nature.com/articles/s41586-024-08025-4
 *
 * @example
 * ```ts
 * import { SynthIDTextWatermarkingConfig } from "@tensaur/tensaur";
 * const watermarkingConfig = new SynthIDTextWatermarkingConfig({ ngramLen: 5, keys: [654, 400, 836, 123, 340] });
 * console.log(watermarkingConfig.contextHistorySize); // 1024
 * ```
 */
export class SynthIDTextWatermarkingConfig implements Required<SynthIDTextWatermarkingSettings> {
  /** See {@linkcode SynthIDTextWatermarkingSettings}. */
  readonly ngramLen: number;
  /** See {@linkcode SynthIDTextWatermarkingSettings}. */
  readonly keys: readonly number[];
  /** See {@linkcode SynthIDTextWatermarkingSettings}. */
  readonly contextHistorySize: number;
  /** See {@linkcode SynthIDTextWatermarkingSettings}. */
  readonly samplingTableSeed: number;
  /** See {@linkcode SynthIDTextWatermarkingSettings}. */
  readonly samplingTableSize: number;
  /** See {@linkcode SynthIDTextWatermarkingSettings}. */
  readonly skipFirstNgramCalls: boolean;
  /** See {@linkcode SynthIDTextWatermarkingSettings}. */
  readonly debugMode: boolean;

  /** Settings that are left out have their defaults. */
  constructor(settings: SynthIDTextWatermarkingSettings) {
    this.ngramLen = settings.ngramLen;
    this.keys = settings.keys;
    this.contextHistorySize = settings.contextHistorySize ?? 1024;
    this.samplingTableSeed = settings.samplingTableSeed ?? 0;
    this.samplingTableSize = settings.samplingTableSize ?? 2 ** 16;
    this.skipFirstNgramCalls = settings.skipFirstNgramCalls ?? false;
    this.debugMode = settings.debugMode ?? false;
  }

  /**
   * Checks the settings.
   *
   * @throws {ValueError} naming the one that does not hold
   */
  validate(): void {
    const { ngramLen, keys, contextHistorySize, samplingTableSize, samplingTableSeed } = this;
    const whole = (x: unknown, least: number) => Number.isSafeInteger(x) && x as number >= least;
    if (!whole(samplingTableSize, 0) || samplingTableSize > 2 ** 24) {
      throw wrong("samplingTableSize", "< 2**24", samplingTableSize);
    }
    if (!whole(ngramLen, 2)) throw wrong("ngramLen", "a whole number from 2", ngramLen);
    if (!Array.isArray(keys) || keys.length === 0 || !keys.every(Number.isSafeInteger)) {
      throw wrong("keys", "a list of integers", JSON.stringify(keys));
    }
    if (!whole(contextHistorySize, 0)) throw wrong("contextHistorySize", "a whole number", contextHistorySize);
    if (!Number.isSafeInteger(samplingTableSeed)) throw wrong("samplingTableSeed", "an integer", samplingTableSeed);
  }
}

/** Either kind of watermark. */
export type AnyWatermarkingConfig = WatermarkingConfig | SynthIDTextWatermarkingConfig;

/** `settings` as the config of their kind; they may have the names of files, `greenlist_ratio`. */
export function watermarkingConfigOf(settings: object): AnyWatermarkingConfig {
  if (settings instanceof WatermarkingConfig || settings instanceof SynthIDTextWatermarkingConfig) return settings;
  const named = Object.fromEntries(Object.entries(settings).map(([key, value]) => [camelCase(key), value]));
  const isSynthId = "ngramLen" in named || "keys" in named;
  return isSynthId
    ? new SynthIDTextWatermarkingConfig(named as unknown as SynthIDTextWatermarkingSettings)
    : new WatermarkingConfig(named);
}

function wrong(key: string, correct: string, found: unknown): ValueError {
  return new ValueError(
    `Some of the keys in \`watermarkingConfig\` are defined incorrectly. \`${key}\` should be ${correct} but found ` +
      `${found}`,
  );
}
