/**
 * Finds the watermark that `watermarkingConfig` left (semantics: G-41).
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import { greenAfter } from "../ops/watermark_logits.ts";
import { synthIdBits } from "../ops/synthid_logits.ts";
import {
  type AnyWatermarkingConfig,
  SynthIDTextWatermarkingConfig,
  type SynthIDTextWatermarkingSettings,
  watermarkingConfigOf,
  type WatermarkingSettings,
} from "./watermarking_config.ts";

/** What {@linkcode WatermarkDetector} finds in one row. */
export interface WatermarkDetection {
  /** Tokens that had enough before them. */
  numTokensScored: number;
  /** Those of them that are green; with SynthID, the sum of the shares of keys that each won. */
  numGreenTokens: number;
  /** The share of them. */
  greenFraction: number;
  /** How many standard deviations that is above chance. */
  zScore: number;
  /** How probable so many are by chance. */
  pValue: number;
  /** Whether `zScore` is above the threshold. */
  prediction: boolean;
  /** 1 - `pValue`. */
  confidence: number;
}

/** Settings of a {@linkcode WatermarkDetector}. */
export interface WatermarkDetectorOptions {
  /** A token that begins every text and is not scored. */
  bosTokenId?: number;
  /** Count each sequence of tokens once. Default false. */
  ignoreRepeatedNgrams?: boolean;
}

/**
 * Tells watermarked text from other text, by how many of its tokens are green.
 *
 * Source: https://arxiv.org/abs/2306.04634
 *
 * @example
 * ```ts
 * import { WatermarkDetector, WatermarkingConfig } from "@tensaur/tensaur";
 * const detector = new WatermarkDetector(new WatermarkingConfig({ bias: 2.5 }));
 * const [found] = detector.detect([[5, 9, 2, 8, 4, 4, 7, 1, 3]]);
 * console.log(found!.prediction); // false
 * ```
 */
export class WatermarkDetector {
  readonly #config: AnyWatermarkingConfig;
  readonly #options: WatermarkDetectorOptions;

  /**
   * A detector for texts of one watermark.
   *
   * @param config what the text was generated with
   * @throws {ValueError} if a setting does not hold
   */
  constructor(config: WatermarkingSettings | SynthIDTextWatermarkingSettings, options: WatermarkDetectorOptions = {}) {
    this.#config = watermarkingConfigOf(config);
    this.#config.validate();
    this.#options = options;
  }

  /**
   * Looks at each row.
   *
   * @param inputIds generated tokens, best without the prompt
   * @param zThreshold from which z-score on a row counts as watermarked. Default 3.
   * @throws {ValueError} if a row is too short to score
   */
  detect(
    inputIds: readonly (readonly number[])[],
    { zThreshold = 3 }: { zThreshold?: number } = {},
  ): WatermarkDetection[] {
    return inputIds.map((row) => this.#one(row[0] === this.#options.bosTokenId ? row.slice(1) : row, zThreshold));
  }

  #one(ids: readonly number[], zThreshold: number): WatermarkDetection {
    const { width, share, draws, greenAt } = rulesOf(this.#config);
    if (ids.length - width < 1) {
      throw new ValueError(
        "Must have at least `1` token to score after the first minPrefixLen=" +
          `${width} tokens required by the seeding scheme.`,
      );
    }
    const seen = new Set<string>();
    let scored = 0, green = 0;
    for (let i = width; i < ids.length; i++) {
      const ngram = ids.slice(i - width, i + 1).join();
      if (this.#options.ignoreRepeatedNgrams && seen.has(ngram)) continue;
      seen.add(ngram);
      scored++;
      green += greenAt(ids, i) / draws;
    }
    const zScore = (green - share * scored) / Math.sqrt(scored * share * (1 - share) / draws);
    const pValue = 1 - 0.5 * (1 + Math.sign(zScore) * (1 - Math.exp(-2 * zScore ** 2 / Math.PI)));
    return {
      numTokensScored: scored,
      numGreenTokens: green,
      greenFraction: green / scored,
      zScore,
      pValue,
      prediction: zScore > zThreshold,
      confidence: 1 - pValue,
    };
  }
}

/** What both kinds come down to. */
interface Rules {
  /** Tokens that must come before. */
  width: number;
  /** Share of green tokens. */
  share: number;
  /** How often it is decided anew whether a token is green. */
  draws: number;
  /** How often token `i` of `ids` is. */
  greenAt(ids: readonly number[], i: number): number;
}

function rulesOf(config: AnyWatermarkingConfig): Rules {
  if (config instanceof SynthIDTextWatermarkingConfig) {
    const bits = (ids: readonly number[], i: number) => synthIdBits(ids.slice(0, i), config)(ids[i]!);
    const greenAt: Rules["greenAt"] = (ids, i) => bits(ids, i).reduce((a, b) => a + b, 0);
    return { width: config.ngramLen - 1, share: 0.5, draws: config.keys.length, greenAt };
  }
  const greenAt: Rules["greenAt"] = (ids, i) => Number(greenAfter(ids.slice(0, i), config)(ids[i]!));
  return { width: config.contextWidth, share: config.greenlistRatio, draws: 1, greenAt };
}
