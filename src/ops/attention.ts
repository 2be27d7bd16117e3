import { ShapeError } from "../errors.ts";
import { type Device, kernel } from "../gpu/mod.ts";
import storeWgsl from "../shaders/kv_store.wgsl" with { type: "text" };
import { empty, expectShape, type Tensor } from "../tensor/mod.ts";
import { type AttentionSizes, checkAttention } from "./attention_checks.ts";
import { type AttentionBackend, type AttentionChoice, chooseAttention } from "./attention_choice.ts";
import { launchAttention, launchWeights, subgroupSize } from "./attention_launch.ts";
import { type CachedKeyValues, type KeyValues, mayCap } from "./attention_layout.ts";
import { dtypeFlags } from "./pack_weight.ts";
import { enabledBackends } from "./sdpa_kernel.ts";

export {
  type AttentionBackend,
  type AttentionCase,
  type AttentionChoice,
  chooseAttention,
} from "./attention_choice.ts";
export { subgroupSize } from "./attention_launch.ts";
export {
  type CachedKeyValues,
  copyKvLayout,
  type KeyValues,
  type KvLayout,
  kvLayout,
  setKvStrides,
  type Strides,
} from "./attention_layout.ts";

const store = kernel("kv_store", storeWgsl);
const PAGE = 64; // keys, as kv.wgsl has them

/** What a call of {@linkcode attention} says beyond the layout. */
export interface AttentionCall {
  /**
   * Added to the scores (float32; -Infinity hides a key), or a mask (uint32: 0 hides a key). The layout's `bias` says how
   * it lies and which of the two it is.
   */
  bias?: Tensor;
  /**
   * Which kernel runs: `"flash"` wants keys of 16 bits and no bias, `"efficient"` takes all, `"math"` stores the matrix of
   * scores. Default: the first of the three that can.
   */
  backend?: AttentionBackend;
}

/**
 * Attention of packed queries over keys of any layout: `softmax(scale · q kᵀ) v` per token and head, with causal mask,
 * window, lengths, ALiBi, soft cap, sinks and grouped heads as index tests. No pad token exists, and no matrix of tokens by
 * keys is stored (but by "math").
 *
 * @param q [T, H, Dh] float32, or as the layout's `queries` says
 * @param kv where the keys and values are
 * @param cuSeqlens [B + 1] uint32: sequence b is the tokens from `cuSeqlens[b]` to `cuSeqlens[b + 1]`
 * @returns [T, H, Ev] float32, or as the layout's `results` says; a query that sees no key gives zeros
 * @throws {ShapeError} if shapes do not fit each other or the layout
 * @throws {DtypeError} if a dtype is not as said
 * @throws {ValueError} if a tensor is on another device, or `bias` is there and not in the layout, or the other way round
 * @throws {RuntimeError} if `backend`, or nothing that `sdpaKernel` leaves, can do what is asked: it says why
 */
export function attention(q: Tensor, kv: KeyValues, cuSeqlens: Tensor, { bias, backend }: AttentionCall = {}): Tensor {
  const sizes = checkAttention("attention", { q, kv, cuSeqlens, bias });
  const { choice, keys } = choiceFor(q.device, sizes, kv, { bias, backend });
  const o = empty(q.device, [sizes.T, sizes.H, sizes.Ev]);
  launchAttention({ q, kv, cuSeqlens, bias }, choice, keys, o);
  return o;
}

/** Which kernel attends, and as many keys as a sequence may have. */
export function choiceFor(
  device: Device,
  { T, H, kvHeads, Dh, Ev, B }: AttentionSizes,
  kv: KeyValues,
  { bias, backend }: AttentionCall,
): { choice: AttentionChoice; keys: number } {
  const keys = keysOf(kv, B, Dh);
  const choice = chooseAttention({
    dtype: kv.k.dtype,
    headDim: Dh,
    valueDim: Ev,
    tokens: T,
    sequences: B,
    heads: H,
    kvHeads,
    keys,
    bias: bias !== undefined,
    softcap: mayCap(kv.geometry),
    subgroup: subgroupSize(device),
    cpu: device.isCpu,
    enabled: backend ? [backend] : enabledBackends(),
  });
  return { choice, keys };
}

/** As many keys as a sequence may have. */
function keysOf({ k, past, paged }: KeyValues, B: number, Dh: number): number {
  if (paged && past) return PAGE * (past.size / Math.max(1, B) - 2);
  return k.size / Math.max(1, Dh * k.shape[1]!) / (k.shape.length > 3 ? Math.max(1, B) : 1);
}

/**
 * The probabilities of {@linkcode attention} as a matrix: what `outputAttentions` shows.
 *
 * @param keys S: at least the number of keys of the longest sequence
 * @returns [H, T, S] float32; 0 where a query may not see a key
 */
export function attentionWeights(
  q: Tensor,
  kv: Omit<KeyValues, "v">,
  cuSeqlens: Tensor,
  keys: number,
  { bias }: AttentionCall = {},
): Tensor {
  checkAttention("attentionWeights", { q, kv, cuSeqlens, bias });
  return launchWeights({ q, kv, cuSeqlens, bias }, keys);
}

/**
 * Writes k [T, Hkv, Dh] and v [T, Hkv, Ev] float32 behind the `past` keys of each sequence in `into`, whose tensors are
 * changed.
 */
export function storeKv(k: Tensor, v: Tensor, into: CachedKeyValues, cuSeqlens: Tensor): void {
  const [T = 0, Hkv = 0, Dh = 0] = expectShape("storeKv", "k", k, ["T", "Hkv", "Dh"]);
  const [, , Ev = 0] = expectShape("storeKv", "v", v, [T, Hkv, "Ev"]);
  const even = Dh % 2 === 0 && Ev % 2 === 0;
  if (!even && into.k.dtype !== "float32") {
    throw new ShapeError(
      `Cannot run storeKv as heads kept in 16 bits must have an even length: current lengths are ${Dh} and ${Ev}`,
    );
  }
  store(k.device, {
    flags: { ...dtypeFlags(into.k.dtype), MAPPED: !!into.paged },
    consts: { DH: Dh, DV: Ev },
    bindings: { k, v, cuSeqlens, geometry: into.geometry, counts: into.past, keys: into.k, values: into.v },
    grid: [Math.ceil((T * Hkv * Math.max(Dh, Ev)) / (even ? 2 : 1) / 64)],
  });
}

/** The attention of one query head in plain loops: q [L, Dh], k and v [S, Dh]; query i sees keys [from(i), to(i)). */
export function attentionReference(
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
  Dh: number,
  scale: number,
  sees: (query: number) => readonly [number, number],
  softcap = 0,
): Float32Array {
  const o = new Float32Array(q.length);
  for (let i = 0; i < q.length / Dh; i++) {
    const [from, to] = sees(i);
    const scores: number[] = [];
    for (let j = from; j < to; j++) {
      let sum = 0;
      for (let d = 0; d < Dh; d++) sum += q[i * Dh + d]! * k[j * Dh + d]!;
      scores.push(softcap ? softcap * Math.tanh(sum * scale / softcap) : sum * scale);
    }
    const most = Math.max(...scores);
    const total = scores.reduce((sum, s) => sum + Math.exp(s - most), 0);
    for (let d = 0; d < Dh; d++) {
      let sum = 0;
      for (const [j, s] of scores.entries()) sum += Math.exp(s - most) * v[(from + j) * Dh + d]!;
      o[i * Dh + d] = total > 0 ? sum / total : 0;
    }
  }
  return o;
}
