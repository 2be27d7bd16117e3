/**
 * Blocks that several families share.
 *
 * @module
 */
import { layerNorm } from "../ops/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { WeightSource } from "../weights/source.ts";

/** A layer norm with its weights. */
export type LayerNorm = (x: Tensor) => Tensor;

/** Loads `NAME.weight` and `NAME.bias`. */
export async function loadLayerNorm(source: WeightSource, name: string, dim: number, eps: number): Promise<LayerNorm> {
  const weight = await source.vector(`${name}.weight`, dim);
  const bias = await source.vector(`${name}.bias`, dim);
  return (x) => layerNorm(x, weight, bias, eps);
}
