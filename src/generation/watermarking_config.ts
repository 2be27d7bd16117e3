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

  /** `settings` as a config; they may have the names of files, `greenlist_ratio`. */
  static of(settings: object): WatermarkingConfig {
    if (settings instanceof WatermarkingConfig) return settings;
    return new WatermarkingConfig(
      Object.fromEntries(Object.entries(settings).map(([key, value]) => [camelCase(key), value])),
    );
  }

  /**
   * Checks the settings.
   *
   * @throws {ValueError} naming the one that does not hold
   */
  validate(): void {
    const wrong = (key: string, correct: string, found: unknown) =>
      new ValueError(
        `Some of the keys in \`watermarkingConfig\` are defined incorrectly. \`${key}\` should be ${correct} but ` +
          `found ${found}`,
      );
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
