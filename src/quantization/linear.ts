/**
 * Weights that know how they are packed: nothing that multiplies or looks up asks which kind it holds.
 *
 * @module
 */
import { add } from "../ops/binary.ts";
import { gatedActivation } from "../ops/gated_activation.ts";
import type { Epilogue, Fusion } from "../ops/matmul_packed.ts";
import { concatRows } from "../ops/rows.ts";
import { sliceColumns } from "../ops/slice_columns.ts";
import { rmsNorm } from "../ops/rms_norm.ts";
import { type Tensor, tidy } from "../tensor/mod.ts";

export type { Fusion };

/** A weight matrix that knows how it is packed, so it multiplies. */
export interface Linear extends Disposable {
  /** Length of an input row. */
  readonly inFeatures: number;
  /** Length of an output row. */
  readonly outFeatures: number;
  /** Bytes on the GPU, bias included. */
  readonly byteLength: number;
  /** How it is packed: "float32", "float16", "bfloat16", … */
  readonly scheme: string;
  /**
   * Root mean square of what quantizing changed its weights by, over that of the weights: of a sample of them, where they
   * were quantized while they were loaded. Undefined where what they were is not known.
   */
  relativeError?: number;
  /**
   * `act(norm(x) · W + bias) + residual`, or `act(gate) * up + residual` of the two halves of the product with a gate.
   * The bias is the layer's own.
   *
   * An implementation must do all that `fusion` names and may do it in any number of kernels: what its own kernels do not
   * know, {@linkcode unfused} does around them. Decoding gains by one kernel for all of it where x has few rows.
   *
   * @param x [T, in] float32, not changed
   * @returns [T, out] float32; [T, out / 2] with a gate, [parts, T, out / parts] with parts
   */
  forward(x: Tensor, fusion?: Fusion): Tensor;
  /** Rows of the matrix for a tied embedding: tokens [T] uint32, result [T, in] float32. */
  embed(tokens: Tensor): Tensor;
}

/** A table of embeddings that knows how it is packed. */
export interface Embedding extends Disposable {
  /** Number of rows. */
  readonly numEmbeddings: number;
  /** Length of a row. */
  readonly embeddingDim: number;
  /** Bytes on the GPU. */
  readonly byteLength: number;
  /** How it is packed. */
  readonly scheme: string;
  /** tokens [T] uint32, result [T, embeddingDim] float32. */
  forward(tokens: Tensor): Tensor;
}

/** The embedding that shares its matrix with the output layer `head`, which stays the owner. */
export function tiedEmbedding(head: Linear): Embedding {
  return {
    numEmbeddings: head.outFeatures,
    embeddingDim: head.inFeatures,
    byteLength: 0,
    scheme: `${head.scheme}, tied`,
    forward: (tokens) => head.embed(tokens),
    [Symbol.dispose]() {},
  };
}

/**
 * A {@linkcode Linear.forward} for kernels that know an epilogue at most: the norm is an op before `product`, and the gate
 * an op after it; activation and residual pass to `product` where there is no gate.
 *
 * @param product `act(x · W + bias) + residual`
 */
export function unfused(
  x: Tensor,
  { norm, gate, parts = 1, activation, residual }: Fusion,
  product: (x: Tensor, epilogue: Omit<Epilogue, "bias">) => Tensor,
): Tensor {
  return tidy(x.device, () => {
    const h = norm ? rmsNorm(x, norm.weight, norm.eps) : x;
    if (parts > 1) return split(product(h, { activation }), parts, residual);
    if (!gate) return product(h, { activation, residual });
    const y = gatedActivation(product(h, {}), gate);
    return residual ? add(y, residual) : y;
  });
}

function split(y: Tensor, parts: number, residual: Tensor | undefined): Tensor {
  const width = y.shape.at(-1)! / parts;
  const columns = Array.from({ length: parts }, (_, i) => sliceColumns(y, i * width, (i + 1) * width));
  const blocks = concatRows(columns).reshape([parts, -1, width]);
  return residual ? add(blocks, residual) : blocks;
}
