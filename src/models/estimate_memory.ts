/**
 * What a model will take, from its config.json alone.
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import type { BitsAndBytesConfig } from "../quantization/bitsandbytes_config.ts";
import { quantizationOf } from "../quantization/method.ts";
import type { Checkpoint } from "../weights/checkpoint.ts";
import { type WeightDtype, WeightPlan } from "../weights/source.ts";
import type { ConfigJson } from "./config.ts";
import { familyOf } from "./registry.ts";

/** What {@linkcode estimateMemory} takes. */
export interface EstimateOptions {
  /** What matrices are kept as. Default float16. */
  dtype?: WeightDtype;
  /** How layers are quantized. Default: not. */
  quantization?: BitsAndBytesConfig;
  /** Tokens of a sequence. Default: the positions that the model was made for. */
  contextLength?: number;
  /** Sequences at a time. Default 1. */
  batch?: number;
}

/** Bytes of GPU memory. */
export interface MemoryEstimate {
  /** Numbers of the model. */
  parameters: number;
  /** All of them in the bits that were asked for: what the documents call the size of a model. */
  weights: number;
  /** What they take when they are loaded: with scales, and with embeddings, norms and output layer as they stay. */
  loaded: number;
  /** The largest of them when it is loaded. */
  largest: number;
  /** Keys and values of all layers; 0 for encoders. */
  cache: number;
  /** Activations while a prompt runs, a chunk at a time. */
  working: number;
  /** `loaded`, `cache` and `working` together. */
  total: number;
}

const BYTES = { float32: 4, float16: 2, bfloat16: 2 } as const;
const CHUNK = 512; // tokens of a prompt that run at a time
const CACHE_STEP = 64; // a cache has room for a multiple of so many tokens
const SIZE_CLASS = 9 / 8; // the pool rounds up by 0 to 1/4

/**
 * Memory that a model needs, before any of it is downloaded.
 *
 * @param config a parsed config.json
 * @throws {NotSupportedError} if its `model_type` is not supported
 * @throws {ValueError} if `contextLength` or `batch` is no whole number above 0
 *
 * @example
 * ```ts
 * import { BitsAndBytesConfig, estimateMemory } from "@tensaur/tensaur";
 * const config = JSON.parse(await Deno.readTextFile("models/tensaur-tiny/config.json"));
 * const plain = await estimateMemory(config, { dtype: "float16" });
 * const quantization = new BitsAndBytesConfig({ loadIn8bit: true });
 * console.log(plain.weights / (await estimateMemory(config, { quantization })).weights); // 2
 * ```
 */
export async function estimateMemory(
  config: ConfigJson,
  { dtype = "float16", quantization, contextLength, batch = 1 }: EstimateOptions = {},
): Promise<MemoryEstimate> {
  const family = familyOf(config), sizes = family.config(config);
  const tokens = contextLength ?? sizes.maxPositionEmbeddings;
  for (const [name, value] of [["contextLength", tokens], ["batch", batch]] as const) {
    if (Number.isSafeInteger(value) && value > 0) continue;
    throw new ValueError(`Cannot estimate memory as ${name} must be a whole number above 0: current value is ${value}`);
  }
  if (!Object.hasOwn(BYTES, dtype)) {
    throw new ValueError(
      `Cannot estimate memory as dtype must be one of ${Object.keys(BYTES).join(", ")}: current value is "${dtype}"`,
    );
  }
  const method = quantizationOf(undefined, { quantizationConfig: quantization });
  const plan = new WeightPlan(NOTHING, family.prefix, dtype, method);
  const [name] = Array.isArray(config.architectures) ? config.architectures : [];
  const head = typeof name === "string" && Object.hasOwn(family.heads, name) ? family.heads[name] : undefined;
  await head?.load(plan, sizes, await family.weights(plan, sizes));
  const parameters = sum(plan.weights.map(({ shape, layer }) => {
    return shape.reduce((product, n) => product * n, 1) + (layer?.bias ? shape[0]! : 0);
  }));
  const { attention, kvHeads, headDim, vocabSize } = sizes, causal = attention.some((options) => options.causal);
  const places = batch * Math.ceil(tokens / CACHE_STEP) * CACHE_STEP;
  const cache = causal ? places * 2 * attention.length * kvHeads * headDim * BYTES[dtype] : 0;
  // a layer's input, its matrices' outputs and attention's: gates, which are never stored whole, make up for the others
  const outputs = sum(
    plan.weights.filter(({ name, shape }) => shape.length === 2 && /\.0\./.test(name)).map((w) => w.shape[0]!),
  );
  const working = 4 * SIZE_CLASS * outputs * Math.min(batch * tokens, CHUNK) + 4 * batch * vocabSize;
  const loaded = plan.byteLength;
  return {
    parameters,
    weights: parameters * (method ? method.bits / 8 : BYTES[dtype]),
    loaded,
    largest: Math.max(...plan.weights.map(({ byteLength }) => byteLength)),
    cache,
    working,
    total: loaded + cache + working,
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}

/** A checkpoint of no tensors: a plan over it only adds up. */
const NOTHING: Checkpoint = {
  tensors: new Map(),
  byteLength: 0,
  chunks: () => {
    throw new ValueError("Cannot read tensors as this is an estimate: there are none");
  },
  read: () => Promise.reject(new ValueError("Cannot read tensors as this is an estimate: there are none")),
  [Symbol.dispose]() {},
};
