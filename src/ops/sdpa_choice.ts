/**
 * Which attention kernel runs, and why the others do not.
 *
 * @module
 */
import type { Dtype } from "../tensor/mod.ts";
import type { AttentionBackend } from "./attention.ts";
import { enabledBackends, noKernel } from "./sdpa_kernel.ts";

/** What the choice depends on. */
export interface AttentionTraits {
  /** What keys and values are stored in. */
  dtype: Dtype;
  /** Whether a mask or bias is given. */
  bias: boolean;
  /** Length of a query's and a key's head. */
  headDim: number;
  /** Length of a value's head. Default `headDim`. */
  valueDim?: number;
}

/** The kernel that runs, and the reasons. */
export interface AttentionChoice {
  /** Its name. */
  backend: AttentionBackend;
  /** Why it runs, in a few words. */
  why: string;
  /** Why those that come before it do not; empty for the others. */
  refusals: Readonly<Record<AttentionBackend, readonly string[]>>;
}

/** The longest head that the fused kernels take. */
export const MAX_HEAD_DIM = 256;

/**
 * The first kernel that may run here and can. A pure function of its arguments.
 *
 * @param enabled the kernels that may run, the first choice first; default: what `sdpaKernel` leaves
 * @throws {RuntimeError} "No available kernel. Aborting execution.", and beneath it why each kernel was refused
 */
export function chooseAttention(
  traits: AttentionTraits,
  enabled: readonly AttentionBackend[] = enabledBackends(),
): AttentionChoice {
  const reasons = { flash: flashRefuses(traits), efficient: fusedRefuses(traits), math: [] as string[] };
  const refusals = Object.fromEntries(
    Object.entries(reasons).map(([name, why]) =>
      enabled.includes(name as AttentionBackend) ? [name, why] : [name, [`it has been runtime disabled.`, ...why]]
    ),
  ) as Record<AttentionBackend, string[]>;
  const backend = enabled.find((name) => refusals[name].length === 0);
  if (!backend) throw noKernel(refusals);
  const tried = enabled.slice(0, enabled.indexOf(backend)).flatMap((name) =>
    refusals[name].map((why) => `${name}: ${why}`)
  );
  const only = enabled.length < 3 ? `of ${enabled.join(", ")} ` : "";
  return { backend, refusals, why: `the first ${only}that can${tried.length ? `; ${tried.join("; ")}` : ""}` };
}

function flashRefuses({ dtype, bias, ...rest }: AttentionTraits): string[] {
  const why = fusedRefuses({ dtype, bias, ...rest });
  if (dtype !== "float16" && dtype !== "bfloat16") {
    why.push(`Expected query, key and value to all be of dtype: {Half, BFloat16}. Got ${dtype}.`);
  }
  if (bias) why.push("Flash Attention does not support non-null attn_mask.");
  return why;
}

function fusedRefuses({ headDim, valueDim = headDim }: AttentionTraits): string[] {
  const longest = Math.max(headDim, valueDim);
  return longest <= MAX_HEAD_DIM ? [] : [`Heads must have at most ${MAX_HEAD_DIM} elements. Got ${longest}.`];
}
