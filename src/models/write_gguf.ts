/**
 * A checkpoint's tensors into a GGUF file.
 *
 * @module
 */
import { NotSupportedError, throwIfAborted } from "../errors.ts";
import type { Progress } from "../progress.ts";
import { BLOCK_FORMATS, dequantizeBlocks } from "../quantization/gguf_blocks.ts";
import { quantizeToBlocks, type WrittenBlock } from "../quantization/gguf_quantize.ts";
import { decode, type Dtype } from "../tensor/mod.ts";
import type { Checkpoint } from "../weights/checkpoint.ts";
import type { GgufType } from "../weights/gguf.ts";
import { rotaryRow } from "../weights/gguf_checkpoint.ts";
import { type GgufTensorToSave, writeGguf } from "../weights/gguf_write.ts";
import type { TensorInfo } from "../weights/safetensors.ts";
import { resolveName } from "../weights/source.ts";
import type { ConfigJson } from "./config.ts";
import { type MetadataEntries, modelMetadata, ropeFactors } from "./gguf_metadata.ts";
import { GGUF_ARCHITECTURES, ggufNames, type NamedTensor } from "./gguf_names.ts";
import type { Family } from "./family.ts";

/** What became of a tensor. */
export interface WrittenTensor {
  /** Its name in Hugging Face's checkpoints, without ".weight". */
  name: string;
  /** Its shape there. */
  shape: readonly number[];
  /** What it was written as: "q4_0", "nf4", … */
  scheme: string;
  /** Root mean square of what its numbers changed by. */
  rmsError: number;
  /** The same divided by the root mean square of its numbers. */
  relativeError: number;
}

/** What {@linkcode writeGgufModel} takes. */
export interface WriteGgufOptions {
  /** The type of matrices. */
  to: WrittenBlock | "F32";
  /** What the model is called. */
  name: string;
  /** The tokenizer's metadata. */
  tokenizer: MetadataEntries;
  /** Told of bytes read. */
  onProgress?: (progress: Progress) => void;
  /** Stops the work; nothing is left of it. */
  signal?: AbortSignal;
}

const DTYPES: Readonly<Record<string, Dtype>> = { F32: "float32", F16: "float16", BF16: "bfloat16" };
const PIECE = 2 ** 22; // numbers that are read at a time

/** A tensor to write, and where it comes from. */
interface Job extends NamedTensor {
  info: TensorInfo;
  type: GgufType;
  shape: number[];
}

/** Writes the model of `checkpoint` to the GGUF file `path`; returns its matrices with their errors. */
export async function writeGgufModel(
  path: string,
  { checkpoint, json, family }: { checkpoint: Checkpoint; json: ConfigJson; family: Family },
  { to, name, tokenizer, onProgress, signal }: WriteGgufOptions,
): Promise<WrittenTensor[]> {
  const { headDim, heads, kvHeads, attention } = family.config(json), modelType = String(json.model_type);
  if (!Object.hasOwn(GGUF_ARCHITECTURES, modelType)) {
    throw new NotSupportedError(
      `Cannot write GGUF as model_type must be one of ${Object.keys(GGUF_ARCHITECTURES).join(", ")}: ` +
        `current value is "${modelType}"`,
    );
  }
  const paired = modelType === "llama" || modelType === "mistral";
  const tied = Boolean(json.tie_word_embeddings ?? modelType === "gpt2");
  const jobs = ggufNames(modelType, attention.length).flatMap((named): Job[] => {
    const info = checkpoint.tensors.get(resolveName(checkpoint, family.prefix, named.name));
    return info && !(tied && named.name.startsWith("lm_head.")) ? [jobOf(named, info, to)] : [];
  });
  const written: WrittenTensor[] = [], progress = progressOf(jobs, onProgress);
  const factors = ropeFactors(json, headDim);
  const tensors = jobs.map((job): GgufTensorToSave => {
    const rows = paired && job.rotary ? (job.rotary === "query" ? heads : kvHeads) : undefined;
    const data = () => bytesOf(job, checkpoint, rows, { written, progress, signal });
    return { name: job.source, type: job.type, shape: job.shape, data };
  });
  if (factors) {
    const bytes = new Uint8Array(factors.buffer as ArrayBuffer);
    const data = async function* () {
      yield await Promise.resolve(bytes);
    };
    tensors.push({ name: "rope_freqs.weight", type: "F32", shape: [factors.length], data });
  }
  await writeGguf(path, [...modelMetadata(json, name, to, headDim), ...tokenizer], tensors, signal);
  return written;
}

/** Embeddings and the output layer are worth 8 bits; what is no whole number of blocks stays float16. */
function jobOf(named: NamedTensor, info: TensorInfo, to: WriteGgufOptions["to"]): Job {
  if (!(info.dtype in DTYPES) && info.dtype !== "F64") {
    throw new NotSupportedError(
      `Cannot quantize ${info.name} as it must be a float of 16, 32 or 64 bits: it is ${info.dtype}`,
      { hint: "Quantize the model that it was made from." },
    );
  }
  const shape = named.conv1d && info.shape.length === 2 ? info.shape.toReversed() : [...info.shape];
  if (shape.length < 2 || to === "F32") return { ...named, info, type: "F32", shape };
  const table = /^(token_embd|output)\./.test(named.source), width = shape.at(-1)!;
  const wanted: GgufType[] = named.source.startsWith("position_embd") ? ["F32"] : table ? ["Q8_0"] : [to, "Q8_0"];
  const fits = (type: GgufType) => !(type in BLOCK_FORMATS) || width % BLOCK_FORMATS[type as WrittenBlock].size === 0;
  return { ...named, info, type: wanted.find(fits) ?? "F16", shape };
}

function progressOf(jobs: readonly Job[], onProgress: WriteGgufOptions["onProgress"]) {
  const total = jobs.reduce((sum, { info }) => sum + info.end - info.start, 0);
  let loaded = 0;
  return (label: string, bytes: number) => onProgress?.({ phase: "save", label, loaded: loaded += bytes, total });
}

/** A tensor's bytes in the file, a piece of rows at a time. */
async function* bytesOf(
  { name, type, info, shape, conv1d }: Job,
  checkpoint: Checkpoint,
  heads: number | undefined,
  { written, progress, signal }: {
    written: WrittenTensor[];
    progress: (label: string, bytes: number) => void;
    signal: AbortSignal | undefined;
  },
): AsyncGenerator<Uint8Array> {
  const [rows = 1, cols = 1] = info.shape.length > 1 ? info.shape : [1, info.shape[0]];
  const turned = conv1d && info.shape.length === 2, whole = turned || heads !== undefined;
  const step = whole ? rows : Math.max(1, Math.floor(PIECE / cols)), line = (info.end - info.start) / rows;
  let error = 0, size = 0;
  for (let row = 0; row < rows; row += step) {
    throwIfAborted(signal, "quantizing the model");
    const count = Math.min(step, rows - row);
    let x = await floatsOf(checkpoint, info, row * line, (row + count) * line);
    if (turned) x = transposed(x, rows, cols);
    if (heads !== undefined) x = inPairs(x, info.shape[0]!, heads);
    const [bytes, numbers] = encode(type, x);
    for (let i = 0; i < x.length; i++) {
      error += (numbers[i]! - x[i]!) ** 2;
      size += x[i]! ** 2;
    }
    progress(name, count * line);
    yield bytes;
  }
  if (shape.length < 2) return;
  const rms = Math.sqrt(error / Math.max(1, rows * cols));
  written.push({
    name: name.replace(/\.weight$/, ""),
    shape: info.shape,
    scheme: type.toLowerCase(),
    rmsError: rms,
    relativeError: size === 0 ? 0 : Math.sqrt(error / size),
  });
}

/** Numbers of a checkpoint's tensor from byte `start` to `end`. */
export async function floatsOf(
  checkpoint: Checkpoint,
  { name, dtype }: TensorInfo,
  start: number,
  end: number,
): Promise<Float32Array> {
  for await (const chunk of checkpoint.chunks(name, { start, end, maxBytes: Math.max(1, end - start) })) {
    const { buffer } = chunk.slice();
    if (dtype === "F64") return new Float32Array(new Float64Array(buffer));
    return Float32Array.from(decode(buffer, DTYPES[dtype]!));
  }
  return new Float32Array();
}

/** Rows of each rotary head with their pairs side by side. */
function inPairs(x: Float32Array, rows: number, heads: number): Float32Array {
  const out = new Float32Array(x.length), width = x.length / rows, size = rows / heads;
  for (let row = 0; row < rows; row++) {
    out.set(x.subarray(row * width, (row + 1) * width), rotaryRow(row, size) * width);
  }
  return out;
}

function transposed(x: Float32Array, rows: number, cols: number): Float32Array {
  return Float32Array.from(x, (_, i) => x[i % rows * cols + Math.floor(i / rows)]!);
}

/** The bytes of some numbers, and what they stand for. */
function encode(type: GgufType, x: Float32Array): [Uint8Array, ArrayLike<number>] {
  if (type === "F32") return [new Uint8Array(x.buffer, x.byteOffset, x.byteLength), x];
  if (type === "F16") {
    const halves = Float16Array.from(x);
    return [new Uint8Array(halves.buffer), halves];
  }
  const bytes = quantizeToBlocks(type as WrittenBlock, x), numbers = new Float32Array(x.length);
  dequantizeBlocks(BLOCK_FORMATS[type as WrittenBlock], bytes, numbers);
  return [bytes, numbers];
}
