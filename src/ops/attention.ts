import { ShapeError } from "../errors.ts";
import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/attention.wgsl" with { type: "text" };
import storeWgsl from "../shaders/kv_store.wgsl" with { type: "text" };
import weightsWgsl from "../shaders/attention_weights.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, type Tensor, tensor } from "../tensor/mod.ts";
import { dtypeFlags } from "./pack_weight.ts";

const attend = kernel("attention", wgsl);
const store = kernel("kv_store", storeWgsl);
const weigh = kernel("attention_weights", weightsWgsl);

/** Keys and values as the attention kernels read them. */
export interface KeyValues {
  /** Keys: float32 or float16, `[T, Hkv, Dh]` packed, or a cache's own layout. */
  readonly k: Tensor;
  /** Values, laid out as the keys. */
  readonly v: Tensor;
  /** What {@linkcode kvLayout} made. */
  readonly geometry: Tensor;
  /** [B] uint32: keys that each sequence had before this batch; undefined where k and v are packed. */
  readonly past?: Tensor;
}

/** Numbers that say how keys lie and which of them a query sees. */
export interface KvLayout {
  /** Query heads. */
  heads: number;
  /** Key and value heads; divides `heads`. */
  kvHeads: number;
  /** Elements from one sequence's keys to the next; 0 where packed. */
  sequenceStride: number;
  /** Elements from one head to the next. */
  headStride: number;
  /** Elements from one key to the next. */
  keyStride: number;
  /** A query sees only the last `window` keys, its own included; 0 for all. */
  window?: number;
  /** Factor of the scores. */
  scale: number;
  /** A query sees no key after its own. */
  causal: boolean;
}

/** A {@linkcode KvLayout} on the GPU. */
export function kvLayout(device: Tensor["device"], l: KvLayout): Tensor {
  const scale = new Uint32Array(new Float32Array([l.scale]).buffer)[0]!;
  const words = [l.heads, l.kvHeads, l.sequenceStride, l.headStride, l.keyStride, l.window ?? 0, scale];
  return tensor(device, [...words, l.causal ? 1 : 0], [8], "uint32");
}

/**
 * Attention of packed queries over keys of any layout: `softmax(scale · q kᵀ) v` per token and head, with causal mask,
 * window and grouped heads as index tests. No pad token exists, and no matrix of tokens by keys is stored.
 *
 * @param q [T, H, Dh] float32
 * @param kv where the keys and values are
 * @param cuSeqlens [B + 1] uint32: sequence b is the tokens from `cuSeqlens[b]` to `cuSeqlens[b + 1]`
 * @returns [T, H, Dh] float32; a query that sees no key gives zeros
 */
export function attention(q: Tensor, { k, v, geometry, past }: KeyValues, cuSeqlens: Tensor): Tensor {
  const [T = 0, H = 0, Dh = 0] = expectShape("attention", "q", q, ["T", "H", "Dh"]);
  expectDtype("attention", "q", q, "float32");
  expectDtype("attention", "k", k, "float32", "float16");
  expectDtype("attention", "v", v, k.dtype);
  if (Dh > 256) {
    throw new ShapeError(`Cannot run attention as the head's length must be at most 256: current value is ${Dh}`);
  }
  const o = empty(q.device, q.shape);
  attend(q.device, {
    flags: { ...dtypeFlags(k.dtype), PACKED: !past, BY_4: Dh % 4 === 0 },
    consts: { DH: Dh, QUADS: Math.max(1, 2 ** Math.ceil(Math.log2(Dh / 4))) },
    bindings: { q, k, v, cuSeqlens, geometry, past, o },
    grid: [T * H],
  });
  return o;
}

/**
 * The probabilities of {@linkcode attention} as a matrix: what `outputAttentions` shows.
 *
 * @param keys S: at least the number of keys of the longest sequence
 * @returns [H, T, S] float32; 0 where a query may not see a key
 */
export function attentionWeights(
  q: Tensor,
  { k, geometry, past }: Omit<KeyValues, "v">,
  cuSeqlens: Tensor,
  keys: number,
): Tensor {
  const [T = 0, H = 0, Dh = 0] = expectShape("attentionWeights", "q", q, ["T", "H", "Dh"]);
  const p = empty(q.device, [H, T, keys]);
  weigh(q.device, {
    flags: { ...dtypeFlags(k.dtype), PACKED: !past },
    consts: { DH: Dh },
    bindings: { q, k, cuSeqlens, geometry, past, p },
    grid: [T * H],
  });
  return p;
}

/** Writes k and v [T, Hkv, Dh] float32 behind the `past` keys of each sequence in `into`, whose tensors are changed. */
export function storeKv(k: Tensor, v: Tensor, into: Required<KeyValues>, cuSeqlens: Tensor): void {
  const [T = 0, Hkv = 0, Dh = 0] = expectShape("storeKv", "k", k, ["T", "Hkv", "Dh"]);
  expectShape("storeKv", "v", v, [T, Hkv, Dh]);
  store(k.device, {
    flags: dtypeFlags(into.k.dtype),
    consts: { DH: Dh },
    bindings: { k, v, cuSeqlens, geometry: into.geometry, past: into.past, keys: into.k, values: into.v },
    grid: [Math.ceil(k.size / (Dh % 2 === 0 ? 2 : 1) / 64)],
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
): Float32Array {
  const o = new Float32Array(q.length);
  for (let i = 0; i < q.length / Dh; i++) {
    const [from, to] = sees(i);
    const scores: number[] = [];
    for (let j = from; j < to; j++) {
      let sum = 0;
      for (let d = 0; d < Dh; d++) sum += q[i * Dh + d]! * k[j * Dh + d]!;
      scores.push(sum * scale);
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
