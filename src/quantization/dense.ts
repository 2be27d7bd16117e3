/**
 * Dense weights: float32, float16 or bfloat16, kept as `matmul` reads them.
 *
 * @module
 */
import { embeddingPacked } from "../ops/embedding_packed.ts";
import { matmulPacked, type PackedMatrix, packedMatrix } from "../ops/matmul_packed.ts";
import { keep, type Tensor, tensor } from "../tensor/mod.ts";
import type { Embedding, Fusion, Linear } from "./linear.ts";

/** A linear layer of a packed dense matrix, which it owns. */
export class DenseLinear implements Linear {
  readonly #matrix: PackedMatrix;
  readonly #embedDims: Tensor;

  /** A layer of `w` [inFeatures, packedColumns(outFeatures)]. */
  constructor(
    w: Tensor,
    /** Length of an input row. */
    readonly inFeatures: number,
    /** Length of an output row. */
    readonly outFeatures: number,
    /** [outFeatures] float32. */
    readonly bias?: Tensor,
  ) {
    const { device } = w;
    using made = new DisposableStack();
    const matrix = packedMatrix(keep(device, w), outFeatures);
    made.use(keep(device, matrix.dims));
    this.#embedDims = keep(device, tensor(device, [inFeatures, w.shape[1]!, outFeatures], [3], "uint32"));
    made.move(); // nothing failed: they are the layer's
    this.#matrix = matrix;
    if (bias) keep(device, bias);
  }

  /** Bytes on the GPU. */
  get byteLength(): number {
    return this.#matrix.w.byteLength + (this.bias?.byteLength ?? 0);
  }

  /** The matrix's dtype. */
  get scheme(): string {
    return this.#matrix.w.dtype;
  }

  /** `act(norm(x) · W + bias) + residual`, gated or not. */
  forward(x: Tensor, fusion: Fusion = {}): Tensor {
    return matmulPacked(x, this.#matrix, { bias: this.bias, ...fusion });
  }

  /** Columns of the matrix, one a token. */
  embed(tokens: Tensor): Tensor {
    return embeddingPacked(tokens, this.#matrix.w, this.#embedDims, this.inFeatures, true);
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    for (const t of [this.#matrix.w, this.#matrix.dims, this.#embedDims, this.bias]) t?.dispose();
  }
}

/** A table of embeddings of dense rows, which it owns. */
export class DenseEmbedding implements Embedding {
  readonly #w: Tensor;
  readonly #dims: Tensor;

  /** A table of `w` [numEmbeddings, packedColumns(embeddingDim)]. */
  constructor(
    w: Tensor,
    /** Number of rows. */
    readonly numEmbeddings: number,
    /** Length of a row. */
    readonly embeddingDim: number,
  ) {
    this.#w = keep(w.device, w);
    this.#dims = keep(w.device, tensor(w.device, [embeddingDim, w.shape[1]!, numEmbeddings], [3], "uint32"));
  }

  /** Bytes on the GPU. */
  get byteLength(): number {
    return this.#w.byteLength;
  }

  /** The table's dtype. */
  get scheme(): string {
    return this.#w.dtype;
  }

  /** One row a token. */
  forward(tokens: Tensor): Tensor {
    return embeddingPacked(tokens, this.#w, this.#dims, this.embeddingDim, false);
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    this.#w.dispose();
    this.#dims.dispose();
  }
}
