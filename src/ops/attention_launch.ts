/**
 * Launches of the attention kernels, once it is chosen which runs.
 *
 * @module
 */
import { type Device, kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/attention.wgsl" with { type: "text" };
import mergeWgsl from "../shaders/attention_merge.wgsl" with { type: "text" };
import productWgsl from "../shaders/attention_product.wgsl" with { type: "text" };
import rowsWgsl from "../shaders/attention_rows.wgsl" with { type: "text" };
import subgroupWgsl from "../shaders/attention_subgroup.wgsl" with { type: "text" };
import weightsWgsl from "../shaders/attention_weights.wgsl" with { type: "text" };
import { empty, type Tensor } from "../tensor/mod.ts";
import { type AttentionChoice, powerOfTwo } from "./attention_choice.ts";
import { type KeyValues, mayCap } from "./attention_layout.ts";
import { dtypeFlags } from "./pack_weight.ts";

const attend = kernel("attention", wgsl);
const attendBySubgroup = kernel("attention_subgroup", subgroupWgsl);
const attendByRows = kernel("attention_rows", rowsWgsl);
const merge = kernel("attention_merge", mergeWgsl);
const weigh = kernel("attention_weights", weightsWgsl);
const multiply = kernel("attention_product", productWgsl);

/** A call of attention whose arguments are checked. */
export interface AttentionLaunch {
  /** [T, H, Dh]; with `fresh` [T, (H + 2·Hkv)·Dh]. */
  q: Tensor;
  /** `q` is the projection of one token a sequence: what turns its queries and keys, if anything does. */
  fresh?: { table?: Tensor; positions?: Tensor };
  /** Keys and values. */
  kv: KeyValues;
  /** [B + 1]. */
  cuSeqlens: Tensor;
  /** Added to the scores. */
  bias?: Tensor;
}

/** Runs the kernel that was chosen into `o` [T, H, Ev]; `keys`: as many as a sequence may have. */
export function launchAttention(call: AttentionLaunch, choice: AttentionChoice, keys: number, o: Tensor): void {
  if (choice.body === "matrix") launchMatrix(call, keys, o);
  else launchTiles(call, choice, o);
}

/** A workgroup a tile of queries; where keys are split, a second kernel puts the parts together. */
function launchTiles(
  call: AttentionLaunch,
  { body, rows, pack, keysPerLane, splits }: AttentionChoice,
  o: Tensor,
): void {
  const { q, fresh, kv: { k, v, geometry, paged }, cuSeqlens, bias } = call;
  const { device } = q, table = fresh?.table;
  const [T = 0, H = 0, Ev = 0] = o.shape, kvHeads = k.shape[1]!, Dh = k.shape.at(-1)!, quads = Math.ceil(Ev / 4);
  const lanes = body === "subgroup" ? subgroupSize(device) : device.isCpu ? 8 : 64;
  const span = Math.min(lanes, powerOfTwo(quads)), tokens = Math.floor(rows / pack);
  const byFour = Dh % 4 === 0 && Ev % 4 === 0;
  const tiles = tokens === 1 ? T : Math.floor(T / tokens) + cuSeqlens.size - 1; // as attention_tile.wgsl counts them
  const counts = countsOf(call);
  using parts = splits > 1 ? empty(device, [T * H, splits, 4 * quads + 2]) : undefined;
  const [launch, flags, consts] = body === "subgroup"
    ? [attendBySubgroup, { SUBGROUPS: true, SPLIT: splits > 1, BARRIER: !!fresh && !device.isCpu }, {
      SPAN: span,
      HELD: Math.ceil(quads / span),
      ASKED: Math.ceil(Dh / 4 / lanes),
      HALVINGS: Math.log2(lanes),
    }] as const
    : body === "rows"
    ? [attendByRows, {}, { MINE: rows / lanes, ASKED: byFour ? 4 : 2, HELD: 2 }] as const
    : [attend, { SPLIT: splits > 1 }, { SPAN: span, HELD: Math.ceil(quads / span) }] as const;
  launch(device, {
    flags: {
      ...dtypeFlags(k.dtype),
      ...flags,
      BY_4: byFour,
      BIAS: bias !== undefined,
      CAP: mayCap(geometry),
      MAPPED: !!paged,
      FRESH: !!fresh,
      ROPE: !!table,
    },
    consts: { DH: Dh, DV: Ev, ROWS: rows, PACK: pack, KEYS: keysPerLane, LANES: lanes, ...consts },
    overrides: table ? { HALF: table.shape.at(-1)! } : undefined,
    bindings: { q, k, v, cuSeqlens, geometry, counts, o: parts ?? o, bias, table, positions: fresh?.positions },
    grid: [splits, tiles, kvHeads * Math.ceil(H / kvHeads / pack)],
  });
  if (parts) mergeSplits(parts, { cuSeqlens, geometry, counts, o });
}

/** Puts the results of splits together in `o` [T, H, Ev]; `parts` are as attention_merge.wgsl has them. */
export function mergeSplits(
  parts: Tensor,
  { o, ...call }: { cuSeqlens: Tensor; geometry: Tensor; counts: Tensor; o: Tensor },
): void {
  const [T = 0, H = 0, Ev = 0] = o.shape;
  merge(o.device, {
    consts: { DV: Ev },
    bindings: { parts, ...call, o },
    grid: [Math.ceil((T * H * Math.ceil(Ev / 4)) / 64)],
  });
}

/** All weights, then their product with the values. */
function launchMatrix(call: AttentionLaunch, keys: number, o: Tensor): void {
  const { q, kv: { k, v, geometry, paged }, cuSeqlens } = call;
  const [T = 0, H = 0, Dh = 0] = q.shape, Ev = o.shape[2]!;
  using p = launchWeights(call, keys);
  multiply(q.device, {
    flags: { ...dtypeFlags(k.dtype), BY_4: Dh % 4 === 0 && Ev % 4 === 0, MAPPED: !!paged },
    consts: { DH: Dh, DV: Ev },
    bindings: { p, k, v, cuSeqlens, geometry, counts: countsOf(call), o },
    grid: [Math.ceil((T * H * Math.ceil(Ev / 4)) / 64)],
  });
}

/** The weights [H, T, keys]. */
export function launchWeights(call: Omit<AttentionLaunch, "kv"> & { kv: Omit<KeyValues, "v"> }, keys: number): Tensor {
  const { q, kv: { k, geometry, paged }, cuSeqlens, bias } = call;
  const [T = 0, H = 0, Dh = 0] = q.shape;
  const p = empty(q.device, [H, T, keys]);
  weigh(q.device, {
    flags: { ...dtypeFlags(k.dtype), BIAS: bias !== undefined, MAPPED: !!paged },
    consts: { DH: Dh },
    bindings: { q, k, cuSeqlens, geometry, counts: countsOf(call), p, bias },
    grid: [T * H],
  });
  return p;
}

/** What the shader's `counts` is bound to. */
function countsOf(
  { kv: { past, cuSeqlensK }, cuSeqlens }: { kv: Omit<KeyValues, "k" | "v">; cuSeqlens: Tensor },
): Tensor {
  return past ?? cuSeqlensK ?? cuSeqlens;
}

/** Threads of every subgroup; 0 where there are none, or their number varies. */
export function subgroupSize({ features, info }: Device): number {
  const { subgroupMinSize = 0, subgroupMaxSize = 0 } = info as GPUAdapterInfo & Record<string, number>;
  return features.subgroups && subgroupMinSize === subgroupMaxSize ? subgroupMinSize : 0;
}
