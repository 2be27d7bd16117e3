/**
 * Options of bitsandbytes' quantization, as transformers names them.
 *
 * @module
 */
import { ValueError } from "../errors.ts";

/** Dtypes that a 4-bit product may be asked to compute in. */
export type ComputeDtype = "float32" | "float16" | "bfloat16";

/** Dtypes as which packed 4-bit codes may be stored. */
export type QuantStorage = "float16" | "float32" | "int8" | "uint8" | "float64" | "bfloat16";

/** What {@linkcode BitsAndBytesConfig} takes. */
export interface BitsAndBytesOptions {
  /** Quantize linear layers to 8 bits: LLM.int8(). Default false. */
  loadIn8bit?: boolean;
  /** Quantize linear layers to 4 bits. Default false. */
  loadIn4bit?: boolean;
  /** Size from which on a number makes its column of the input an outlier; 0: none does. Default 6. */
  llmInt8Threshold?: number;
  /** Modules that stay as they are, instead of the default: the output layer, tied weights and heads. */
  llmInt8SkipModules?: readonly string[] | null;
  /** Accepted for checkpoints that have it: every layer is on the GPU here. Default false. */
  llmInt8EnableFp32CpuOffload?: boolean;
  /** Accepted for checkpoints that have it: it is for training. Default false. */
  llmInt8HasFp16Weight?: boolean;
  /** Accepted for checkpoints that have it: sums are float32 here whatever it is. Default float32. */
  bnb4bitComputeDtype?: ComputeDtype;
  /** Code book of 4 bits. Default fp4, as in bitsandbytes. */
  bnb4bitQuantType?: "nf4" | "fp4";
  /** Quantize the blocks' absmax to 8 bits as well. Default false. */
  bnb4bitUseDoubleQuant?: boolean;
  /** As what packed codes are stored in a checkpoint. Default uint8. */
  bnb4bitQuantStorage?: QuantStorage;
  /** Numbers that share an absmax: a power of 2 from 32 to 4096. Default 64, which is all that bitsandbytes writes. */
  bnb4bitBlocksize?: number;
}

type Settings = Required<BitsAndBytesOptions>;

const DEFAULTS: Readonly<Settings> = {
  loadIn8bit: false,
  loadIn4bit: false,
  llmInt8Threshold: 6,
  llmInt8SkipModules: null,
  llmInt8EnableFp32CpuOffload: false,
  llmInt8HasFp16Weight: false,
  bnb4bitComputeDtype: "float32",
  bnb4bitQuantType: "fp4",
  bnb4bitUseDoubleQuant: false,
  bnb4bitQuantStorage: "uint8",
  bnb4bitBlocksize: 64,
};

/** The keys of config.json. */
const KEYS: Readonly<Record<keyof Settings, string>> = {
  loadIn8bit: "load_in_8bit",
  loadIn4bit: "load_in_4bit",
  llmInt8Threshold: "llm_int8_threshold",
  llmInt8SkipModules: "llm_int8_skip_modules",
  llmInt8EnableFp32CpuOffload: "llm_int8_enable_fp32_cpu_offload",
  llmInt8HasFp16Weight: "llm_int8_has_fp16_weight",
  bnb4bitComputeDtype: "bnb_4bit_compute_dtype",
  bnb4bitQuantType: "bnb_4bit_quant_type",
  bnb4bitUseDoubleQuant: "bnb_4bit_use_double_quant",
  bnb4bitQuantStorage: "bnb_4bit_quant_storage",
  bnb4bitBlocksize: "bnb_4bit_blocksize",
};

const NAMES = Object.keys(DEFAULTS) as (keyof Settings)[];

/** What each option must be, and whether it is. */
const RULES: Readonly<Record<keyof Settings, readonly [rule: string, holds: (value: unknown) => boolean]>> = {
  loadIn8bit: flag(),
  loadIn4bit: flag(),
  llmInt8Threshold: ["a float from 0", (v) => typeof v === "number" && v >= 0],
  llmInt8SkipModules: [
    "a list of strings",
    (v) => v === null || Array.isArray(v) && v.every((name) => typeof name === "string"),
  ],
  llmInt8EnableFp32CpuOffload: flag(),
  llmInt8HasFp16Weight: flag(),
  bnb4bitComputeDtype: oneOf("float32", "float16", "bfloat16"),
  bnb4bitQuantType: oneOf("fp4", "nf4"),
  bnb4bitUseDoubleQuant: flag(),
  bnb4bitQuantStorage: oneOf("float16", "float32", "int8", "uint8", "float64", "bfloat16"),
  bnb4bitBlocksize: [
    "one of 32, 64, 128, 256, 512, 1024, 2048, 4096",
    (v) => typeof v === "number" && v >= 32 && v <= 4096 && Number.isInteger(Math.log2(v)),
  ],
};

function flag(): readonly [string, (value: unknown) => boolean] {
  return ["a boolean", (v) => typeof v === "boolean"];
}

function oneOf(...names: string[]): readonly [string, (value: unknown) => boolean] {
  return [`one of ${names.join(", ")}`, (v) => names.includes(v as string)];
}

/**
 * How bitsandbytes quantizes a model: to 8 bits (LLM.int8()) or to 4 (NF4, FP4), while it is loaded.
 *
 * @throws {ValueError} if an option has a value that it cannot have, or both 8 and 4 bits are asked for
 *
 * @example
 * ```ts
 * import { BitsAndBytesConfig, loadModel } from "@tensaur/tensaur";
 * const quantizationConfig = new BitsAndBytesConfig({ loadIn4bit: true, bnb4bitQuantType: "nf4" });
 * using model = await loadModel("models/tensaur-tiny", { quantizationConfig });
 * console.log(quantizationConfig.quantizationMethod()); // nf4
 * ```
 */
export class BitsAndBytesConfig implements Required<BitsAndBytesOptions> {
  /** Quantize linear layers to 8 bits. */
  readonly loadIn8bit!: boolean;
  /** Quantize linear layers to 4 bits. */
  readonly loadIn4bit!: boolean;
  /** Size from which on a number makes its column an outlier. */
  readonly llmInt8Threshold!: number;
  /** Modules that stay as they are; null: the default ones. */
  readonly llmInt8SkipModules!: readonly string[] | null;
  /** See {@linkcode BitsAndBytesOptions}. */
  readonly llmInt8EnableFp32CpuOffload!: boolean;
  /** See {@linkcode BitsAndBytesOptions}. */
  readonly llmInt8HasFp16Weight!: boolean;
  /** See {@linkcode BitsAndBytesOptions}. */
  readonly bnb4bitComputeDtype!: ComputeDtype;
  /** Code book of 4 bits. */
  readonly bnb4bitQuantType!: "nf4" | "fp4";
  /** Quantize absmax as well. */
  readonly bnb4bitUseDoubleQuant!: boolean;
  /** As what packed codes are stored. */
  readonly bnb4bitQuantStorage!: QuantStorage;
  /** Numbers that share an absmax. */
  readonly bnb4bitBlocksize!: number;

  /** A config of `options`, the others at their defaults. */
  constructor(options: BitsAndBytesOptions = {}) {
    for (const name of Object.keys(options)) {
      if (!NAMES.includes(name as keyof Settings)) {
        throw new ValueError(
          `Cannot make a BitsAndBytesConfig as its options must be among ${NAMES.join(", ")}: one is "${name}"`,
        );
      }
    }
    for (const name of NAMES) {
      const value = options[name] ?? DEFAULTS[name], [rule, holds] = RULES[name];
      if (!holds(value)) {
        throw new ValueError(
          `Cannot make a BitsAndBytesConfig as ${name} must be ${rule}: current value is ${JSON.stringify(value)}`,
        );
      }
      Object.assign(this, { [name]: value });
    }
    if (this.loadIn4bit && this.loadIn8bit) {
      throw new ValueError(
        "Cannot make a BitsAndBytesConfig as only one of loadIn4bit and loadIn8bit can be used at the same time: both are true",
      );
    }
  }

  /** A config of the `quantization_config` of a config.json. Keys that it does not know are passed over. */
  static fromDict(dict: Readonly<Record<string, unknown>>): BitsAndBytesConfig {
    const found = NAMES.map((name) => [name, dict[KEYS[name]]] as const).filter(([, value]) => value != null);
    return new BitsAndBytesConfig(
      Object.fromEntries(found.map(([name, v]) => [name, typeof v === "string" ? v.replace(/^torch\./, "") : v])),
    );
  }

  /** "llm_int8", "fp4" or "nf4"; undefined where nothing is to be quantized. */
  quantizationMethod(): "llm_int8" | "nf4" | "fp4" | undefined {
    if (this.loadIn8bit) return "llm_int8";
    return this.loadIn4bit ? this.bnb4bitQuantType : undefined;
  }

  /** Whether anything is to be quantized. */
  isQuantizable(): boolean {
    return this.loadIn8bit || this.loadIn4bit;
  }

  /** The `quantization_config` of a config.json. */
  toDict(): Record<string, unknown> {
    const all = NAMES.filter((name) => name !== "bnb4bitBlocksize" || this[name] !== DEFAULTS[name]);
    return { quant_method: "bitsandbytes", ...Object.fromEntries(all.map((name) => [KEYS[name], this[name]])) };
  }

  /** As {@linkcode toDict}, but only what differs from the defaults. */
  toDiffDict(): Record<string, unknown> {
    const changed = NAMES.filter((name) => JSON.stringify(this[name]) !== JSON.stringify(DEFAULTS[name]));
    return Object.fromEntries(changed.map((name) => [KEYS[name], this[name]]));
  }
}
