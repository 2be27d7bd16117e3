import type { Fusion, Linear } from "../quantization/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import { crossPart } from "./encoder_decoder.ts";
import type { Pass } from "./family.ts";

/** Queries of a decoder's states over the encoder's. */
export interface CrossProjection {
  /** D -> H·Dh. */
  q: Linear;
  /** What is done to the input before. */
  norm?: Fusion["norm"];
  /** Query heads. */
  heads: number;
  /** Length of a head. */
  headDim: number;
  /** Factor of the scores. */
  scale: number;
}

/** Attends to the encoder's states with `x` [T, D]: [T, H·Dh]. */
export function crossAttention(pass: Pass, layer: number, x: Tensor, projection: CrossProjection): Tensor {
  const { batch, cache, crossAttentions: weights } = pass, { q, norm, heads, headDim, scale } = projection;
  const queries = q.forward(x, { norm }).reshape([batch.total, heads, headDim]);
  return crossPart(cache).attend(layer, queries, batch, { scale, weights }).reshape([batch.total, heads * headDim]);
}

/** Keys and values [S, H, Dh] of the encoder's `states` [S, D] by their projections. */
export function crossKeys(
  { k, v }: { k: Linear; v: Linear },
  states: Tensor,
  { heads, headDim }: { heads: number; headDim: number },
): { k: Tensor; v: Tensor } {
  const project = (linear: Linear) => linear.forward(states).reshape([states.shape[0]!, heads, headDim]);
  return { k: project(k), v: project(v) };
}
