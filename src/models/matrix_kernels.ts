/**
 * Which kernel multiplies by each matrix of a model, told before it is loaded.
 *
 * @module
 */
import type { Device } from "../gpu/mod.ts";
import { matmulKernel, matmulTraits } from "../ops/matmul_packed.ts";
import { unpacksFirst } from "../ops/quantized_matmul.ts";
import type { Dtype } from "../tensor/mod.ts";
import type { PlannedWeight } from "../weights/source.ts";

/** The kernels of a matrix, each with the reason where there was a choice: "matmul_row (a CPU with subgroups, …)". */
export interface MatrixKernels {
  /** Over the tokens of a prompt. */
  prompt: string;
  /** Over one token. */
  step: string;
}

const DENSE = ["float32", "float16", "bfloat16"], CODEBOOKS = ["nf4", "fp4"];

/** The kernels of `weight` for a prompt of `tokens` tokens on `device`; undefined for vectors, which have none of their own. */
export function matrixKernels(
  { shape, scheme, table }: PlannedWeight,
  device: Device,
  tokens: number,
): MatrixKernels | undefined {
  if (shape.length < 2) return undefined;
  if (table) return { prompt: "embedding_packed", step: "embedding_packed" };
  const [N, K] = [shape[0]!, shape.slice(1).reduce((product, n) => product * n, 1)];
  const kernelFor = (M: number) => {
    const isDense = DENSE.includes(scheme), unpacks = !isDense && unpacksFirst(device, M);
    if (!isDense && !unpacks) return quantizedKernel(scheme);
    const dtype = (isDense ? scheme : "float32") as Dtype, wide = dtype !== "float32" && N % 8 === 0;
    const { kernel, why } = matmulKernel(matmulTraits(device), { M, K, N, wide, dtype });
    return `${unpacks ? "unpack_codes, then " : ""}${kernel} (${why})`;
  };
  return { prompt: kernelFor(tokens), step: kernelFor(1) };
}

function quantizedKernel(scheme: string): string {
  if (scheme === "int8") return "int8_matmul";
  return CODEBOOKS.includes(scheme) ? "codebook_matmul" : "quantized_matmul";
}
