/**
 * The linear layer of every scheme: matrices of codes, multiplied as they are.
 *
 * @module
 */
import { add } from "../ops/binary.ts";
import { int8Matmul } from "../ops/int8_matmul.ts";
import type { Activation } from "../ops/matmul_packed.ts";
import { type CodedMatrix, quantizedMatmul, quantizedRows } from "../ops/quantized_matmul.ts";
import { gelu, relu, silu, tanh } from "../ops/unary.ts";
import { empty, type Tensor, tidy } from "../tensor/mod.ts";
import { type Fusion, type Linear, unfused } from "./linear.ts";

const ACTIVATIONS: Readonly<Record<Activation, (x: Tensor) => Tensor>> = {
  identity: (x) => x,
  silu,
  gelu,
  gelu_tanh: (x) => gelu(x, { approximate: "tanh" }),
  relu,
  tanh,
};

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
  readonly #matrices: readonly CodedMatrix[];
  readonly #int8: Int8Settings | undefined;

  /** A layer of `matrices`; one, with `int8`, if it is LLM.int8()'s. */
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

  /** The matrices of codes. */
  get matrices(): readonly CodedMatrix[] {
    return this.#matrices;
  }

  /** `act(norm(x) · W + bias) + residual`, gated or not. */
  forward(x: Tensor, fusion: Fusion = {}): Tensor {
    return unfused(x, fusion, (x, { activation = "identity", residual }) => {
      if (activation === "identity") return this.#product(x, residual);
      const y = ACTIVATIONS[activation](this.#product(x));
      return residual ? add(y, residual) : y;
    });
  }

  /** Columns of the matrix, one a token. */
  embed(tokens: Tensor): Tensor {
    // a token is in one of them
    return tidy(tokens.device, () => this.#matrices.map((matrix) => quantizedRows(tokens, matrix)).reduce(add));
  }

  #product(x: Tensor, residual?: Tensor): Tensor {
    const [first] = this.#matrices;
    if (this.#int8) return int8Matmul(x, first!, this.#int8.params, this.#int8.threshold, residual);
    const y = empty(x.device, [...x.shape.slice(0, -1), this.outFeatures]);
    for (const matrix of this.#matrices) quantizedMatmul(x, matrix, y, residual);
    return y;
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    for (const { w, groups, dims } of this.#matrices) for (const t of [w, groups, dims]) t.dispose();
    this.#int8?.params.dispose();
  }
}
