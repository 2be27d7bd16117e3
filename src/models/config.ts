/**
 * Reading config.json: every key that a family takes is checked, and a key that changes the result but is not
 * understood is an error, never ignored.
 *
 * @module
 */
import { ModelFormatError, NotSupportedError } from "../errors.ts";

/** A parsed config.json, with its own keys. */
export type ConfigJson = Readonly<Record<string, unknown>>;

/** Keys that no supported family understands, with the values at which they change nothing. */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  quantization_config: [],
  attn_logit_softcapping: [],
  final_logit_softcapping: [],
  logit_scale: [1],
  embedding_multiplier: [1],
  residual_multiplier: [1],
  attention_multiplier: [],
  logits_scaling: [1],
  num_local_experts: [0, 1],
  num_experts: [0, 1],
  cross_attention_hidden_size: [],
  add_cross_attention: [false],
  is_encoder_decoder: [false],
  alibi: [false],
  use_alibi: [false],
  clip_qkv: [],
  scale_attn_by_inverse_layer_idx: [false],
  pruned_heads: [],
  attention_chunk_size: [],
  no_rope_layers: [],
};

/** Reads the keys of one config.json with checks. */
export class ConfigReader {
  /** The parsed file. */
  readonly json: ConfigJson;
  readonly #family: string;

  /**
   * @param family for error messages
   * @throws {NotSupportedError} if a key asks for something that no family here does
   */
  constructor(family: string, json: ConfigJson) {
    this.#family = family;
    this.json = json;
    for (const [key, neutral] of Object.entries(NEUTRAL)) this.neutral(key, ...neutral);
  }

  /** A whole number from `least`; `fallback` where the key is missing or null. */
  count(key: string, fallback?: number, least = 1): number {
    const value = this.json[key] ?? fallback;
    if (Number.isSafeInteger(value) && value as number >= least && value as number <= 2 ** 31) return value as number;
    throw this.#wrong(key, `a whole number from ${least} to 2^31`);
  }

  /** A positive finite number. */
  positive(key: string, fallback?: number): number {
    const value = this.json[key] ?? fallback;
    if (typeof value === "number" && Number.isFinite(value) && value > 0) return value;
    throw this.#wrong(key, "a positive number");
  }

  /** A boolean. */
  flag(key: string, fallback: boolean): boolean {
    const value = this.json[key] ?? fallback;
    if (typeof value === "boolean") return value;
    throw this.#wrong(key, "true or false");
  }

  /** One of the keys of `choices`, mapped. */
  oneOf<T>(key: string, choices: Readonly<Record<string, T>>, fallback?: string): T {
    const value = this.json[key] ?? fallback;
    if (typeof value === "string" && Object.hasOwn(choices, value)) return choices[value]!;
    throw new NotSupportedError(
      `Cannot run ${this.#family} as ${key} must be ${Object.keys(choices).join(" or ")}: current value is ${
        JSON.stringify(value)
      }`,
    );
  }

  /** `key` must be missing, null, empty or one of `values`: anything else would change the result. */
  neutral(key: string, ...values: unknown[]): void {
    const value = this.json[key];
    const empty = value === undefined || value === null ||
      (typeof value === "object" && Object.keys(value).length === 0);
    if (empty || values.includes(value)) return;
    throw new NotSupportedError(
      `Cannot run ${this.#family} as ${key} must be ${
        [...values.map(String), "unset"].join(" or ")
      }: current value is ${JSON.stringify(value)?.slice(0, 80)}`,
    );
  }

  /** Head counts and widths, checked against each other. */
  heads(hidden: string, heads: string, kvHeads?: string, headDim?: string): {
    hiddenSize: number;
    heads: number;
    kvHeads: number;
    headDim: number;
  } {
    const hiddenSize = this.count(hidden), count = this.count(heads);
    const kv = kvHeads ? this.count(kvHeads, count) : count;
    if (count % kv !== 0) throw this.#wrong(kvHeads!, `a divisor of ${heads} (${count})`);
    const given = headDim ? this.json[headDim] : undefined;
    if ((given === undefined || given === null) && hiddenSize % count !== 0) {
      throw this.#wrong(hidden, `a multiple of ${heads} (${count})`);
    }
    const dim = headDim ? this.count(headDim, Math.floor(hiddenSize / count)) : hiddenSize / count;
    return { hiddenSize, heads: count, kvHeads: kv, headDim: dim };
  }

  #wrong(key: string, rule: string): ModelFormatError {
    return new ModelFormatError(
      `Cannot read config.json of ${this.#family} as ${key} must be ${rule}: current value is ${
        JSON.stringify(this.json[key])
      }`,
    );
  }
}
