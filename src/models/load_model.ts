/**
 * From a folder or a hub id to a model on the GPU.
 *
 * @module
 */
import { LimitError, NotSupportedError, throwIfAborted, ValueError } from "../errors.ts";
import { type Device, formatBytes, openDevice } from "../gpu/mod.ts";
import type { Progress } from "../progress.ts";
import type { QuantizationOptions } from "../quantization/method.ts";
import type { Quantization } from "../quantization/scheme.ts";
import type { Checkpoint } from "../weights/checkpoint.ts";
import { checkScales } from "../weights/check_scales.ts";
import type { GgufOption } from "../weights/gguf_files.ts";
import { WeightLoader } from "../weights/loader.ts";
import type { SafetensorsDtype } from "../weights/safetensors.ts";
import { type PlannedWeight, type WeightDtype, WeightPlan } from "../weights/source.ts";
import { type AttentionRequest, resolveAttention, warnAboutFlash } from "./attention_implementation.ts";
import type { ConfigJson } from "./config.ts";
import type { Family, FamilyConfig, Head, Task } from "./family.ts";
import { Model } from "./model.ts";
import { findModelFiles, type ModelFiles } from "./model_files.ts";
import { familyOf } from "./registry.ts";
import { warmUp } from "./warm_up.ts";

/** What {@linkcode planModel} takes. */
export interface PlanOptions extends QuantizationOptions, GgufOption {
  /** What matrices are kept as. Default "auto": the checkpoint's own dtype. */
  dtype?: WeightDtype | "auto";
  /** What the model is for. Default: what `architectures` of config.json says. */
  task?: Task;
  /** Branch, tag or commit on the hub. Default "main". */
  revision?: string;
  /** Told about downloads, loading and compilation. */
  onProgress?: (progress: Progress) => void;
  /** Stops the work. */
  signal?: AbortSignal;
}

/** What {@linkcode loadModel} takes. */
export interface LoadOptions extends PlanOptions, AttentionRequest {
  /** Where to load it. Default: a device of its own, closed with the model. */
  device?: Device;
  /**
   * Lengths of prompts whose kernels are compiled while the weights load, in order of first use; of a causal language
   * model those of greedy decode steps too. Default: none, kernels are compiled when they are first used.
   */
  warmUp?: readonly number[];
}

/** What is known of a model before its weights are read. */
export interface ModelPlan {
  /** The model's folder. */
  path: string;
  /** The parsed config.json. */
  json: ConfigJson;
  /** Its `model_type`. */
  modelType: string;
  /** What it is for. */
  task: Task;
  /** What matrices will be kept as. */
  dtype: WeightDtype;
  /** Each weight, with its shape and bytes. */
  weights: PlannedWeight[];
  /** Bytes of all weights on the GPU. */
  byteLength: number;
  /** Bytes on the GPU at most while they are loaded. */
  peakBytes: number;
  /** Bytes of keys and values of one token in a cache. */
  cacheBytesPerToken: number;
  /** Sizes of the model. */
  sizes: FamilyConfig;
}

const DTYPES: readonly WeightDtype[] = ["float32", "float16", "bfloat16"];
const STORED: Partial<Record<SafetensorsDtype, WeightDtype>> = { F32: "float32", F16: "float16", BF16: "bfloat16" };

interface Opened {
  plan: ModelPlan;
  family: Family;
  head?: Head<FamilyConfig, unknown>;
  files: ModelFiles;
  checkpoint: Checkpoint;
  quantization?: Quantization;
  readBytes: number;
}

/**
 * Loads a model from a folder of Hugging Face's layout, or from the hub.
 *
 * @param pathOrHubId a folder with config.json and safetensors, a GGUF file, or "owner/name"
 * @throws {NotSupportedError} if its `model_type`, or a value in config.json, is not supported
 * @throws {ModelFormatError} if a file is malformed, or tensors are missing, surplus or of wrong shapes
 * @throws {LimitError} if it does not fit the device's memory budget
 * @throws {AbortError} if `signal` fires
 *
 * @example
 * ```ts
 * import { generate, loadModel, loadTokenizer } from "@tensaur/tensaur";
 * using model = await loadModel("models/tensaur-tiny", { dtype: "float32" });
 * const tokenizer = await loadTokenizer("models/tensaur-tiny");
 * const { sequences } = await generate(model, tokenizer("Once upon a time"), { maxNewTokens: 8, doSample: false });
 * console.log(tokenizer.decode(sequences[0]!, { skipSpecialTokens: true }));
 * ```
 */
export async function loadModel(pathOrHubId: string, options: LoadOptions = {}): Promise<Model> {
  const opened = await open(pathOrHubId, options);
  using checkpoint = opened.checkpoint;
  const { plan, files, family, head, readBytes, quantization } = opened;
  await checkScales(checkpoint);
  const attnImplementation = resolveAttention(plan.json, options);
  if (attnImplementation === "flash_attention_2") warnAboutFlash(plan.json, plan.dtype, options.dtype !== undefined);
  const device = options.device ?? await openDevice();
  const { onProgress, signal } = options;
  try {
    checkFits(opened, device, options.device !== undefined);
    const settings = { dtype: plan.dtype, quantization, prefix: family.prefix, readBytes, onProgress, signal };
    using loader = new WeightLoader(device, checkpoint, settings);
    const source = files.source(loader);
    const weights = await family.weights(source, plan.sizes);
    const apply = await head?.load(source, plan.sizes, weights);
    using made = new DisposableStack();
    const model = made.use(
      new Model({
        device,
        json: plan.json,
        generationConfig: files.generationConfig,
        family,
        config: plan.sizes,
        weights,
        task: plan.task,
        perToken: head?.perToken ?? false,
        head: apply,
        dtype: plan.dtype,
        quantization: quantization && { method: quantization.method, bits: quantization.bits },
        quantizationConfig: quantization?.config,
        byteLength: plan.byteLength,
        attnImplementation,
        attnImplementationGiven: options.attnImplementation !== undefined,
        owned: loader.take(),
        ownsDevice: options.device === undefined,
        path: plan.path,
        ggufFile: files.ggufFile,
      }),
    );
    const { warmUp: lengths = [] } = options, loading = loader.load();
    await allDone([loading, warmUp(model, lengths, { signal, meanwhile: loading })]);
    await device.synchronize();
    if (lengths.length && await device.tuning.settle({ signal }) > 0) await warmUp(model, lengths, { signal });
    made.move(); // nothing failed: it is the caller's
    return model;
  } catch (error) {
    if (!options.device) device.close();
    throw error;
  }
}

/**
 * What loading a model would do: its weights, their shapes, dtypes and bytes. Reads config.json and the headers only.
 *
 * @throws as {@linkcode loadModel}
 */
export async function planModel(pathOrHubId: string, options: PlanOptions = {}): Promise<ModelPlan> {
  const { plan, checkpoint } = await open(pathOrHubId, options);
  checkpoint[Symbol.dispose]();
  return plan;
}

async function open(pathOrHubId: string, options: PlanOptions & { device?: Device }): Promise<Opened> {
  throwIfAborted(options.signal, "loading the model");
  const files = await findModelFiles(pathOrHubId, options);
  try {
    return await planFiles(files, options);
  } catch (error) {
    files[Symbol.dispose]();
    throw error;
  }
}

async function planFiles(files: ModelFiles, options: PlanOptions & { device?: Device }): Promise<Opened> {
  const { dir, json, quantization } = files;
  const family = familyOf(json);
  const sizes = family.config(json);
  const [task, head] = headOf(family, json, options.task);
  const checkpoint = await files.checkpoint();
  try {
    const dtype = dtypeOf(json, checkpoint, options.dtype);
    const limit = options.device?.limits.maxStorageBufferBindingSize;
    const plan = new WeightPlan(checkpoint, family.prefix, dtype, quantization, limit);
    const source = files.source(plan);
    const weights = await family.weights(source, sizes);
    await head?.load(source, sizes, weights);
    plan.check(architectureOf(json) ?? String(json.model_type), ignored(family, json, task));
    const { kvHeads, headDim, attention, states } = sizes;
    return {
      files,
      family,
      head,
      checkpoint,
      quantization,
      readBytes: plan.readBytes,
      plan: {
        path: dir,
        json,
        modelType: String(json.model_type),
        task,
        dtype,
        weights: plan.weights,
        byteLength: plan.byteLength,
        peakBytes: plan.peakBytes,
        cacheBytesPerToken: states ? 0 : 2 * attention.length * kvHeads * headDim * (dtype === "float32" ? 4 : 2),
        sizes,
      },
    };
  } catch (error) {
    checkpoint[Symbol.dispose]();
    throw error;
  }
}

/** A tied output layer is also in some files: it is the embedding. A base model needs none. */
function ignored(family: Family, json: ConfigJson, task: Task): readonly RegExp[] {
  const needed = task !== "base" && json.tie_word_embeddings === false;
  return needed ? family.ignore : [...family.ignore, /^lm_head\.weight$/];
}

function dtypeOf(json: ConfigJson, { tensors }: Checkpoint, dtype: PlanOptions["dtype"] = "auto"): WeightDtype {
  if (dtype !== "auto") {
    if (DTYPES.includes(dtype)) return dtype;
    throw new ValueError(
      `Cannot load the model as dtype must be auto, ${DTYPES.join(", ")}: current value is "${dtype}"`,
    );
  }
  const named = json.dtype ?? json.torch_dtype;
  const stored = tensors.values().map((t) => STORED[t.dtype]).find((name) => name !== undefined);
  return DTYPES.find((name) => name === named) ?? stored ?? "float32";
}

function architectureOf(json: ConfigJson): string | undefined {
  const [name] = Array.isArray(json.architectures) ? json.architectures : [];
  return typeof name === "string" ? name : undefined;
}

function headOf(family: Family, json: ConfigJson, task?: Task): [Task, Head<FamilyConfig, unknown>?] {
  const heads = Object.entries(family.heads);
  const supported = [...new Set([...heads.map(([, head]) => head.task), "base"])].join(", ");
  if (task !== undefined) {
    const head = heads.find(([, head]) => head.task === task)?.[1];
    if (head || task === "base") return [task, head];
    throw new NotSupportedError(
      `Cannot load a ${json.model_type} model as its task must be one of ${supported}: current value is "${task}"`,
    );
  }
  const architecture = architectureOf(json);
  const head = architecture && Object.hasOwn(family.heads, architecture) ? family.heads[architecture] : undefined;
  if (head) return [head.task, head];
  if (architecture === undefined || architecture.endsWith("Model")) return ["base"];
  throw new NotSupportedError(
    `Cannot load the model as its architecture must be one of ${heads.map(([name]) => name).join(", ")}: ` +
      `current value is "${architecture}"`,
    { hint: `Pass task: one of ${supported}.` },
  );
}

function checkFits(
  { plan: { path, weights, byteLength, peakBytes } }: Opened,
  device: Device,
  given: boolean,
): void {
  const most = device.limits.maxStorageBufferBindingSize;
  // weights are split: planned for this device they fit where they can, else the loader will see to it
  const wide = given && weights.find((w) => w.bufferBytes > most);
  if (wide) {
    throw new LimitError(
      `Cannot load ${path} as each weight must fit one binding of the GPU, at most ${formatBytes(most)}: ` +
        `${wide.name} takes ${formatBytes(wide.bufferBytes)}`,
      { hint: "Use a smaller dtype, or a device with a larger maxStorageBufferBindingSize." },
    );
  }
  const room = device.pool.budget - device.pool.stats.bytesInUse;
  if (peakBytes <= room) return;
  throw new LimitError(
    `Cannot load ${path} as its weights must fit the memory budget: they take ${formatBytes(byteLength)}, ` +
      `${formatBytes(peakBytes)} while they are loaded, and ${formatBytes(Math.max(0, room))} are free`,
    { hint: "Raise memoryBudget, or use a smaller dtype or model." },
  );
}

/** Waits for all, then throws the first error. */
async function allDone(promises: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(promises)) if (result.status === "rejected") throw result.reason;
}
