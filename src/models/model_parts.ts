import type { BitsAndBytesConfig } from "../quantization/bitsandbytes_config.ts";
import type { QuantizationState } from "../quantization/scheme.ts";
import type { Device } from "../gpu/mod.ts";
import type { WeightDtype } from "../weights/source.ts";
import type { AttnImplementation } from "./attention_implementation.ts";
import type { ConfigJson } from "./config.ts";
import type { ApplyHead, Family, FamilyConfig, Task } from "./family.ts";

/** What `loadModel` hands to a `Model`. */
export interface ModelParts {
  /** Where the weights lie. */
  device: Device;
  /** The parsed config.json. */
  json: ConfigJson;
  /** The parsed generation_config.json; empty where there is none. */
  generationConfig: ConfigJson;
  /** The family. */
  family: Family;
  /** Its config. */
  config: FamilyConfig;
  /** Its weights. */
  weights: unknown;
  /** What it is loaded for. */
  task: Task;
  /** Whether the head gives one row a token. */
  perToken: boolean;
  /** The head, where there is one. */
  head?: ApplyHead;
  /** What matrices are kept as. */
  dtype: WeightDtype;
  /** How it is quantized. */
  quantization?: QuantizationState;
  /** How it was quantized while it was loaded. */
  quantizationConfig?: BitsAndBytesConfig;
  /** Bytes of its weights on the GPU. */
  byteLength: number;
  /** How it attends. */
  attnImplementation: AttnImplementation;
  /** Whether somebody asked for that. */
  attnImplementationGiven: boolean;
  /** Everything that holds GPU memory. */
  owned: Disposable[];
  /** Whether the device is closed with the model. */
  ownsDevice: boolean;
  /** The model's folder. */
  path: string;
  /** The GGUF file in it, where the model is one. */
  ggufFile?: string;
}
