/**
 * Which of PyTorch's attention kernels runs, and why the others do not.
 *
 * @module
 */
import type { Dtype } from "../tensor/mod.ts";
import { type AttentionBackend, BACKENDS, noKernel } from "./sdpa_kernel.ts";

/** What the choice depends on. */
export interface AttentionTraits {
  /** Dtype of keys and values. */
  dtype: Dtype;
  /** Length of a query and key. */
  headDim: number;
  /** Length of a value. Default: as of a key. */
  valueDim?: number;
  /** Whether something is added to the scores. */
  bias?: boolean;
}

/** The longest head that the fused kernels take. */
export const MAX_HEAD_DIM = 256;

/**
 * The first kernel that may run and can, and why those before it do not.
 *
 * @param enabled the kernels that may run, the first choice first
 * @throws {RuntimeError} "No available kernel. Aborting execution.", and beneath it why each kernel was refused
 */
export function chooseBackend(
  traits: AttentionTraits,
  enabled: readonly AttentionBackend[] = BACKENDS,
): { backend: AttentionBackend; why: string } {
  const refusals = {
    flash: [...disabled("flash", enabled), ...fusedRefuses(traits), ...flashRefuses(traits)],
    efficient: [...disabled("efficient", enabled), ...fusedRefuses(traits)],
    math: disabled("math", enabled),
  };
  const backend = BACKENDS.find((name) => refusals[name].length === 0);
  if (!backend) throw noKernel(refusals);
  const before = BACKENDS.slice(0, BACKENDS.indexOf(backend));
  const why = before.map((name) => `not ${name}: ${refusals[name].join(" ")}`).join("; ");
  return { backend, why: why || `keys are ${traits.dtype}` };
}

function disabled(name: AttentionBackend, enabled: readonly AttentionBackend[]): string[] {
  return enabled.includes(name) ? [] : ["It has been runtime disabled."];
}

function flashRefuses({ dtype, bias }: AttentionTraits): string[] {
  const why = dtype === "float16" || dtype === "bfloat16"
    ? []
    : [`Expected query, key and value to all be of dtype: {Half, BFloat16}. Got ${dtype}.`];
  return bias ? [...why, "Flash Attention does not support non-null attn_mask."] : why;
}

function fusedRefuses({ headDim, valueDim = headDim }: AttentionTraits): string[] {
  const longest = Math.max(headDim, valueDim);
  return longest <= MAX_HEAD_DIM ? [] : [`Heads must have at most ${MAX_HEAD_DIM} elements. Got ${longest}.`];
}
