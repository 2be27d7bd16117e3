/**
 * What a model family asks its weights from, and the plan that answers it before anything is read: names, shapes and
 * dtypes are checked against the checkpoint, bytes are added up, and only then is GPU memory taken.
 *
 * @module
 */
import { ModelFormatError, NotSupportedError } from "../errors.ts";
import { sizeClass } from "../gpu/pool.ts";
import { embeddingBytes, linearBytes, vectorBytes } from "../quantization/bytes.ts";
import type { Embedding, Linear } from "../quantization/mod.ts";
import { type LayerShape, type Lookup, outFeatures, type Quantization, type Scheme } from "../quantization/scheme.ts";
import { type Dtype, elements, type Shape, type Tensor } from "../tensor/mod.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { TensorInfo } from "./safetensors.ts";
import { faultOf, type Part } from "./tensor_fault.ts";

/** Dtypes that weights can be kept in. */
export type WeightDtype = Extract<Dtype, "float32" | "float16" | "bfloat16">;

/** How a linear layer lies in the checkpoint. */
export interface LinearOptions {
  /** Whether it has a bias, `NAME.bias`; of several names each may. Default false. */
  bias?: boolean | readonly boolean[];
  /** The weight is [in, out], as GPT-2's Conv1D keeps it, instead of [out, in]. */
  conv1d?: boolean;
  /** The weight is a convolution's, [out, in / window, window]: what `unfold` makes is multiplied by it. */
  window?: number;
}

/** How a vector is read. */
export interface VectorOptions {
  /** Added to each number, as Gemma's norms want 1. */
  plus?: number;
}

/** Hands out weights by the names they have in the checkpoint. */
export interface WeightSource {
  /** Whether the checkpoint has this tensor. */
  has(name: string): boolean;
  /** A vector as float32, a norm's weight or a bias, or a small tensor of the shape that it has in the checkpoint. */
  vector(name: string, length: number | Shape, options?: VectorOptions): Promise<Tensor>;
  /** Numbers that follow from the config, whose tensor lives as long as the weights. */
  constant(name: string, data: Float32Array | Uint32Array): Promise<Tensor>;
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
  /** The embedding table `NAME.weight` [skip + rows, width], whose first `skip` rows nothing names. */
  embedding(name: string, rows: number, width: number, options?: { skip?: number }): Promise<Embedding>;
}

/** One weight of a model, as planned. */
export interface PlannedWeight {
  /** Its name or names in the checkpoint, without ".weight". */
  name: string;
  /** Its shape there; [out, in] for a linear layer. */
  shape: Shape;
  /** Dtypes in the checkpoint. */
  stored: string;
  /** How it will be packed: "float32", "nf4", "gptq 4-bit", … */
  scheme: string;
  /** What it is, where it is quantized. */
  layer?: LayerShape;
  /** Whether it is an embedding table, whose rows are gathered and never multiplied. */
  table?: boolean;
  /** Bytes that it will take on the GPU. */
  byteLength: number;
  /** Bytes of its largest buffer there. */
  bufferBytes: number;
}

/** Bytes that a loader reads and uploads at a time, or one row of a tensor where that is longer. */
export const CHUNK: number = 2 * 2 ** 20;

/** How many rows of a tensor a loader reads at a time, a multiple of `multiple` if not all, and the bytes of one. */
export function pieceOf(
  { shape: [rows = 0], start, end }: Pick<TensorInfo, "shape" | "start" | "end">,
  multiple = 1,
): { rows: number; line: number } {
  const line = (end - start) / Math.max(1, rows);
  return { rows: Math.min(rows, multiple * Math.max(1, Math.floor(CHUNK / line / multiple))), line };
}

/** Looks up tensors of a checkpoint by the names that a family writes. */
export function lookupIn(checkpoint: Checkpoint, prefix: string): Lookup {
  return (name) => {
    const info = checkpoint.tensors.get(resolveName(checkpoint, prefix, name));
    return info && { dtype: info.dtype, shape: info.shape, byteLength: info.end - info.start };
  };
}

/** A layer as schemes take it. */
export function layerShape(
  names: string | readonly string[],
  inputs: number,
  outputs: number | readonly number[],
  { bias = false, conv1d = false }: LinearOptions = {},
): LayerShape {
  return { names: [names].flat(), inputs, outputs: [outputs].flat(), bias: bias !== false, conv1d };
}

/** Whether the i-th name of a layer has a bias. */
export function hasBias(bias: LinearOptions["bias"], i: number): boolean {
  return typeof bias === "object" ? bias[i]! : bias === true;
}

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
  readonly #quantization: Quantization | undefined;
  readonly #limit: number;
  readonly #lookup: Lookup;
  readonly #used = new Set<string>();
  readonly #matrices: Shape[] = [];
  #readBytes = 0;
  #pieceBytes = 0;
  #loadingBytes = 0;
  readonly #wrong: string[] = [];

  /**
   * A plan over `checkpoint` for weights kept as `dtype`, or as `quantization` says.
   *
   * @param limit bytes that a buffer may have to be bound: weights of more are split
   */
  constructor(
    checkpoint: Checkpoint,
    prefix: string,
    dtype: WeightDtype,
    quantization?: Quantization,
    limit: number = Infinity,
  ) {
    this.#limit = limit;
    this.#quantization = quantization;
    this.#lookup = lookupIn(checkpoint, prefix);
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
    return this.byteLength + sizeClass(this.#pieceBytes) + sizeClass(20) + this.#loadingBytes;
  }

  /** As {@linkcode WeightPlan.peakBytes} of a checkpoint that isn't there, whose numbers have so many bytes. */
  peakBytesOf(stored: number): number {
    const pieces = this.#matrices.map((shape) => pieceOf({ shape, start: 0, end: stored * elements(shape) }));
    const piece = Math.max(0, ...pieces.map(({ rows, line }) => rows * line));
    return this.peakBytes - sizeClass(this.#pieceBytes) + sizeClass(piece);
  }

  /** Whether the checkpoint has this tensor. */
  has(name: string): boolean {
    return this.#checkpoint.tensors.has(resolveName(this.#checkpoint, this.#prefix, name));
  }

  /** Plans a vector. */
  vector(name: string, length: number | Shape): Promise<Tensor> {
    const shape = typeof length === "number" ? [length] : length;
    this.#plan(name, [[name, shape]], vectorBytes(elements(shape)), undefined, shape, "float32");
    return Promise.resolve(undefined as unknown as Tensor); // a family only puts it into its tree
  }

  /** Plans what is in no file. */
  constant(name: string, { length }: Float32Array | Uint32Array): Promise<Tensor> {
    const byteLength = vectorBytes(length);
    this.weights.push({ name, shape: [length], stored: "", scheme: "float32", byteLength, bufferBytes: byteLength });
    return Promise.resolve(undefined as unknown as Tensor);
  }

  /** Plans a linear layer. */
  linear(
    names: string | readonly string[],
    inputs: number,
    outputs: number | readonly number[],
    { bias = false, conv1d = false, window }: LinearOptions = {},
  ): Promise<Linear> {
    const layer = layerShape(names, inputs, outputs, { bias, conv1d });
    const scheme = quantizes(window, bias) ? this.#quantization?.schemeOf(layer, this.#lookup) : undefined;
    if (scheme) return this.#quantized(layer, scheme);
    const list = [names].flat(), outs = [outputs].flat();
    const parts = list.flatMap((name, i): Part[] => [
      [`${name}.weight`, weightShape(inputs, outs[i]!, { conv1d, window })],
      ...hasBias(bias, i) ? [[`${name}.bias`, [outs[i]!]] as Part] : [],
    ]);
    const outFeatures = outs.reduce((sum, n) => sum + n, 0);
    const { byteLength, bufferBytes } = linearBytes(inputs, outFeatures, this.#dtype, layer.bias, this.#limit);
    this.#plan(list.join(" + "), parts, byteLength, bufferBytes, [outFeatures, inputs]);
    return Promise.resolve({ inFeatures: inputs, outFeatures, byteLength, scheme: this.#dtype, ...standIn });
  }

  #quantized(layer: LayerShape, scheme: Scheme): Promise<Linear> {
    const { names, inputs, outputs, bias } = layer, total = outFeatures(layer);
    const parts: Part[] = scheme.expects(layer, this.#lookup).map((
      { name, shape, dtypes },
    ) => [name, shape, dtypes ?? []]);
    if (bias) parts.push(...names.map((name, i): Part => [`${name}.bias`, [outputs[i]!]]));
    const { byteLength, bufferBytes, loadingBytes } = scheme.bytes(layer, this.#lookup, this.#limit);
    this.#loadingBytes = Math.max(this.#loadingBytes, loadingBytes);
    this.#plan(names.join(" + "), parts, byteLength, bufferBytes, [total, inputs], scheme.name);
    this.weights.at(-1)!.layer = layer;
    return Promise.resolve({ inFeatures: inputs, outFeatures: total, byteLength, scheme: scheme.name, ...standIn });
  }

  /** Plans an embedding table. */
  embedding(name: string, rows: number, width: number, { skip = 0 } = {}): Promise<Embedding> {
    rows += skip;
    const { byteLength, bufferBytes } = embeddingBytes(rows, width, this.#dtype, this.#limit);
    this.#plan(name, [[`${name}.weight`, [rows, width]]], byteLength, bufferBytes, [rows, width]);
    this.weights.at(-1)!.table = true;
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
    parts: readonly Part[],
    byteLength: number,
    bufferBytes = byteLength,
    shape = parts[0]![1] as Shape,
    scheme: string = parts[0]![1] === shape && shape.length === 1 ? "float32" : this.#dtype,
  ): void {
    const stored = new Set<string>();
    for (const [part, want, dtypes] of parts) {
      const actual = resolveName(this.#checkpoint, this.#prefix, part);
      const info = this.#checkpoint.tensors.get(actual);
      this.#used.add(actual);
      if (typeof want !== "number" && want.length > 1) this.#matrices.push(want);
      const fault = faultOf(part, want, info, dtypes);
      if (fault) this.#wrong.push(fault);
      if (!info) continue;
      stored.add(info.dtype);
      this.#readBytes += info.end - info.start;
      if (info.shape.length > 1) this.#pieceBytes = Math.max(this.#pieceBytes, pieceOf(info).rows * pieceOf(info).line);
    }
    this.weights.push({ name, shape, stored: [...stored].join(", "), scheme, byteLength, bufferBytes });
  }
}

/** Whether a scheme may take a layer: convolutions and layers with some of their biases stay dense. */
export function quantizes(window: number | undefined, bias: LinearOptions["bias"]): boolean {
  return window === undefined && typeof bias !== "object";
}

function weightShape(inputs: number, outputs: number, { conv1d, window }: LinearOptions): Shape {
  if (window !== undefined) return [outputs, inputs / window, window];
  return conv1d ? [inputs, outputs] : [outputs, inputs];
}

const unusable = (): never => {
  throw new NotSupportedError("Cannot run a model as its weights must be loaded: this is only a plan of them");
};
const standIn = { forward: unusable, embed: unusable, [Symbol.dispose]() {} };
