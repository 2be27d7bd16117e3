import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/embedding_packed.wgsl" with { type: "text" };
import { empty, expectDtype, type Tensor, tensor } from "../tensor/mod.ts";
import { elementThreads, rowBlocks } from "./launching.ts";
import { dtypeFlags } from "./pack_weight.ts";

const launch = kernel("embedding_packed", wgsl);

/** A table of embeddings as the kernel reads it, or a part of one. */
export interface PackedTable {
  /** [V, packedColumns(dim)], or with `columns` [dim, packedColumns(V)] as a matmul's weight that is tied to it. */
  readonly w: Tensor;
  /** Length of an embedding. */
  readonly dim: number;
  /** Whether the embeddings are columns. */
  readonly columns: boolean;
  /** (dim, columns of `w`, V, the first of its tokens, columns of a strip) as uint32. */
  readonly dims: Tensor;
}

/** The {@linkcode PackedTable} of `w`, whose `count` tokens are those from `first` on; `strip` as `packWeight` was told. */
export function packedTable(
  w: Tensor,
  dim: number,
  count: number,
  columns: boolean,
  { first = 0, strip = w.shape[1]! }: { first?: number; strip?: number } = {},
): PackedTable {
  const dims = tensor(w.device, [dim, w.shape[1]!, count, first, strip], [5], "uint32");
  return { w, dim, columns, dims };
}

/**
 * Rows of an embedding that lies packed in one table or in several, whose tokens follow on one another.
 *
 * @param tokens [T] uint32; a token that does not exist gives zeros
 * @returns [T, dim] float32
 */
export function embeddingPacked(tokens: Tensor, tables: readonly PackedTable[]): Tensor {
  expectDtype("embedding", "tokens", tokens, "uint32");
  const y = empty(tokens.device, [...tokens.shape, tables[0]!.dim]);
  const dim = tables[0]!.dim, BY_4 = dim % 4 === 0;
  for (const { w, dims, columns } of tables) {
    launch(tokens.device, {
      consts: { WG: elementThreads(tokens.device) },
      flags: { ...dtypeFlags(w.dtype), COLUMNS: columns, BY_4 },
      bindings: { tokens, w, dims, y },
      grid: rowBlocks(tokens.size, BY_4 ? dim / 4 : dim),
    });
  }
  return y;
}
