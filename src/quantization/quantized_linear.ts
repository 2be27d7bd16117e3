/**
 * The linear layer of every scheme: matrices of codes, multiplied as they are.
 *
 * @module
 */
import { add } from "../ops/binary.ts";
import { int8Matmul } from "../ops/int8_matmul.ts";
import { FEW } from "../ops/matmul_packed.ts";
import { type CodedMatrix, quantizedMatmul, quantizedRows } from "../ops/quantized_matmul.ts";
import { rmsNorm } from "../ops/rms_norm.ts";
import { empty, type Tensor, tidy } from "../tensor/mod.ts";
import { type Fusion, type Linear, unfused } from "./linear.ts";

/** What LLM.int8() needs beside its matrix. */
export interface Int8Settings {
  /** From which size on a number makes its column an outlier; 0: none does. */
  threshold: number;
  /** Of `int8Threshold`; the layer owns it. */
  params: Tensor;
}

/** A linear layer of matrices of codes, which it owns: each gives the columns that its `dims` name. */
export class QuantizedLinear implements Linear {
  /** Bytes on the GPU. */
  readonly byteLength: number;
  /** What quantizing changed, where it is known. */
  relativeError?: number;
  readonly #matrices: readonly CodedMatrix[];
  readonly #int8: Int8Settings | undefined;

  /** A layer of `matrices`; with `int8` if it is LLM.int8()'s. */
  constructor(
    /** How it is packed: "nf4", "int8", "gptq 4-bit", … */
    readonly scheme: string,
    /** Length of an input row. */
    readonly inFeatures: number,
    /** Length of an output row. */
    readonly outFeatures: number,
    matrices: readonly CodedMatrix[],
    int8?: Int8Settings,
  ) {
    this.#matrices = matrices;
    this.#int8 = int8;
    this.byteLength = matrices.reduce((sum, m) => sum + m.w.byteLength + m.groups.byteLength + m.dims.byteLength, 0);
  }

  /** The layer whose outputs are those of `layers`, one after the other; it owns what they owned. */
  static join(layers: readonly QuantizedLinear[]): QuantizedLinear {
    const [first, ...others] = layers as [QuantizedLinear, ...QuantizedLinear[]];
    const total = layers.reduce((sum, { outFeatures }) => sum + outFeatures, 0);
    for (const other of others) other.#int8?.params.dispose();
    const matrices = layers.flatMap((layer) => layer.matrices);
    return new QuantizedLinear(first.scheme, first.inFeatures, total, matrices, first.#int8);
  }

  /** The matrices of codes. */
  get matrices(): readonly CodedMatrix[] {
    return this.#matrices;
  }

  /** `act(norm(x) · W + bias) + residual`, gated or not. */
  forward(x: Tensor, fusion: Fusion = {}): Tensor {
    const { norm, gate, residual } = fusion, rows = x.size / this.inFeatures;
    if (norm && rows > FEW) {
      using h = rmsNorm(x, norm.weight, norm.eps);
      return this.forward(h, { ...fusion, norm: undefined });
    }
    const gates = this.#matrices.length === 1 && this.outFeatures % 8 === 0; // both halves are of one matrix
    if (gate && !gates) return unfused(x, { gate, residual }, (x) => this.#product(x, { norm }));
    return this.#product(x, fusion);
  }

  /** Columns of the matrix, one a token. */
  embed(tokens: Tensor): Tensor {
    // a token is in one of them
    return tidy(tokens.device, () => this.#matrices.map((matrix) => quantizedRows(tokens, matrix)).reduce(add));
  }

  #product(x: Tensor, fusion: Fusion): Tensor {
    const { gate, parts = 1 } = fusion, width = this.outFeatures / (gate ? 2 : parts), rows = x.shape.slice(0, -1);
    const y = empty(x.device, parts > 1 ? [parts, x.size / this.inFeatures, width] : [...rows, width]);
    if (this.#int8) int8Matmul(x, this.#matrices, this.#int8.params, this.#int8.threshold, y, fusion);
    else for (const matrix of this.#matrices) quantizedMatmul(x, matrix, y, fusion);
    return y;
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    for (const { w, groups, dims } of this.#matrices) for (const t of [w, groups, dims]) t.dispose();
    this.#int8?.params.dispose();
  }
}
