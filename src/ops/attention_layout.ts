/**
 * Where queries, keys and values lie, and which keys a query sees: the words that every attention kernel reads.
 *
 * @module
 */
import { ShapeError, ValueError } from "../errors.ts";
import type { Device } from "../gpu/mod.ts";
import { empty, keep, type Tensor, tensor } from "../tensor/mod.ts";

/** Keys and values as the attention kernels read them. */
export interface KeyValues {
  /**
   * Keys: float32, float16 or bfloat16. `[…, Hkv, S, Dh]`, or `[T, Hkv, Dh]` where packed: the shape tells Hkv (the
   * second dimension) and Dh (the last), the strides of the layout tell the rest.
   */
  readonly k: Tensor;
  /** Values `[…, Hkv, S, Ev]` or `[T, Hkv, Ev]` of the same dtype; Ev may differ from Dh. */
  readonly v: Tensor;
  /** What {@linkcode kvLayout} made. */
  readonly geometry: Tensor;
  /** What the layout's `counts` says: `"past"` or `"lengths"` [B] uint32. */
  readonly past?: Tensor;
  /** [B + 1] uint32: where packed keys begin, if not where the queries do. */
  readonly cuSeqlensK?: Tensor;
  /**
   * Keys lie in pages of 64 tokens: `past` is [(2 + P) · B], the keys before this batch, how far each ring is turned, and
   * the P pages of each sequence; `sequenceStride` is from one page to the next.
   */
  readonly paged?: boolean;
}

/** Keys and values of a cache, whose layout's `counts` is `"past"`. */
export type CachedKeyValues = KeyValues & { readonly past: Tensor };

/** Elements from one item to the next. */
export interface Strides {
  /** From one sequence to the next. */
  sequenceStride: number;
  /** From one head to the next. */
  headStride: number;
  /** From one key (or token) to the next. */
  keyStride: number;
}

/** Numbers that say how keys lie and which of them a query sees; `kvLayout` puts them on the GPU. */
export interface KvLayout extends Strides {
  /** Query heads. */
  heads: number;
  /** Key and value heads; divides `heads`. */
  kvHeads: number;
  /** Of the values, where they do not lie as the keys. */
  values?: Strides;
  /**
   * Which tensor says how many keys a sequence has: `"starts"`: `cuSeqlensK` (or `cuSeqlens`) [B + 1], keys are packed;
   * `"past"`: [B] keys before this batch, to which the batch's tokens are added; `"lengths"`: [B] keys in all.
   * Default: `"starts"` where `sequenceStride` is 0, else `"past"`.
   */
  counts?: "starts" | "past" | "lengths";
  /** Factor of the scores. */
  scale: number;
  /**
   * A query sees no key after its own. Where queries and keys differ in number, `true` (as `"bottomRight"`) puts the last
   * query at the last key, which a cache wants; `"topLeft"` puts query i at key i, as PyTorch's `is_causal` does.
   */
  causal: boolean | "bottomRight" | "topLeft";
  /** Where queries stand among their keys, for what is not causal too. Default: as `causal` says. */
  align?: "bottomRight" | "topLeft";
  /** A query sees only the last `window` keys, its own included (without `causal`: as many after its own); 0 for all. */
  window?: number;
  /** Scores become `softcap · tanh(score / softcap)`; 0 for not. */
  softcap?: number;
  /** [H]: `slope · |query's place - key's place|` is subtracted from each score. */
  alibiSlopes?: Tensor | readonly number[];
  /** [H]: a score that takes part in the softmax and has no value. */
  sinks?: Tensor | readonly number[];
  /** How `bias` of the call lies: elements from one sequence, head, query and key to the next; 0 where it repeats. */
  bias?: { strides: readonly [number, number, number, number]; mask: boolean };
  /**
   * [2·M + 1, H]: the call's `bias` is this, added by the key's place less its query's, from -M to M; farther ones get what
   * the outermost get.
   */
  relativeBias?: Tensor;
  /**
   * How q lies, if not as [T, H, Dh]: token t of sequence b begins at `b · sequenceStride + t · keyStride`, t counted over
   * the whole batch. `[B, H, L, Dh]` has keyStride Dh, headStride L·Dh and sequenceStride (H - 1)·L·Dh.
   */
  queries?: Strides;
  /** The same for the result. */
  results?: Strides;
  /** In pages: `staying` keys at the front stay, and `length` keys behind them go round. Default: none goes round. */
  ring?: { staying: number; length: number };
}

const layouts = new WeakMap<Tensor, KvLayout>();

/** What {@linkcode kvLayout} was given for `geometry`; undefined if another made it, which may then say anything. */
export function layoutOf(geometry: Tensor): KvLayout | undefined {
  return layouts.get(geometry);
}

/** Which tensor says how many keys a sequence has. */
export function countsOf(l: KvLayout): "starts" | "past" | "lengths" {
  return l.counts ?? (l.sequenceStride === 0 ? "starts" : "past");
}

/** Whether a layout caps scores; one that another made may. */
export function mayCap(geometry: Tensor): boolean {
  const layout = layouts.get(geometry);
  return !layout || !!layout.softcap;
}

const HEADER = 32, FIRST_STRIDE = 2, ALL_KEYS = 2 ** 30, NO_SINK = -1e30;

/**
 * A {@linkcode KvLayout} on the GPU: 32 words (include/kv.wgsl names them), the slopes, the sinks.
 *
 * @throws {ShapeError} if the heads do not divide, or there is not one slope or sink a head
 * @throws {ValueError} if a number is out of range
 */
export function kvLayout(device: Device, l: KvLayout): Tensor {
  check(l);
  const causal = l.causal !== false;
  const before = l.window ? l.window - 1 : ALL_KEYS, after = causal ? 0 : before;
  const words = new Uint32Array(HEADER + 2 * l.heads), floats = new Float32Array(words.buffer);
  words.set([l.heads, l.kvHeads, ...strides(l), ...strides(l.values ?? l)]);
  floats.set([l.scale, l.softcap ?? 0], 8);
  words.set(
    [before, after, ["starts", "past", "lengths"].indexOf(countsOf(l)), (l.align ?? l.causal) === "topLeft" ? 1 : 0],
    10,
  );
  const relative = l.relativeBias && [0, 1, 0, l.heads];
  words.set([...relative ?? l.bias?.strides ?? [0, 0, 0, 0], l.bias?.mask ? 1 : 0], 14);
  words.set([...strides(l.queries), ...strides(l.results)], 19);
  words.set([l.ring?.staying ?? 0, l.ring?.length ?? ALL_KEYS, reachOf(l)], 25);
  floats.fill(NO_SINK, HEADER + l.heads);
  const perHead = [l.alibiSlopes, l.sinks].map((x) => x ?? []);
  for (const [i, x] of perHead.entries()) if (isList(x)) floats.set(x, HEADER + i * l.heads);
  const geometry = tensor(device, words, [words.length], "uint32");
  for (const [i, x] of perHead.entries()) {
    const at = geometry.byteOffset + 4 * (HEADER + i * l.heads);
    if (!isList(x)) device.stream.copy(x.buffer.gpu, x.byteOffset, geometry.buffer.gpu, at, 4 * l.heads);
  }
  layouts.set(geometry, l);
  return geometry;
}

/** A copy of what {@linkcode kvLayout} made, with a life of its own. */
export function copyKvLayout(geometry: Tensor): Tensor {
  const { device, byteLength } = geometry;
  const to = keep(device, empty(device, geometry.shape, geometry.dtype));
  device.stream.copy(geometry.buffer.gpu, geometry.byteOffset, to.buffer.gpu, to.byteOffset, byteLength);
  const layout = layouts.get(geometry);
  if (layout) layouts.set(to, layout);
  return to;
}

/** Writes other strides into what {@linkcode kvLayout} made, when the keys have moved to a larger buffer. */
export function setKvStrides(geometry: Tensor, keys: Strides, values: Strides = keys): void {
  const words = new Uint32Array([...strides(keys), ...strides(values)]);
  const at = geometry.byteOffset + 4 * FIRST_STRIDE;
  geometry.device.stream.write(geometry.buffer, at, new Uint8Array(words.buffer));
}

function strides(s?: Strides): [number, number, number] {
  return s ? [s.sequenceStride, s.headStride, s.keyStride] : [0, 0, 0];
}

function isList(x: Tensor | readonly number[]): x is readonly number[] {
  return Array.isArray(x);
}

/** M of a bias [2·M + 1, H]; 0 without one. */
function reachOf({ relativeBias, heads }: KvLayout): number {
  if (!relativeBias) return 0;
  const [places = 0, H] = relativeBias.shape, reach = (places - 1) / 2;
  if (Number.isInteger(reach) && reach > 0 && H === heads && relativeBias.shape.length === 2) return reach;
  throw new ShapeError(
    `Cannot run attention as relativeBias must be [2·M + 1, ${heads}]: current shape is [${relativeBias.shape}]`,
  );
}

function check(l: KvLayout): void {
  if (!(l.heads > 0 && l.kvHeads > 0 && l.heads % l.kvHeads === 0)) {
    throw new ShapeError(
      `Cannot run attention as the key heads must divide the query heads: there are ${l.kvHeads} and ${l.heads}`,
    );
  }
  for (const [name, x] of Object.entries({ alibiSlopes: l.alibiSlopes, sinks: l.sinks })) {
    const n = x === undefined ? l.heads : isList(x) ? x.length : x.size;
    if (n === l.heads) continue;
    throw new ShapeError(`Cannot run attention as ${name} must be [${l.heads}], one a head: current shape is [${n}]`);
  }
  const window = l.window ?? 0, softcap = l.softcap ?? 0;
  if (!(Number.isInteger(window) && window >= 0)) {
    throw new ValueError(`Cannot run attention as window must be a whole number of keys: current value is ${window}`);
  }
  if (!(Number.isFinite(l.scale) && softcap >= 0 && Number.isFinite(softcap))) {
    throw new ValueError(
      `Cannot run attention as scale must be finite and softcap not negative: they are ${l.scale} and ${softcap}`,
    );
  }
}
