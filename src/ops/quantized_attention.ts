/**
 * Attention over keys and values in codes.
 *
 * @module
 */
import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/quantized_attention.wgsl" with { type: "text" };
import subgroupWgsl from "../shaders/quantized_attention_subgroup.wgsl" with { type: "text" };
import { empty, type Tensor } from "../tensor/mod.ts";
import { powerOfTwo } from "./attention_choice.ts";
import { mergeSplits, subgroupSize } from "./attention_launch.ts";
import { type CodedKv, type KvScheme, modeOf, storedBits } from "./kv_quantization.ts";
import { dtypeFlags } from "./pack_weight.ts";

const attend = kernel("quantized_attention", wgsl);
const attendBySubgroup = kernel("quantized_attention_subgroup", subgroupWgsl);

/** How {@linkcode quantizedAttention} attends. */
export interface QuantizedAttentionOptions {
  /** Factor of the scores. */
  scale: number;
  /** A token sees only the last `window` tokens, itself included. Default 0: all. */
  window?: number;
  /** Scores become `softcap · tanh(score / softcap)`. Default 0: they stay. */
  softcap?: number;
  /** What is needed to split the keys of a sequence between workgroups, as should be done where there are many. */
  split?: {
    /** About as many keys as a sequence has. */
    keys: number;
    /** As `kvLayout` makes it for the query heads. */
    geometry: Tensor;
  };
}

/** A call whose overrides are known. */
interface Call {
  q: Tensor;
  kv: CodedKv;
  cuSeqlens: Tensor;
  kvHeads: number;
  scheme: KvScheme;
  overrides: Record<string, number>;
  split: QuantizedAttentionOptions["split"];
}

/**
 * Attention over keys and values in codes and in the rest, the batch's own being the last of the rest; causal.
 *
 * @param q [T, H, Dh] float32
 * @returns [T, H, Dh] float32
 */
export function quantizedAttention(
  q: Tensor,
  kv: CodedKv,
  cuSeqlens: Tensor,
  kvHeads: number,
  scheme: KvScheme,
  { scale, window = 0, softcap = 0, split }: QuantizedAttentionOptions,
): Tensor {
  const [, H = 0, Dh = 0] = q.shape, run = runOf(scheme, Dh);
  const overrides = {
    ...{ H, HKV: kvHeads, G: scheme.group, SCALE: scale, WINDOW: window },
    ...softcap ? { SOFTCAP: softcap } : {},
  };
  const call = { q, kv, cuSeqlens, kvHeads, scheme, overrides, split };
  return run && subgroupSize(q.device) >= 8 ? attendToRuns(call, run) : attendToAny(call);
}

/** Elements of a head that share a scale and are whole words of codes, 0 where there are no such runs. */
function runOf(scheme: KvScheme, headDim: number): number {
  if (scheme.keys !== "consecutive" || scheme.values !== "consecutive") return 0;
  let [run, rest] = [scheme.group, headDim];
  while (rest > 0) [run, rest] = [rest, run % rest]; // their greatest common divisor
  return run * storedBits(scheme) % 32 === 0 ? run : 0;
}

function attendToRuns({ q, kv, cuSeqlens, kvHeads, scheme, overrides, split }: Call, run: number): Tensor {
  const { words, rest, counts } = kv, { device } = q;
  const [T = 0, H = 0, Dh = 0] = q.shape, bits = storedBits(scheme), lanes = subgroupSize(device);
  const group = H / kvHeads, rows = powerOfTwo(Math.min(group, 8)), tiles = kvHeads * Math.ceil(group / rows);
  const [busy, piece] = device.isCpu ? [8, 1024] : [512, 256]; // workgroups that keep a device busy, keys worth one
  const most = Math.min(Math.ceil(busy / Math.max(1, T * tiles)), Math.floor((split?.keys ?? 0) / piece), 64);
  const splits = Math.max(1, most), ofKey = Dh * bits / 32, span = Math.min(lanes, powerOfTwo(ofKey));
  const o = empty(device, q.shape);
  using parts = splits > 1 ? empty(device, [T * H, splits, Dh + 2]) : undefined;
  attendBySubgroup(device, {
    flags: {
      ...dtypeFlags(rest.dtype),
      ...{ SUBGROUPS: true, WIDE: scheme.wide, CAP: "SOFTCAP" in overrides, SPLIT: splits > 1 },
    },
    consts: {
      ...{ DH: Dh, ROWS: rows, KEYS: rows === 8 ? 1 : 2, LANES: lanes, SPAN: span, HELD: Math.ceil(ofKey / span) },
      ...{ BITS: bits, FOURS: 8 / bits, RUN: run, HALVINGS: Math.log2(lanes) },
    },
    overrides,
    bindings: { q, words, rest, cuSeqlens, counts, o: parts ?? o },
    grid: [splits, T, tiles],
  });
  if (parts) mergeSplits(parts, { cuSeqlens, geometry: split!.geometry, counts, o });
  return o;
}

function attendToAny({ q, kv: { words, rest, counts }, cuSeqlens, scheme, overrides }: Call): Tensor {
  const [T = 0, H = 0, Dh = 0] = q.shape, o = empty(q.device, q.shape);
  attend(q.device, {
    flags: { ...dtypeFlags(rest.dtype), WIDE: scheme.wide, CAP: "SOFTCAP" in overrides },
    consts: { DH: Dh, QUADS: powerOfTwo(Dh / 4) },
    overrides: { ...overrides, BITS: storedBits(scheme), K_MODE: modeOf(scheme, 0), V_MODE: modeOf(scheme, 1) },
    bindings: { q, words, rest, cuSeqlens, counts, o },
    grid: [T * H],
  });
  return o;
}
