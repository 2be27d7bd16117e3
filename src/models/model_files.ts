/**
 * A model's files, whatever their format: config, tensors, how they are quantized.
 *
 * @module
 */
import type { Progress } from "../progress.ts";
import { quantizationOf, type QuantizationOptions } from "../quantization/method.ts";
import type { Quantization } from "../quantization/scheme.ts";
import { warnOnce } from "../warn.ts";
import { type Checkpoint, openCheckpoint } from "../weights/checkpoint.ts";
import { exists, readJson } from "../weights/files.ts";
import { findGguf, type GgufOption } from "../weights/gguf_files.ts";
import { resolveModel } from "../weights/hub.ts";
import type { WeightDtype, WeightSource } from "../weights/source.ts";
import type { ConfigJson } from "./config.ts";
import { ggufModel, rowsFirst } from "./gguf_model.ts";

/** What {@linkcode findModelFiles} takes. */
export interface ModelFilesOptions extends QuantizationOptions, GgufOption {
  /** Branch, tag or commit on the hub. */
  revision?: string;
  /** What matrices are kept as; of a GGUF file anything but "auto" unpacks its blocks. */
  dtype?: WeightDtype | "auto";
  /** Told about downloads. */
  onProgress?: (progress: Progress) => void;
  /** Stops the work. */
  signal?: AbortSignal;
}

/** A model's files. */
export interface ModelFiles extends Disposable {
  /** The folder. */
  readonly dir: string;
  /** The GGUF file in it, where the model is one. */
  readonly ggufFile?: string;
  /** The parsed config.json, or what it would be. */
  readonly json: ConfigJson;
  /** The parsed generation_config.json. */
  readonly generationConfig: ConfigJson;
  /** How layers are quantized, or shall be. */
  readonly quantization: Quantization | undefined;
  /** Opens the tensors; they are closed by whoever asks. */
  checkpoint(): Promise<Checkpoint>;
  /** A source as the files have it, for a family to ask. */
  source(source: WeightSource): WeightSource;
}

/** Finds a model's files and reads its config. Dispose of them if `checkpoint` is not asked for. */
export async function findModelFiles(pathOrHubId: string, options: ModelFilesOptions): Promise<ModelFiles> {
  const { revision, onProgress, signal, ggufFile, dtype = "auto" } = options;
  const found = await findGguf(pathOrHubId, { revision, onProgress, signal, ggufFile });
  if (!found) return await folder((await resolveModel(pathOrHubId, { revision, onProgress, signal })).dir, options);
  using gguf = new DisposableStack();
  gguf.use(found.gguf);
  const asked = quantizationOf(undefined, options);
  const { json, checkpoint, quantization } = await ggufModel(found.gguf, dtype === "auto" && asked === undefined);
  const open = gguf.move();
  return {
    dir: found.dir,
    ggufFile: found.gguf.file.name,
    json,
    generationConfig: {},
    quantization: asked ?? quantization,
    checkpoint: () => Promise.resolve(checkpoint),
    source: rowsFirst,
    [Symbol.dispose]: () => open.dispose(),
  };
}

const CODE_KEYS = ["auto_map", "trust_remote_code", "_attn_implementation_internal"]; // code of the model's, in Python

async function folder(dir: string, options: ModelFilesOptions): Promise<ModelFiles> {
  const json = await readJson(dir, "config.json"), generation = "generation_config.json";
  for (const key of CODE_KEYS.filter((key) => Object.hasOwn(json, key))) {
    warnOnce("UserWarning", `${key} in config.json is ignored: no code that comes with a model is run`);
  }
  return {
    dir,
    json,
    generationConfig: await exists(dir, generation) ? await readJson(dir, generation) : {},
    quantization: quantizationOf(json.quantization_config, options),
    checkpoint: () => openCheckpoint(dir),
    source: (source) => source,
    [Symbol.dispose]() {},
  };
}
