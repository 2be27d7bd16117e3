/**
 * Models to folders that transformers and this library load again.
 *
 * @module
 */
import { basename } from "node:path";
import { NotSupportedError, throwIfAborted } from "../errors.ts";
import type { Progress } from "../progress.ts";
import type { BitsAndBytesConfig } from "../quantization/bitsandbytes_config.ts";
import { savedByBitsandbytes, type SavedTensor } from "../quantization/bnb_save.ts";
import type { Checkpoint } from "../weights/checkpoint.ts";
import { openInside } from "../weights/files.ts";
import { type TensorToSave, writeSafetensors } from "../weights/save.ts";
import type { TensorInfo } from "../weights/safetensors.ts";
import { resolveName, type WeightDtype } from "../weights/source.ts";
import { writeWhole } from "../weights/write_whole.ts";
import { checkMaySave } from "./better_transformer.ts";
import { familyOf } from "./registry.ts";
import { planModel } from "./load_model.ts";
import type { Model } from "./model.ts";
import { findModelFiles } from "./model_files.ts";
import { floatsOf, type WrittenTensor } from "./write_gguf.ts";

/** What {@linkcode saveModel} takes. */
export interface SaveOptions {
  /** Told of bytes that are done. */
  onProgress?: (progress: Progress) => void;
  /** Stops the work; nothing half-written is left. */
  signal?: AbortSignal;
}

/** What {@linkcode saveCheckpoint} takes. */
export interface SaveCheckpointOptions extends SaveOptions {
  /** What numbers are saved as. Default "auto": as they are. */
  dtype?: WeightDtype | "auto";
  /** How layers are quantized. */
  quantizationConfig?: BitsAndBytesConfig;
  /** Branch, tag or commit on the hub. */
  revision?: string;
}

/** What {@linkcode saveCheckpoint} did. */
export interface SavedCheckpoint {
  /** The folder. */
  path: string;
  /** Bytes of the tensors that it was made from. */
  bytesBefore: number;
  /** Bytes of its weights. */
  bytesAfter: number;
  /** Each matrix that was quantized, with what its numbers changed by. */
  tensors: WrittenTensor[];
}

const FLOATS = new Set(["F64", "F32", "F16", "BF16"]);
const COPIED = /^(tokenizer|tokenizer_config|special_tokens_map|generation_config)\.json$|^chat_template\.jinja$/;
const COPIED_BYTES = 2 ** 22; // at a time
const ENCODED = { float32: "F32", float16: "F16", bfloat16: "BF16" } as const;

/**
 * Saves `model` to the folder `dir`: config.json with its `quantization_config`, model.safetensors with bitsandbytes' keys
 * where it is quantized so, the tokenizer's files and generation_config.json.
 *
 * The weights are made again from the files that the model was loaded from, by the plain form of what its kernels did:
 * they have the same bits. Those files must still be there.
 *
 * A model of a GGUF file is saved as that file, under its name, which holds config and tokenizer too.
 *
 * @throws {NotSupportedError} if the model was loaded from a GGUF file into bitsandbytes' codes
 * @throws {ValueError} while the model is a BetterTransformer
 * @throws {AbortError} if `signal` fires
 *
 * @example
 * ```ts ignore
 * const quantizationConfig = new BitsAndBytesConfig({ loadIn4bit: true, bnb4bitQuantType: "nf4" });
 * using model = await loadModel("models/tensaur-tiny", { quantizationConfig });
 * await saveModel(model, "tensaur-tiny-nf4");
 * ```
 */
export async function saveModel(model: Model, dir: string, options: SaveOptions = {}): Promise<void> {
  checkMaySave(model);
  const { quantizationConfig } = model;
  if (model.ggufFile !== undefined) return await copyGguf(model, model.ggufFile, dir, options);
  const dtype = model.quantization && !quantizationConfig ? "auto" : model.dtype;
  await saveCheckpoint(model.path, dir, { ...options, dtype, quantizationConfig });
}

async function copyGguf({ path, quantizationConfig }: Model, name: string, dir: string, options: SaveOptions) {
  if (quantizationConfig) {
    throw new NotSupportedError(
      "Cannot save the model as its numbers must be those of its files: it was quantized from the GGUF file " + name,
      { hint: "Quantize the model that the file was made from." },
    );
  }
  using file = await openInside(path, name);
  const { onProgress, signal } = options, total = file.size;
  async function* parts() {
    for (let at = 0; at < total; at += COPIED_BYTES) {
      const bytes = await file.read(at, Math.min(COPIED_BYTES, total - at));
      onProgress?.({ phase: "save", label: name, loaded: at + bytes.length, total });
      yield bytes;
    }
  }
  await Deno.mkdir(dir, { recursive: true });
  await writeWhole(`${dir}/${basename(name)}`, parts(), signal);
}

/** Saves the model of `pathOrHubId` to the folder `dir`, quantized as asked. */
export async function saveCheckpoint(
  pathOrHubId: string,
  dir: string,
  { dtype = "auto", quantizationConfig, revision, onProgress, signal }: SaveCheckpointOptions,
): Promise<SavedCheckpoint> {
  const options = { dtype, quantizationConfig, revision, signal };
  const { weights, path, json, dtype: planned } = await planModel(pathOrHubId, options);
  if (json.quantization_config && quantizationConfig) {
    throw new NotSupportedError(
      "Cannot quantize the model as it must not be quantized yet: it has a quantization_config",
    );
  }
  const files = await findModelFiles(path, { signal });
  using checkpoint = await files.checkpoint();
  const { prefix } = familyOf(json), quantized = new Map<string, { conv1d: boolean }>();
  for (const { layer, scheme } of quantizationConfig ? weights : []) {
    if (!layer || scheme in ENCODED) continue;
    for (const name of layer.names) quantized.set(resolveName(checkpoint, prefix, `${name}.weight`), layer);
  }
  const job = new SaveJob(checkpoint, quantized, { dtype, quantizationConfig, onProgress, signal }, planned);
  await Deno.mkdir(dir, { recursive: true });
  const weightsPath = `${dir}/model.safetensors`;
  await writeSafetensors(weightsPath, job.tensors(), { format: "pt" });
  for await (const { name } of Deno.readDir(path)) {
    if (COPIED.test(name)) await writeWhole(`${dir}/${name}`, [await readFile(path, name)], signal);
  }
  const text = configText(new TextDecoder().decode(await readFile(path, "config.json")), dtype, quantizationConfig);
  await writeWhole(`${dir}/config.json`, [new TextEncoder().encode(text)], signal);
  const bytesAfter = (await Deno.stat(weightsPath)).size;
  return { path: dir, bytesBefore: checkpoint.byteLength, bytesAfter, tensors: job.written };
}

/**
 * config.json with what changes in it. Its text is kept but for that: Python tells 1.0 from 1, and a parsed number is both.
 */
function configText(text: string, dtype: WeightDtype | "auto", config: BitsAndBytesConfig | undefined): string {
  const dtypes = /("(?:torch_)?dtype"\s*:\s*)(?:"[^"]*"|null)/;
  const named = dtype === "auto" ? text : text.replace(dtypes, `$1"${dtype}"`);
  const added: Record<string, unknown> = dtype === "auto" || dtypes.test(text) ? {} : { dtype };
  if (config) added.quantization_config = config.toDict();
  if (Object.keys(added).length === 0) return named;
  const rest = JSON.stringify(added, null, 2).slice(1).replace(/("llm_int8_threshold": \d+)(?=,?\n)/, "$1.0");
  return `${named.trimEnd().slice(0, -1).trimEnd()},${rest}\n`;
}

async function readFile(root: string, name: string): Promise<Uint8Array> {
  using file = await openInside(root, name);
  return await file.read(0, file.size);
}

/** The tensors of a folder, made when their turn comes. */
class SaveJob {
  readonly written: WrittenTensor[] = [];
  #loaded = 0;

  constructor(
    readonly checkpoint: Checkpoint,
    readonly quantized: ReadonlyMap<string, { conv1d: boolean }>,
    readonly options: SaveCheckpointOptions,
    readonly dtype: WeightDtype,
  ) {}

  *tensors(): Generator<TensorToSave> {
    for (const info of this.checkpoint.tensors.values()) {
      const layer = this.quantized.get(info.name);
      if (layer) yield* this.#quantize(info, layer.conv1d);
      else yield { ...this.#kept(info) };
    }
  }

  #kept(info: TensorInfo): TensorToSave {
    const { dtype = "auto" } = this.options, { name, shape } = info;
    if (dtype === "auto" || !FLOATS.has(info.dtype) || ENCODED[dtype] === info.dtype) {
      return { name, shape, dtype: info.dtype, data: this.#chunks(info, (bytes) => bytes.slice()) };
    }
    return { name, shape, dtype: ENCODED[dtype], data: this.#numbers(info, dtype) };
  }

  async *#chunks(info: TensorInfo, make: (bytes: Uint8Array) => Uint8Array): AsyncGenerator<Uint8Array> {
    for await (const bytes of this.checkpoint.chunks(info.name, { maxBytes: 2 ** 22 })) {
      this.#count(info, bytes.length);
      yield make(bytes);
    }
  }

  async *#numbers(info: TensorInfo, dtype: WeightDtype): AsyncGenerator<Uint8Array> {
    const length = info.end - info.start;
    for (let at = 0; at < length; at += 2 ** 22) {
      const end = Math.min(length, at + 2 ** 22), x = await floatsOf(this.checkpoint, info, at, end);
      this.#count(info, end - at);
      yield encode(x, dtype);
    }
  }

  /** A weight's tensors as bitsandbytes saves them; all are made when the first is asked for. */
  *#quantize(info: TensorInfo, conv1d: boolean): Generator<TensorToSave> {
    const config = this.options.quantizationConfig!;
    const [rows = 0, cols = 0] = conv1d ? info.shape.toReversed() : info.shape;
    let made: Promise<Map<string, Uint8Array>> | undefined, left = 0;
    const make = async () => {
      const stored = await floatsOf(this.checkpoint, info, 0, info.end - info.start);
      const x = conv1d ? Float32Array.from(stored, (_, i) => stored[i % cols * rows + Math.floor(i / cols)]!) : stored;
      this.#count(info, info.end - info.start);
      const { tensors, numbers } = savedByBitsandbytes(info.name, x, [rows, cols], config, this.dtype);
      this.#note(info, x, numbers);
      return new Map(tensors.map(({ name, data }) => [name, data]));
    };
    const shapes: SavedTensor[] = savedByBitsandbytes(info.name, undefined, [rows, cols], config, this.dtype).tensors;
    left = shapes.length;
    const data = async function* (name: string) {
      const all = await (made ??= make());
      yield all.get(name)!;
      if (--left === 0) made = undefined;
    };
    for (const { name, shape, dtype } of shapes) yield { name, shape, dtype, data: data(name) };
  }

  #note({ name, shape }: TensorInfo, x: Float32Array, numbers: Float32Array): void {
    let error = 0, size = 0;
    for (let i = 0; i < x.length; i++) {
      error += (numbers[i]! - x[i]!) ** 2;
      size += x[i]! ** 2;
    }
    const config = this.options.quantizationConfig!;
    this.written.push({
      name: name.replace(/\.weight$/, ""),
      shape,
      scheme: config.loadIn8bit ? "int8" : config.bnb4bitQuantType,
      rmsError: Math.sqrt(error / Math.max(1, x.length)),
      relativeError: size === 0 ? 0 : Math.sqrt(error / size),
    });
  }

  #count({ name }: TensorInfo, bytes: number): void {
    const { onProgress, signal } = this.options;
    throwIfAborted(signal, "saving the model");
    this.#loaded += bytes;
    onProgress?.({ phase: "save", label: name, loaded: this.#loaded, total: this.checkpoint.byteLength });
  }
}

function encode(x: Float32Array, dtype: WeightDtype): Uint8Array {
  if (dtype === "float32") return new Uint8Array(x.slice().buffer);
  if (dtype === "float16") return new Uint8Array(Float16Array.from(x).buffer);
  const bits = new Uint32Array(x.slice().buffer);
  const rounded = Uint16Array.from(
    bits,
    (b) => (b & 0x7fffffff) > 0x7f800000 ? b >>> 16 | 64 : (b + 0x7fff + (b >>> 16 & 1)) >>> 16,
  );
  return new Uint8Array(rounded.buffer);
}
