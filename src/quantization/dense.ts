/**
 * Dense weights: float32, float16 or bfloat16, kept as `matmul` reads them; in several parts where one would not fit a
 * binding of the GPU.
 *
 * @module
 */
import { embeddingPacked, type PackedTable, packedTable } from "../ops/embedding_packed.ts";
import { matmulPacked, type PackedMatrix, packedMatrix } from "../ops/matmul_packed.ts";
import { packWeight, stripOf } from "../ops/pack_weight.ts";
import { empty, keep, type Tensor } from "../tensor/mod.ts";
import type { Shard } from "./bytes.ts";
import { type Embedding, type Fusion, type Linear, unfused } from "./linear.ts";

/** Some outputs of a linear layer, or some rows of a table, in a matrix of their own. */
export interface DensePart extends Shard {
  /** Of a layer [inFeatures, packedColumns(count)] in strips as `stripOf` says, of a table [count, packedColumns(embeddingDim)]. */
  readonly w: Tensor;
}

/** A linear layer of packed dense matrices, which it owns. */
export class DenseLinear implements Linear {
  readonly #matrices: PackedMatrix[];
  readonly #tables: PackedTable[];
  /** Bytes on the GPU. */
  readonly byteLength: number;
  /** The matrix's dtype. */
  readonly scheme: string;

  /** A layer of `parts`, whose outputs follow on one another. */
  constructor(
    parts: readonly DensePart[],
    /** Length of an input row. */
    readonly inFeatures: number,
    /** Length of an output row. */
    readonly outFeatures: number,
    /** [outFeatures] float32. */
    readonly bias?: Tensor,
  ) {
    using made = new DisposableStack();
    this.#matrices = parts.map(({ w, first, count }) => {
      const matrix = packedMatrix(keep(w.device, w), count, {
        width: outFeatures,
        offset: first,
        strip: stripOf(w.device),
      });
      made.use(keep(w.device, matrix.dims));
      return matrix;
    });
    this.#tables = parts.map(({ w, first, count }) => {
      const table = packedTable(w, inFeatures, count, true, { first, strip: stripOf(w.device) });
      made.use(keep(w.device, table.dims));
      return table;
    });
    made.move(); // nothing failed: they are the layer's
    if (bias) keep(bias.device, bias);
    this.byteLength = bytesOf(parts) + (bias?.byteLength ?? 0);
    this.scheme = parts[0]!.w.dtype;
  }

  /** `act(norm(x) · W + bias) + residual`, gated or not. */
  forward(x: Tensor, fusion: Fusion = {}): Tensor {
    const { bias } = this, [matrix, ...others] = this.#matrices;
    if (others.length === 0) return matmulPacked(x, matrix!, { bias, ...fusion });
    return unfused(x, fusion, (x, epilogue) => {
      const y = empty(x.device, [...x.shape.slice(0, -1), this.outFeatures]);
      for (const matrix of this.#matrices) matmulPacked(x, matrix, { bias, ...epilogue }, y);
      return y;
    });
  }

  /** Columns of the matrix, one a token. */
  embed(tokens: Tensor): Tensor {
    return embeddingPacked(tokens, this.#tables);
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    for (const { w, dims } of [...this.#matrices, ...this.#tables]) [w, dims].forEach((t) => t.dispose());
    this.bias?.dispose();
  }
}

/** A table of embeddings of dense rows, which it owns. */
export class DenseEmbedding implements Embedding {
  readonly #tables: PackedTable[];
  /** Bytes on the GPU. */
  readonly byteLength: number;
  /** The table's dtype. */
  readonly scheme: string;

  /** A table of `parts`, whose rows follow on one another. */
  constructor(
    parts: readonly DensePart[],
    /** Number of rows. */
    readonly numEmbeddings: number,
    /** Length of a row. */
    readonly embeddingDim: number,
  ) {
    using made = new DisposableStack();
    this.#tables = parts.map(({ w, first, count }) => {
      const table = packedTable(keep(w.device, w), embeddingDim, count, false, { first });
      made.use(keep(w.device, table.dims));
      return table;
    });
    made.move(); // nothing failed: they are the table's
    this.byteLength = bytesOf(parts);
    this.scheme = parts[0]!.w.dtype;
  }

  /** One row a token. */
  forward(tokens: Tensor): Tensor {
    return embeddingPacked(tokens, this.#tables);
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    for (const { w, dims } of this.#tables) [w, dims].forEach((t) => t.dispose());
  }
}

/**
 * Packs a piece of a layer's weight into the parts that its outputs belong to.
 *
 * @param transpose the piece is [out, in], as torch's Linear keeps it
 * @param output the layer's output that is the piece's first
 * @param input the layer's input that is the piece's first
 */
export function packOutputs(
  piece: Tensor,
  parts: readonly DensePart[],
  { transpose, output, input = 0 }: { transpose: boolean; output: number; input?: number },
): void {
  for (const part of parts) {
    const [start, count] = overlap(part, output, piece.shape[transpose ? 0 : 1]!);
    if (count <= 0) continue;
    const column = output + start - part.first;
    packWeight(piece, part.w, { transpose, column, row: input, columns: [start, count], strip: stripOf(piece.device) });
  }
}

/** Packs rows of a table from `row` on into the parts that they belong to. */
export function packRows(piece: Tensor, parts: readonly DensePart[], row: number): void {
  for (const part of parts) {
    const [start, count] = overlap(part, row, piece.shape[0]!);
    if (count > 0) packWeight(piece, part.w, { row: row + start - part.first, rows: [start, count] });
  }
}

/** Which of the `n` from `at` on lie in a shard: from where, and how many; none if not above 0. */
function overlap({ first, count }: Shard, at: number, n: number): [start: number, count: number] {
  const start = Math.max(0, first - at);
  return [start, Math.min(n, first + count - at) - start];
}

function bytesOf(parts: readonly DensePart[]): number {
  return parts.reduce((sum, { w }) => sum + w.byteLength, 0);
}
