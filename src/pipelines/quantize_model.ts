/**
 * A model to a smaller one on the disk: GGUF, or safetensors as bitsandbytes saves them.
 *
 * @module
 */
import { basename } from "node:path";
import { NotSupportedError, ValueError } from "../errors.ts";
import { findModelFiles } from "../models/model_files.ts";
import { familyOf } from "../models/registry.ts";
import { saveCheckpoint } from "../models/save_model.ts";
import { writeGgufModel, type WrittenTensor } from "../models/write_gguf.ts";
import type { Progress } from "../progress.ts";
import { BitsAndBytesConfig } from "../quantization/mod.ts";
import { tokenizerMetadata } from "../tokenizer/gguf_metadata.ts";
import { exists, openInside, readJson } from "../weights/files.ts";

export type { WrittenTensor };

/** What {@linkcode quantizeModel} can make. */
export const QUANTIZED_FORMATS = ["q4_0", "q8_0", "q4_k", "nf4", "int8"] as const;

/** One of {@linkcode QUANTIZED_FORMATS}: the first three are GGUF. */
export type QuantizedFormat = typeof QUANTIZED_FORMATS[number];

/** What {@linkcode quantizeModel} takes. */
export interface QuantizeOptions {
  /** What to make of the matrices. */
  to: QuantizedFormat;
  /** Where to: a file for GGUF, else a folder. */
  out: string;
  /** Branch, tag or commit on the hub. */
  revision?: string;
  /** Told about downloads and of bytes that are done. */
  onProgress?: (progress: Progress) => void;
  /** Stops the work; nothing half-written is left. */
  signal?: AbortSignal;
}

/** What {@linkcode quantizeModel} did. */
export interface QuantizedModel {
  /** The file or the folder. */
  path: string;
  /** Bytes of the tensors that it was made from. */
  bytesBefore: number;
  /** Bytes of what was made. */
  bytesAfter: number;
  /** Each matrix, with what its numbers changed by. */
  tensors: WrittenTensor[];
}

/** The names that Python and GGUF give the formats. */
const BLOCKS = { q4_0: "Q4_0", q8_0: "Q8_0", q4_k: "Q4_K" } as const;
const MAX_TOKENIZER_BYTES = 128 * 2 ** 20;

/**
 * Quantizes a model of float weights and writes it.
 *
 * GGUF files hold config, tokenizer and chat template too; their embeddings and output layer have 8 bits. Folders get the
 * files of the tokenizer as they are.
 *
 * @param pathOrHubId a folder with config.json and safetensors, or "owner/name"
 * @throws {ValueError} if `to` is no known format
 * @throws {NotSupportedError} if GGUF cannot say what the model is, or the model is quantized already
 * @throws {AbortError} if `signal` fires
 *
 * @example
 * ```ts ignore
 * const { bytesBefore, bytesAfter } = await quantizeModel("models/tensaur-tiny", { to: "q8_0", out: "tiny.gguf" });
 * ```
 */
export async function quantizeModel(pathOrHubId: string, options: QuantizeOptions): Promise<QuantizedModel> {
  const { to, out, onProgress, signal, revision } = options;
  if (!QUANTIZED_FORMATS.includes(to)) {
    throw new ValueError(
      `Cannot quantize the model as \`to\` must be one of ${QUANTIZED_FORMATS.join(", ")}: current value is "${to}"`,
    );
  }
  if (/\.gguf$/i.test(pathOrHubId)) {
    throw new NotSupportedError(`Cannot quantize ${pathOrHubId} as it must be of safetensors: it is a GGUF file`, {
      hint: "Quantize the model that it was made from.",
    });
  }
  if (to === "nf4" || to === "int8") {
    const quantizationConfig = new BitsAndBytesConfig(
      to === "int8" ? { loadIn8bit: true } : { loadIn4bit: true, bnb4bitQuantType: "nf4" },
    );
    return await saveCheckpoint(pathOrHubId, out, { quantizationConfig, revision, onProgress, signal });
  }
  const files = await findModelFiles(pathOrHubId, { revision, onProgress, signal });
  using checkpoint = await files.checkpoint();
  const { dir, json } = files, family = familyOf(json);
  const optional = async (name: string) => await exists(dir, name) ? await readJson(dir, name) : undefined;
  const tokenizer = tokenizerMetadata(await readJson(dir, "tokenizer.json", { maxBytes: MAX_TOKENIZER_BYTES }), {
    config: await optional("tokenizer_config.json"),
    chatTemplate: await templateOf(dir),
    vocabSize: family.config(json).vocabSize,
    model: { ...json, ...files.generationConfig },
  });
  const name = basename(pathOrHubId);
  const tensors = await writeGgufModel(out, { checkpoint, json, family }, {
    ...{ to: BLOCKS[to], name, tokenizer, onProgress, signal },
  });
  return { path: out, bytesBefore: checkpoint.byteLength, bytesAfter: (await Deno.stat(out)).size, tensors };
}

async function templateOf(dir: string): Promise<string | undefined> {
  if (!await exists(dir, "chat_template.jinja")) return undefined;
  using file = await openInside(dir, "chat_template.jinja");
  return new TextDecoder().decode(await file.read(0, file.size));
}
