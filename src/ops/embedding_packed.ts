import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/embedding_packed.wgsl" with { type: "text" };
import { empty, expectDtype, type Tensor } from "../tensor/mod.ts";
import { dtypeFlags } from "./pack_weight.ts";

const launch = kernel("embedding_packed", wgsl);

/**
 * Rows of an embedding that lies packed: `[V, stride]`, or `[DIM, stride]` as a matmul's weight that is tied to it.
 *
 * @param tokens [T] uint32; a token that does not exist gives zeros
 * @param w [V, packedColumns(dim)], or [dim, packedColumns(V)] with `columns`
 * @param dims (dim, columns of `w`, V) uint32
 * @returns [T, dim] float32
 */
export function embeddingPacked(tokens: Tensor, w: Tensor, dims: Tensor, dim: number, columns: boolean): Tensor {
  expectDtype("embedding", "tokens", tokens, "uint32");
  const y = empty(tokens.device, [...tokens.shape, dim]);
  launch(tokens.device, {
    flags: { ...dtypeFlags(w.dtype), COLUMNS: columns },
    bindings: { tokens, w, dims, y },
    grid: [Math.ceil(y.size / 64)],
  });
  return y;
}
