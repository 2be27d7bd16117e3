/**
 * Weights that know how they are packed: nothing that multiplies or looks up asks which kind it holds.
 *
 * @module
 */
import type { Epilogue } from "../ops/matmul.ts";
import type { Tensor } from "../tensor/mod.ts";

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
  /** `act(x · W + bias) + residual`; x [T, in] float32, result [T, out] float32. The bias is the layer's own. */
  forward(x: Tensor, epilogue?: Omit<Epilogue, "bias">): Tensor;
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
