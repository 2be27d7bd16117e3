/**
 * What a model family asks its weights from, and the plan that answers it before anything is read: names, shapes and
 * dtypes are checked against the checkpoint, bytes are added up, and only then is GPU memory taken.
 *
 * @module
 */
import { ModelFormatError, NotSupportedError } from "../errors.ts";
import { sizeClass } from "../gpu/pool.ts";
import { EMBEDDING_EXTRA_BYTES, linearExtraBytes, matrixBytes, vectorBytes } from "../quantization/bytes.ts";
import type { Embedding, Linear } from "../quantization/mod.ts";
import { type Dtype, formatShape, type Shape, type Tensor } from "../tensor/mod.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { TensorInfo } from "./safetensors.ts";

/** Dtypes that weights can be kept in. */
export type WeightDtype = Extract<Dtype, "float32" | "float16" | "bfloat16">;

/** How a linear layer lies in the checkpoint. */
export interface LinearOptions {
  /** Whether it has a bias: `NAME.bias`. Default false. */
  bias?: boolean;
  /** The weight is [in, out], as GPT-2's Conv1D keeps it, instead of [out, in]. */
  conv1d?: boolean;
}

/** Hands out weights by the names they have in the checkpoint. */
export interface WeightSource {
  /** Whether the checkpoint has this tensor. */
  has(name: string): boolean;
  /** A vector as float32: a norm's weight, a bias. */
  vector(name: string, length: number): Promise<Tensor>;
  /**
   * The linear layer whose tensors are `NAME.weight` and `NAME.bias`; of several names, one layer with their outputs
   * side by side.
   */
  linear(
    names: string | readonly string[],
    inputs: number,
    outputs: number | readonly number[],
    options?: LinearOptions,
  ): Promise<Linear>;
  /** The embedding table `NAME.weight` [rows, width]. */
  embedding(name: string, rows: number, width: number): Promise<Embedding>;
}

/** One weight of a model, as planned. */
export interface PlannedWeight {
  /** Its name or names in the checkpoint, without ".weight". */
  name: string;
  /** Its shape there; [out, in] for a linear layer. */
  shape: Shape;
  /** Dtypes in the checkpoint. */
  stored: string;
  /** Bytes that it will take on the GPU. */
  byteLength: number;
  /** Bytes of its largest buffer there. */
  bufferBytes: number;
}

/** Bytes that a loader reads and uploads at a time, or one row of a tensor where that is longer. */
export const CHUNK: number = 2 * 2 ** 20;

/** How many rows of a tensor a loader reads at a time, and the bytes of one. */
export function pieceOf({ shape: [rows = 0], start, end }: TensorInfo): { rows: number; line: number } {
  const line = (end - start) / Math.max(1, rows);
  return { rows: Math.min(rows, Math.max(1, Math.floor(CHUNK / line))), line };
}

const FLOATS = new Set(["F64", "F32", "F16", "BF16"]);

/** Tensor names as a family writes them and as a checkpoint has them: the base model's prefix may be missing there. */
export function resolveName(checkpoint: Checkpoint, prefix: string, name: string): string {
  if (checkpoint.tensors.has(name)) return name;
  const short = name.startsWith(prefix) ? name.slice(prefix.length) : prefix + name;
  return checkpoint.tensors.has(short) ? short : name;
}

/** Answers a family with stand-ins, and remembers what it asked for. */
export class WeightPlan implements WeightSource {
  /** What was asked for, in order. */
  readonly weights: PlannedWeight[] = [];
  readonly #checkpoint: Checkpoint;
  readonly #prefix: string;
  readonly #dtype: WeightDtype;
  readonly #used = new Set<string>();
  #readBytes = 0;
  #pieceBytes = 0;
  readonly #wrong: string[] = [];

  /** A plan over `checkpoint` for weights kept as `dtype`. */
  constructor(checkpoint: Checkpoint, prefix: string, dtype: WeightDtype) {
    this.#checkpoint = checkpoint;
    this.#prefix = prefix;
    this.#dtype = dtype;
  }

  /** Bytes that the weights will take on the GPU. */
  get byteLength(): number {
    return this.weights.reduce((sum, w) => sum + w.byteLength, 0);
  }

  /** Bytes that will be read from the files. */
  get readBytes(): number {
    return this.#readBytes;
  }

  /** Bytes on the GPU while the weights are loaded: they and the piece that is being packed. */
  get peakBytes(): number {
    return this.byteLength + sizeClass(this.#pieceBytes) + sizeClass(20);
  }

  /** Whether the checkpoint has this tensor. */
  has(name: string): boolean {
    return this.#checkpoint.tensors.has(resolveName(this.#checkpoint, this.#prefix, name));
  }

  /** Plans a vector. */
  vector(name: string, length: number): Promise<Tensor> {
    this.#plan(name, [[name, [length]]], vectorBytes(length));
    return Promise.resolve(undefined as unknown as Tensor); // a family only puts it into its tree
  }

  /** Plans a linear layer. */
  linear(
    names: string | readonly string[],
    inputs: number,
    outputs: number | readonly number[],
    { bias = false, conv1d = false }: LinearOptions = {},
  ): Promise<Linear> {
    const list = [names].flat(), outs = [outputs].flat();
    const parts = list.flatMap((name, i): [string, Shape][] => [
      [`${name}.weight`, conv1d ? [inputs, outs[i]!] : [outs[i]!, inputs]],
      ...bias ? [[`${name}.bias`, [outs[i]!]] as [string, Shape]] : [],
    ]);
    const outFeatures = outs.reduce((sum, n) => sum + n, 0);
    const matrix = matrixBytes(inputs, outFeatures, this.#dtype),
      byteLength = matrix + linearExtraBytes(outFeatures, bias);
    this.#plan(list.join(" + "), parts, byteLength, matrix, [outFeatures, inputs]);
    return Promise.resolve({ inFeatures: inputs, outFeatures, byteLength, scheme: this.#dtype, ...standIn });
  }

  /** Plans an embedding table. */
  embedding(name: string, rows: number, width: number): Promise<Embedding> {
    const matrix = matrixBytes(rows, width, this.#dtype), byteLength = matrix + EMBEDDING_EXTRA_BYTES;
    this.#plan(name, [[`${name}.weight`, [rows, width]]], byteLength, matrix, [rows, width]);
    return Promise.resolve({ numEmbeddings: rows, embeddingDim: width, byteLength, scheme: this.#dtype, ...standIn });
  }

  /**
   * Ends the plan: everything asked for must be there in its shape, and nothing else but what `ignore` names.
   *
   * @throws {ModelFormatError} naming every tensor that is missing, surplus or of the wrong shape
   */
  check(architecture: string, ignore: readonly RegExp[]): void {
    const surplus = [...this.#checkpoint.tensors.keys()].filter((name) =>
      !this.#used.has(name) && !ignore.some((pattern) => pattern.test(name))
    );
    const faults = [...this.#wrong, ...surplus.map((name) => `${name} is there but has no use`)];
    if (faults.length === 0) return;
    const more = faults.length > 12 ? `\n  … and ${faults.length - 12} more` : "";
    throw new ModelFormatError(
      `Cannot load the weights as ${architecture} must find exactly its own tensors:\n  ${
        faults.slice(0, 12).join("\n  ")
      }${more}`,
      { hint: "config.json and the safetensors files must belong together." },
    );
  }

  #plan(
    name: string,
    parts: readonly [string, Shape][],
    byteLength: number,
    bufferBytes = byteLength,
    shape = parts[0]![1],
  ): void {
    const stored = new Set<string>();
    for (const [part, want] of parts) {
      const actual = resolveName(this.#checkpoint, this.#prefix, part);
      const info = this.#checkpoint.tensors.get(actual);
      this.#used.add(actual);
      const fault = faultOf(part, want, info);
      if (fault) this.#wrong.push(fault);
      if (!info) continue;
      stored.add(info.dtype);
      this.#readBytes += info.end - info.start;
      if (want.length > 1) this.#pieceBytes = Math.max(this.#pieceBytes, pieceOf(info).rows * pieceOf(info).line);
    }
    this.weights.push({ name, shape, stored: [...stored].join(", "), byteLength, bufferBytes });
  }
}

function faultOf(name: string, want: Shape, info: TensorInfo | undefined): string | undefined {
  if (!info) return `${name} ${formatShape(want)} is missing`;
  if (info.shape.length !== want.length || !info.shape.every((n, i) => n === want[i])) {
    return `${name} must be ${formatShape(want)}: it is ${formatShape(info.shape)}`;
  }
  if (!FLOATS.has(info.dtype)) return `${name} must be a float of 16, 32 or 64 bits: it is ${info.dtype}`;
}

const unusable = (): never => {
  throw new NotSupportedError("Cannot run a model as its weights must be loaded: this is only a plan of them");
};
const standIn = { forward: unusable, embed: unusable, [Symbol.dispose]() {} };
