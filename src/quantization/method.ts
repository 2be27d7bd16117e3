/**
 * Which scheme each layer of a model has: from the checkpoint's `quantization_config`, or from what the caller asks for.
 *
 * @module
 */
import { ModelFormatError, NotSupportedError, ValueError } from "../errors.ts";
import type { CodeBits } from "../ops/quantized_matmul.ts";
import { warn, warnOnce } from "../warn.ts";
import { BitsAndBytesConfig } from "./bitsandbytes_config.ts";
import { quantizeTo4bit, stored4bit } from "./bnb4.ts";
import { awq, gptq } from "./gptq.ts";
import { quantizeToInt8, storedInt8 } from "./int8.ts";
import { measured } from "./measured.ts";
import { split } from "./split.ts";
import type { LayerShape, Lookup, Quantization, Scheme } from "./scheme.ts";

/** Options of loading that say how to quantize. */
export interface QuantizationOptions {
  /** How to quantize the model while it is loaded. Default: not, or as the checkpoint is. */
  quantizationConfig?: BitsAndBytesConfig;
  /** Short for `new BitsAndBytesConfig({ loadIn8bit: true })`; deprecated, as in transformers. */
  loadIn8bit?: boolean;
  /** Short for `new BitsAndBytesConfig({ loadIn4bit: true })`; deprecated, as in transformers. */
  loadIn4bit?: boolean;
}

type Dict = Readonly<Record<string, unknown>>;

const METHODS: Readonly<Record<string, (dict: Dict) => Quantization>> = {
  bitsandbytes: (dict) => storedBitsAndBytes(BitsAndBytesConfig.fromDict(dict)),
  gptq: storedGptq,
  awq: storedAwq,
};

/**
 * How a model is quantized; undefined where it is not.
 *
 * @param stored `quantization_config` of its config.json
 * @throws {NotSupportedError} if its method, or a setting of it, is not supported
 * @throws {ValueError} if the options contradict each other, or the checkpoint
 */
export function quantizationOf(stored: unknown, options: QuantizationOptions): Quantization | undefined {
  const asked = askedFor(options);
  if (stored === undefined || stored === null) return asked?.isQuantizable() ? quantizing(asked) : undefined;
  if (typeof stored !== "object") {
    throw new ModelFormatError(
      `Cannot load the model as quantization_config in config.json must be an object: current value is ${stored}`,
    );
  }
  const dict = stored as Dict, method = methodOf(dict);
  const make = Object.hasOwn(METHODS, method) ? METHODS[method] : undefined;
  if (!make) {
    throw new NotSupportedError(
      `Cannot load the model as its quant_method must be one of ${Object.keys(METHODS).join(", ")}: ` +
        `current value is "${method}"`,
      { hint: "Load the model that it was made from, with quantizationConfig." },
    );
  }
  if (asked && method !== "bitsandbytes") {
    throw new ValueError(
      `Cannot quantize the model as it must not be quantized yet: its quant_method is "${method}"`,
      { hint: "Leave out quantizationConfig, loadIn8bit and loadIn4bit." },
    );
  }
  if (asked) {
    warn(
      "UserWarning",
      "You passed quantizationConfig, but the model already has a quantization_config; the model's own is used.",
    );
  }
  return make(dict);
}

function methodOf(dict: Dict): string {
  if (dict.quant_method !== undefined) return String(dict.quant_method);
  return dict.load_in_8bit || dict.load_in_4bit ? "bitsandbytes" : "undefined";
}

function askedFor({ quantizationConfig, loadIn8bit, loadIn4bit }: QuantizationOptions): BitsAndBytesConfig | undefined {
  if (quantizationConfig !== undefined && !(quantizationConfig instanceof BitsAndBytesConfig)) {
    throw new ValueError(
      `Cannot load the model as quantizationConfig must be a BitsAndBytesConfig: current value is ${
        JSON.stringify(quantizationConfig)
      }`,
    );
  }
  if (!loadIn8bit && !loadIn4bit) return quantizationConfig;
  if (quantizationConfig) {
    throw new ValueError(
      "Cannot load the model as loadIn8bit and loadIn4bit must not come with quantizationConfig: both came",
      { hint: "Put them into the BitsAndBytesConfig." },
    );
  }
  warnOnce(
    "FutureWarning",
    "The `loadIn4bit` and `loadIn8bit` arguments are deprecated and will be removed in the future versions. " +
      "Please, pass a `BitsAndBytesConfig` object in `quantizationConfig` argument instead.",
  );
  return new BitsAndBytesConfig({ loadIn8bit, loadIn4bit });
}

/** Names whose matrix is also the embedding: they stay as they are, whatever the list of skipped modules says. */
const EMBEDDING = /(^|\.)(embed_tokens|wte|word_embeddings|embed_in|shared|embeddings)$/;
/** Output layers and heads: what stays as it is by default. */
const HEAD = /(^|\.)(lm_head|embed_out|cls\.predictions\.decoder|classifier|qa_outputs|score)(\.|$)/;

function skipped({ names }: LayerShape, list: readonly string[] | null): boolean {
  return names.some((name) => {
    if (EMBEDDING.test(name)) return true;
    if (list === null) return HEAD.test(name);
    return list.some((module) => `.${name}.`.includes(`.${module}.`));
  });
}

function quantizing(config: BitsAndBytesConfig): Quantization {
  const { bnb4bitQuantType: kind, bnb4bitBlocksize: block, bnb4bitUseDoubleQuant: doubleQuant } = config;
  const scheme = measured(
    split(config.loadIn8bit ? quantizeToInt8(config.llmInt8Threshold) : quantizeTo4bit({ kind, block, doubleQuant })),
    config,
  );
  return {
    config,
    method: "bitsandbytes",
    bits: config.loadIn8bit ? 8 : 4,
    schemeOf: (layer) => skipped(layer, config.llmInt8SkipModules) ? undefined : scheme,
  };
}

function storedBitsAndBytes(config: BitsAndBytesConfig): Quantization {
  const int8 = storedInt8(config.llmInt8Threshold);
  return {
    method: "bitsandbytes",
    bits: config.loadIn8bit ? 8 : 4,
    schemeOf: (layer, lookup) =>
      storedAs(layer, (name) => lookup(`${name}.SCB`), int8) ??
        storedAs(layer, (name) => lookup(`${name}.weight.absmax`), stored4bit),
  };
}

function storedAs(layer: LayerShape, find: Lookup, scheme: Scheme): Scheme | undefined {
  const found = layer.names.filter((name) => find(name) !== undefined);
  if (found.length === 0) return undefined;
  if (found.length === layer.names.length) return split(scheme);
  throw new NotSupportedError(
    `Cannot load ${layer.names.join(" + ")} as all or none of them must be quantized: only ${found.join(", ")} are`,
  );
}

function storedGptq(dict: Dict): Quantization {
  const bits = setting(dict, "bits", (v) => [2, 3, 4, 8].includes(v as number), "2, 3, 4 or 8") as CodeBits;
  const format = dict.checkpoint_format ?? "gptq";
  if (format !== "gptq" && format !== "gptq_v2") {
    throw new NotSupportedError(
      `Cannot load the model as its checkpoint_format must be gptq or gptq_v2: current value is "${format}"`,
    );
  }
  const scheme = gptq({ bits, groupSize: groupSize(dict), v2: format === "gptq_v2" });
  return grouped("gptq", bits, scheme);
}

function storedAwq(dict: Dict): Quantization {
  setting(dict, "bits", (v) => v === 4, "4", "w_bit");
  setting({ version: "gemm", ...dict }, "version", (v) => String(v).toLowerCase() === "gemm", "gemm");
  return grouped("awq", 4, awq({ bits: 4, groupSize: groupSize(dict) }));
}

function grouped(method: string, bits: number, scheme: Scheme): Quantization {
  return { method, bits, schemeOf: (layer, lookup) => storedAs(layer, (name) => lookup(`${name}.qweight`), scheme) };
}

function groupSize(dict: Dict): number {
  const holds = (v: unknown) => Number.isInteger(v) && (v === -1 || v as number > 0);
  const size = setting(
    { group_size: 128, ...dict },
    "group_size",
    holds,
    "-1 or a positive whole number",
    "q_group_size",
  );
  return size === -1 ? Infinity : size as number;
}

function setting(dict: Dict, key: string, holds: (value: unknown) => boolean, rule: string, old = key): unknown {
  const value = dict[old] ?? dict[key];
  if (holds(value)) return value;
  throw new NotSupportedError(
    `Cannot load the model as ${key} of its quantization_config must be ${rule}: current value is ${
      JSON.stringify(value)
    }`,
  );
}
