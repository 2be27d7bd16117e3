/**
 * What a model will take, from its config.json alone.
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import { sizeClass } from "../gpu/pool.ts";
import { unpackedBytes } from "../ops/quantized_matmul.ts";
import type { BitsAndBytesConfig } from "../quantization/bitsandbytes_config.ts";
import { quantizationOf } from "../quantization/method.ts";
import { outFeatures } from "../quantization/scheme.ts";
import { elements } from "../tensor/mod.ts";
import type { Checkpoint } from "../weights/checkpoint.ts";
import type { TensorInfo } from "../weights/safetensors.ts";
import { type PlannedWeight, type WeightDtype, WeightPlan } from "../weights/source.ts";
import type { ConfigJson } from "./config.ts";
import type { FamilyConfig } from "./family.ts";
import { familyOf } from "./registry.ts";
import { ropeTableShape } from "./rope_table.ts";

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
  /** What is taken at most while they are loaded: `loaded` and the piece of a matrix that is being packed. */
  loading: number;
  /** Keys and values of all layers; 0 for encoders. */
  cache: number;
  /** Activations while a prompt runs, a chunk at a time, and the rotary table. */
  working: number;
  /** What is taken at most: `loaded`, `cache` and `working` together, or `loading` where that is more. */
  total: number;
}

const BYTES = { float32: 4, float16: 2, bfloat16: 2 } as const;
const CHUNK = 512; // tokens of a prompt that run at a time
const GATED = /\bgate_proj\b|\bwi_0\b/; // whose two halves become one output
const CACHE_STEP = 64; // a cache has room for a multiple of so many tokens

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
  const { attention, kvHeads, headDim, vocabSize } = sizes;
  const causal = attention.some((options) => options.causal);
  const places = batch * Math.ceil(tokens / CACHE_STEP) * CACHE_STEP;
  const cache = causal ? places * 2 * attention.length * kvHeads * headDim * BYTES[dtype] : 0;
  const rope = family.rope?.(sizes);
  const table = rope ? 4 * elements(ropeTableShape(rope, tokens)) : 0;
  const rows = Math.min(batch * tokens, CHUNK), logits = 4 * batch * vocabSize;
  const working = layerBytes(plan.weights, sizes, rows) + unpacked(plan.weights, rows) + logits + table;
  const loaded = plan.byteLength, loading = plan.peakBytesOf(BYTES[storedDtype(config) ?? dtype]);
  return {
    parameters,
    weights: parameters * (method ? method.bits / 8 : BYTES[dtype]),
    loaded,
    largest: Math.max(...plan.weights.map(({ byteLength }) => byteLength)),
    loading,
    cache,
    working,
    total: Math.max(loading, loaded + cache + working),
  };
}

/** Activations of the first layer for `rows` tokens. */
function layerBytes(
  weights: readonly PlannedWeight[],
  { hiddenSize, heads, headDim, states, attention }: FamilyConfig,
  rows: number,
): number {
  const first = weights.filter(({ name }) => /\.0\./.test(name));
  const matrices = first.filter(({ name, shape }) => shape.length === 2 && !name.endsWith(".A_log"));
  const outputs = matrices.map(({ name, shape: [out = 0] }) => GATED.test(name) ? out / 2 : out);
  const vectors = first.filter(({ shape }) => shape.length === 1 && shape[0] === hiddenSize);
  const norms = vectors.filter(({ name }) => name.endsWith(".weight"));
  const biased = norms.some(({ name }) => vectors.some((other) => other.name === name.replace(/weight$/, "bias")));
  const apart = biased ? norms.length : Math.max(0, norms.length - 2); // RMS norms are part of the products that follow
  const inner = states?.intermediateSize ?? heads * headDim; // of what attention or a scan gives, and of what it takes:
  const given = states || !attention.some(({ causal }) => causal) ? 2 : 1; // with a cache queries are gone by the end
  const widths = [...outputs, ...Array<number>(given).fill(inner), ...Array<number>(1 + apart).fill(hiddenSize)];
  return sum(widths.map((width) => sizeClass(4 * width * rows)));
}

/** Numbers that a CPU unpacks of a quantized matrix at a time, before it multiplies many rows by them. */
function unpacked(weights: readonly PlannedWeight[], rows: number): number {
  const layers = weights.flatMap(({ layer }) => layer ?? []);
  return Math.max(0, ...layers.map((layer) => unpackedBytes(rows, layer.inputs, outFeatures(layer))));
}

/** The dtype that config.json says its tensors have. */
function storedDtype(config: ConfigJson): WeightDtype | undefined {
  const named = config.dtype ?? config.torch_dtype;
  return typeof named === "string" && Object.hasOwn(BYTES, named) ? named as WeightDtype : undefined;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}

/** A checkpoint of no tensors: a plan over it only adds up. */
const NOTHING: Checkpoint = {
  tensors: new class extends Map<string, TensorInfo> {
    override has = () => true; // what some checkpoints leave out is counted
  }(),
  byteLength: 0,
  chunks: () => {
    throw new ValueError("Cannot read tensors as this is an estimate: there are none");
  },
  read: () => Promise.reject(new ValueError("Cannot read tensors as this is an estimate: there are none")),
  [Symbol.dispose]() {},
};
