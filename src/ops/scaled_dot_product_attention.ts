import type { Device } from "../gpu/mod.ts";
import { elements, empty, type Shape, type Tensor, tensor, tidy } from "../tensor/mod.ts";
import { attention, kvLayout, type Strides } from "./attention.ts";
import { cast } from "./cast.ts";
import { gatherRows } from "./gather_rows.ts";
import { checkSdpa, type SdpaSizes } from "./sdpa_checks.ts";
import { zeros } from "./zeros.ts";

/** What {@linkcode scaledDotProductAttention} takes beside the queries, keys and values. */
export interface SdpaOptions {
  /**
   * Broadcastable to [..., H, L, S]. uint32, which stands for PyTorch's bool: a query sees the keys where it is not 0;
   * float32, float16 or bfloat16: added to the scores, where -Infinity hides a key.
   */
  attnMask?: Tensor;
  /**
   * Query i sees the keys up to i: `true`, as PyTorch's `is_causal`, and not together with `attnMask`; `"topLeft"` is the
   * same with any mask. `"bottomRight"`: the last query stands at the last key, as in decoding with a cache.
   */
  isCausal?: boolean | "topLeft" | "bottomRight";
  /** Factor of the scores. Default `1 / sqrt(E)`. */
  scale?: number;
  /** Query heads share key heads: query head h reads key head `floor(h · Hkv / H)`. Default false: H and Hkv are equal. */
  enableGqa?: boolean;
  /** Scores become `softcap · tanh(score / softcap)`, before any mask. */
  softcap?: number;
  /** A query sees only the last so many keys, its own included; without `isCausal` as many after its own. */
  slidingWindow?: number;
  /** [H]: `slope · |place of the query - place of the key|` is subtracted from each score. */
  alibiSlopes?: Tensor | readonly number[];
  /** [H]: a score that takes part in the softmax and has no value: the weights add up to less than 1. */
  sinks?: Tensor | readonly number[];
  /** One a batch entry: only its first so many keys are there. A list, or uint32 of as many elements. */
  kvLengths?: Tensor | readonly number[];
  /** Must be 0: dropout is for training. */
  dropoutP?: number;
}

/**
 * Attention, as PyTorch's function of this name: `softmax(scale · q kᵀ + mask) v`. Scores and sums are float32; nothing of
 * size L × S is stored, unless only the math kernel may run ({@linkcode sdpaKernel}).
 *
 * Where queries and keys differ in number and `isCausal` does not say where queries stand, windows and ALiBi take the last
 * query to stand at the last key.
 *
 * @param q [..., H, L, E] float32, float16 or bfloat16
 * @param k [..., Hkv, S, E] of the same dtype
 * @param v [..., Hkv, S, Ev] of the same dtype
 * @returns [..., H, L, Ev] of the same dtype; a query that sees no key gives zeros
 * @throws {ShapeError} if shapes do not fit each other
 * @throws {DtypeError} if dtypes differ or are no floats
 * @throws {ValueError} if an option cannot be taken, or not with another
 * @throws {RuntimeError} if {@linkcode sdpaKernel} leaves no kernel that can do it: it says why each cannot
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { scaledDotProductAttention } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using q = tensor(device, [0, 0, 0, 0], [1, 1, 2, 2]);
 * using v = tensor(device, [1, 2, 3, 4], [1, 1, 2, 2]);
 * using y = scaledDotProductAttention(q, q, v, { isCausal: true });
 * console.log(await y.read()); // Float32Array(4) [ 1, 2, 2, 3 ]: all scores are equal
 * ```
 */
export function scaledDotProductAttention(q: Tensor, k: Tensor, v: Tensor, options: SdpaOptions = {}): Tensor {
  const sizes = checkSdpa(q, k, v, options);
  const { B, H, L, S, Ev } = sizes;
  const shape = [...q.shape.slice(0, -1), Ev];
  if (B * H * L * Ev === 0) return empty(q.device, shape, q.dtype);
  if (S === 0) return zeros(q.device, shape, q.dtype);
  return tidy(q.device, () => {
    const o = packed(q, k, v, options, sizes);
    return (q.dtype === "float32" ? o : cast(o, q.dtype)).reshape(shape);
  });
}

/** The same on the packed op: all tensors are read and written where they lie. */
function packed(q: Tensor, k: Tensor, v: Tensor, options: SdpaOptions, sizes: SdpaSizes): Tensor {
  const { B, H, Hkv, L, S, E, Ev } = sizes;
  const { device } = q;
  const { isCausal = false, scale = 1 / Math.sqrt(E), slidingWindow, softcap, alibiSlopes, sinks, kvLengths } = options;
  const mask = options.attnMask && flatMask(options.attnMask, q.shape, sizes);
  const byHead = (n: number, width: number): Strides => ({
    sequenceStride: H * L * width - L * width, // the place of a token already counts the tokens before its sequence
    headStride: n * width,
    keyStride: width,
  });
  const geometry = kvLayout(device, {
    heads: H,
    kvHeads: Hkv,
    sequenceStride: Hkv * S * E,
    headStride: S * E,
    keyStride: E,
    values: { sequenceStride: Hkv * S * Ev, headStride: S * Ev, keyStride: Ev },
    counts: "lengths",
    causal: isCausal === true ? "topLeft" : isCausal,
    align: !isCausal && L === S ? "topLeft" : undefined, // the keys that are not there come last
    scale,
    softcap,
    window: slidingWindow,
    alibiSlopes,
    sinks,
    bias: mask && { strides: mask.strides, mask: mask.values.dtype === "uint32" },
    queries: byHead(L, E),
    results: byHead(L, Ev),
  });
  const starts = tensor(device, Array.from({ length: B + 1 }, (_, b) => b * L), [B + 1], "uint32");
  const kv = {
    k: k.reshape([B, Hkv, S, E]),
    v: v.reshape([B, Hkv, S, Ev]),
    geometry,
    past: counts(device, kvLengths, B, S),
  };
  const x = q.dtype === "float32" ? q : cast(q, "float32");
  return attention(x.reshape([B * L, H, E]), kv, starts, { bias: mask?.values });
}

function counts(device: Device, kvLengths: SdpaOptions["kvLengths"], B: number, S: number): Tensor {
  if (kvLengths && "buffer" in kvLengths) return kvLengths.reshape([B]);
  return tensor(device, kvLengths ?? Array<number>(B).fill(S), [B], "uint32");
}

interface FlatMask {
  values: Tensor;
  strides: [sequence: number, head: number, query: number, key: number];
}

/** The mask with one stride for all leading dimensions; they are repeated in memory only where no single stride can. */
function flatMask(mask: Tensor, qShape: Shape, { B, H, L, S }: SdpaSizes): FlatMask {
  const x = mask.dtype === "float16" || mask.dtype === "bfloat16" ? cast(mask, "float32") : mask;
  const full = [...qShape.slice(0, -3), H, L, S];
  const shape = [...Array<number>(full.length - x.shape.length).fill(1), ...x.shape];
  const strides = shape.map((n, i) => n === 1 ? 0 : elements(shape.slice(i + 1)));
  const [head = 0, query = 0, key = 0] = strides.slice(-3);
  const lead = Math.max(0, full.length - 3);
  const tail = elements(shape.slice(lead)), present = elements(shape.slice(0, lead));
  if (present === 1) return { values: x, strides: [0, head, query, key] };
  if (present === B) return { values: x, strides: [tail, head, query, key] };
  const rows = Array.from({ length: B }, (_, b) => {
    let rest = b, row = 0;
    for (let i = lead - 1; i >= 0; i--) {
      row += (rest % full[i]!) * strides[i]! / tail;
      rest = Math.floor(rest / full[i]!);
    }
    return row;
  });
  const values = gatherRows(x.reshape([present, tail]), tensor(x.device, rows, [B], "uint32"));
  return { values, strides: [tail, head, query, key] };
}

/** A tensor on the host. */
export interface HostTensor {
  /** Its elements, row by row. */
  data: ArrayLike<number>;
  /** Its shape. */
  shape: Shape;
}

/** {@linkcode SdpaOptions} of {@linkcode scaledDotProductAttentionReference}. */
export interface HostSdpaOptions extends Pick<SdpaOptions, "isCausal" | "scale" | "softcap" | "slidingWindow"> {
  /** The mask; `bool` where 0 hides a key and all else changes nothing. */
  attnMask?: HostTensor & { bool?: boolean };
  /** [H]. */
  alibiSlopes?: ArrayLike<number>;
  /** [H]. */
  sinks?: ArrayLike<number>;
  /** One a batch entry. */
  kvLengths?: ArrayLike<number>;
}

/** The same in plain loops and float64, on [B, H, L, E], [B, Hkv, S, E] and [B, Hkv, S, Ev]: what the kernels must equal. */
export function scaledDotProductAttentionReference(
  q: HostTensor,
  k: HostTensor,
  v: HostTensor,
  options: HostSdpaOptions = {},
): Float64Array {
  const [B = 0, H = 0, L = 0, E = 0] = q.shape, [, Hkv = 0, S = 0] = k.shape, Ev = v.shape.at(-1)!;
  const o = new Float64Array(B * H * L * Ev), weights = new Float64Array(S);
  const score = scoreReference(q, k, options);
  for (let b = 0; b < B; b++) {
    const keys = options.kvLengths?.[b] ?? S;
    for (let h = 0; h < H; h++) {
      const group = b * Hkv + Math.floor(h * Hkv / H), sink = options.sinks?.[h] ?? -Infinity;
      for (let i = 0; i < L; i++) {
        let most = sink, total = 0;
        const row = ((b * H + h) * L + i) * E;
        for (let j = 0; j < S; j++) {
          weights[j] = j < keys ? score(b, h, i, j, row, (group * S + j) * E) : -Infinity;
          most = Math.max(most, weights[j]!);
        }
        if (most === -Infinity) continue;
        for (let j = 0; j < S; j++) total += weights[j] = Math.exp(weights[j]! - most);
        total += Math.exp(sink - most);
        const to = ((b * H + h) * L + i) * Ev;
        for (let j = 0; j < S; j++) {
          const weight = weights[j]! / total, from = (group * S + j) * Ev;
          if (weight > 0) { for (let d = 0; d < Ev; d++) o[to + d]! += weight * v.data[from + d]!; }
        }
      }
    }
  }
  return o;
}

/** The score of one query and key, whose elements begin at `row` and `column`; -Infinity where it is hidden. */
function scoreReference(q: HostTensor, k: HostTensor, options: HostSdpaOptions) {
  const [, H = 0, L = 0, E = 0] = q.shape, [, , S = 0] = k.shape;
  const { attnMask, isCausal, scale = 1 / Math.sqrt(E), softcap, slidingWindow = Infinity, kvLengths } = options;
  const at = attnMask && broadcastIndex(attnMask.shape, [q.shape[0]!, H, L, S]);
  return (b: number, h: number, i: number, j: number, row: number, column: number): number => {
    const fromEnd = isCausal === "bottomRight" ? (kvLengths?.[b] ?? S) - L : isCausal ? 0 : S - L;
    const distance = i + fromEnd - j;
    if ((isCausal && distance < 0) || Math.abs(distance) >= slidingWindow) return -Infinity;
    let sum = 0;
    for (let d = 0; d < E; d++) sum += q.data[row + d]! * k.data[column + d]!;
    sum *= scale;
    if (softcap) sum = softcap * Math.tanh(sum / softcap);
    sum -= (options.alibiSlopes?.[h] ?? 0) * Math.abs(distance);
    if (!attnMask || !at) return sum;
    const m = attnMask.data[at(b, h, i, j)]!;
    if (attnMask.bool) return m ? sum : -Infinity;
    return m < -1e30 && m > -Infinity ? -1e30 : sum + m; // float32 loses the score beside such a number
  };
}

/** Where [b, h, i, j] of `full` lies in `shape`, which is broadcast to it. */
function broadcastIndex(shape: Shape, full: Shape): (...index: number[]) => number {
  const strides = full.map((_, i) => {
    const axis = shape.length - full.length + i;
    return axis < 0 || shape[axis] === 1 ? 0 : elements(shape.slice(axis + 1));
  });
  return (...index) => index.reduce((sum, n, i) => sum + n * strides[i]!, 0);
}
