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
  attn_logit_softcapping: [],
  final_logit_softcapping: [],
  logit_scale: [1],
  embedding_multiplier: [1],
  residual_multiplier: [1],
  attention_multiplier: [],
  logits_scaling: [1],
  num_local_experts: [0, 1],
  num_experts: [0, 1],
  num_experts_per_tok: [0, 1],
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
  query_pre_attn_scalar: [],
  use_qk_norm: [false],
  qk_layernorm: [false],
  use_parallel_residual: [false],
  use_bidirectional_attention: [false],
};

const MAX_COUNT = 2 ** 31, MAX_LAYERS = 4096, MAX_HEAD_DIM = 1024; // far above any model, and safe to make lists of

/** Head counts and widths. */
export interface HeadShape {
  /** D. */
  hiddenSize: number;
  /** H. */
  heads: number;
  /** Hkv, a divisor of H. */
  kvHeads: number;
  /** Dh. */
  headDim: number;
}

/** Reads the keys of one config.json with checks. */
export class ConfigReader {
  /** The parsed file, with defaults. */
  readonly json: ConfigJson;
  readonly #family: string;

  /**
   * @param family for error messages
   * @param defaults values of keys that are missing (not null), as Transformers fills them in
   * @param own keys of those that most families do not understand which this one reads itself
   * @throws {NotSupportedError} if a key asks for something that no family here does
   */
  constructor(family: string, json: ConfigJson, defaults: ConfigJson = {}, own: readonly string[] = []) {
    this.#family = family;
    this.json = { ...defaults, ...json };
    for (const [key, neutral] of Object.entries(NEUTRAL)) if (!own.includes(key)) this.neutral(key, ...neutral);
  }

  /** A whole number from `least`; `fallback` where the key is missing or null. */
  count(key: string, fallback?: number, least = 1, most = MAX_COUNT): number {
    const value = this.json[key] ?? fallback;
    if (Number.isSafeInteger(value) && value as number >= least && value as number <= most) return value as number;
    throw this.#wrong(key, `a whole number from ${least} to ${most}`);
  }

  /** The number of layers. */
  layers(key: string): number {
    return this.count(key, undefined, 1, MAX_LAYERS);
  }

  /**
   * How each of `layers` layers attends, where `layer_types` says so.
   *
   * @throws {NotSupportedError} if it names a kind that is not in `known`
   */
  layerTypes(layers: number, known: readonly string[]): readonly string[] | undefined {
    const types = this.json.layer_types;
    if (types === undefined || types === null) return undefined;
    if (!Array.isArray(types) || types.length !== layers) {
      throw this.#wrong("layer_types", `a list of one kind for each of the ${layers} layers`);
    }
    const other = types.find((type) => !known.includes(type));
    if (other === undefined) return types;
    throw new NotSupportedError(
      `Cannot run ${this.#family} as layer_types must be ${known.join(" or ")}: current value is ${shown(other)}`,
    );
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
        shown(value)
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
      }: current value is ${shown(value)}`,
    );
  }

  /** Head counts and widths, checked against each other. */
  heads(hidden: string, heads: string, kvHeads?: string, headDim?: string): HeadShape {
    const hiddenSize = this.count(hidden), count = this.count(heads);
    const kv = kvHeads ? this.count(kvHeads, count) : count;
    if (count % kv !== 0) throw this.#wrong(kvHeads!, `a divisor of ${heads} (${count})`);
    const given = headDim !== undefined && (this.json[headDim] ?? undefined) !== undefined;
    if (!given && (hiddenSize % count !== 0 || hiddenSize / count > MAX_HEAD_DIM)) {
      throw this.#wrong(hidden, `a multiple of ${heads} (${count}), at most ${MAX_HEAD_DIM} times that`);
    }
    const dim = given ? this.count(headDim, undefined, 1, MAX_HEAD_DIM) : hiddenSize / count;
    return { hiddenSize, heads: count, kvHeads: kv, headDim: dim };
  }

  #wrong(key: string, rule: string): ModelFormatError {
    return new ModelFormatError(
      `Cannot read config.json of ${this.#family} as ${key} must be ${rule}: current value is ${shown(this.json[key])}`,
    );
  }
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "unset";
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
