import { assert, assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError, TensaurError, ValueError } from "../../src/errors.ts";
import { attention, attentionWeights, type KvLayout, kvLayout } from "../../src/ops/attention.ts";
import { type Dtype, empty, type Shape, type Tensor } from "../../src/tensor/mod.ts";
import { testDevice } from "../helpers.ts";

const device = await testDevice();
const other = await testDevice();
const t = (shape: Shape, dtype: Dtype = "float32", on = device): Tensor => empty(on, shape, dtype);
const layout = (more: Partial<KvLayout> = {}, on = device) =>
  kvLayout(on, {
    heads: 4,
    kvHeads: 2,
    sequenceStride: 0,
    headStride: 8,
    keyStride: 16,
    scale: 1,
    causal: true,
    ...more,
  });

// T 5 of B 2 sequences, H 4, Hkv 2, Dh 8, Ev 6
const right = { q: t([5, 4, 8]), k: t([5, 2, 8]), v: t([5, 2, 6]), cuSeqlens: t([3], "uint32"), geometry: layout() };
const added = layout({ bias: { strides: [0, 0, 0, 1], mask: false } });
const cached = layout({ sequenceStride: 80 });
const masked = layout({ bias: { strides: [0, 0, 0, 1], mask: true } });

interface Call {
  q: Tensor;
  k: Tensor;
  v: Tensor;
  cuSeqlens: Tensor;
  geometry: Tensor;
  past?: Tensor;
  cuSeqlensK?: Tensor;
  paged?: boolean;
  bias?: Tensor;
}
type Wrong = [name: string, given: Partial<Call>, kind: new (message: string) => Error, says: string];

const cases: Wrong[] = [
  ["q of rank 2", { q: t([4, 8]) }, ShapeError, "q must be [T, H, Dh]: current shape is [4, 8]"],
  ["q of rank 4", { q: t([1, 5, 4, 8]) }, ShapeError, "q must be [T, H, Dh]"],
  ["q of float16", { q: t([5, 4, 8], "float16") }, DtypeError, "q must be float32"],
  ["k of rank 2", { k: t([5, 16]) }, ShapeError, "k must have at least 3 dimensions: current value is [5, 16]"],
  ["k of integers", { k: t([5, 2, 8], "int32") }, DtypeError, "k must be float32 or float16"],
  ["k of longer heads", { k: t([5, 2, 16]) }, ShapeError, "a head of k must be as long as one of q, 8"],
  ["k of other heads than the layout", { k: t([5, 4, 8]), v: t([5, 4, 6]) }, ShapeError, "the 2 heads of its layout"],
  ["q of other heads than the layout", { q: t([5, 8, 8]) }, ShapeError, "q must have the 4 heads of its layout"],
  ["v of another dtype", { v: t([5, 2, 6], "float16") }, DtypeError, "v must be float32"],
  ["v of another rank", { v: t([1, 2, 5, 6]) }, ShapeError, "v must have the 3 dimensions of k"],
  ["v of other heads", { v: t([5, 4, 6]) }, ShapeError, "v must have the 2 heads of k"],
  ["a layout of float32", { geometry: t([40]) }, DtypeError, "geometry must be uint32"],
  [
    "heads that do not divide, in a layout nobody knows",
    { q: t([5, 3, 8]), geometry: t([40], "uint32") },
    ShapeError,
    "the heads of k must divide the 3 of q",
  ],
  ["cuSeqlens of int32", { cuSeqlens: t([3], "int32") }, DtypeError, "cuSeqlens must be uint32"],
  ["cuSeqlens of rank 2", { cuSeqlens: t([1, 3], "uint32") }, ShapeError, "cuSeqlens must have one dimension"],
  ["cuSeqlens of nothing", { cuSeqlens: t([0], "uint32") }, ShapeError, "cuSeqlens must be [B + 1]"],
  ["cuSeqlensK of another batch", { cuSeqlensK: t([2], "uint32") }, ShapeError, "cuSeqlensK must be [3], as cuSeqlens"],
  ["cuSeqlensK of float32", { cuSeqlensK: t([3]) }, DtypeError, "cuSeqlensK must be uint32"],
  ["past of another batch", { past: t([1], "uint32") }, ShapeError, "past must be [2], one a sequence"],
  ["past of float32", { past: t([2]) }, DtypeError, "past must be uint32"],
  ["past beside packed keys", { past: t([2], "uint32") }, ValueError, "past must be left out where keys are packed"],
  ["keys of a cache without past", { geometry: cached }, ValueError, "past must be there where keys are not packed"],
  ["pages of another batch", { past: t([7], "uint32"), paged: true }, ShapeError, "past must be [(2 + P) · 2]"],
  ["a bias that the layout lacks", { bias: t([5]) }, ValueError, "bias must be left out where its layout has none"],
  ["a layout whose bias is missing", { geometry: added }, ValueError, "bias must be there where its layout has one"],
  ["a bias of float16", { geometry: added, bias: t([5], "float16") }, DtypeError, "bias must be float32"],
  ["a bias where a mask is wanted", { geometry: masked, bias: t([5]) }, DtypeError, "bias must be uint32"],
  ["k on another device", { k: t([5, 2, 8], "float32", other) }, ValueError, "k must be on the device of q"],
  [
    "a layout on another device",
    { geometry: layout({}, other) },
    ValueError,
    "geometry must be on the device of q",
  ],
];

for (const [name, given, kind, says] of cases) {
  Deno.test(`attention() refuses ${name}, and nothing was dispatched`, () => {
    const { q, cuSeqlens, bias, ...kv } = { ...right, ...given } as Call;
    device.stream.flush();
    const before = { ...device.stream.counters, bytes: device.pool.stats.bytesInUse };
    const ops = [
      attention,
      (...[q, kv, starts, call]: Parameters<typeof attention>) => attentionWeights(q, kv, starts, 5, call),
    ];
    for (const [i, op] of name.startsWith("v ") ? [attention].entries() : ops.entries()) {
      const error = assertThrows(() => op(q, kv, cuSeqlens, { bias }), kind, says);
      assert(error instanceof TensaurError);
      const what = ["attention", "attentionWeights"][i];
      assert(new RegExp(`^Cannot run ${what} as .+ must .+: .+`).test(error.message), error.message);
    }
    device.stream.flush();
    assertEquals({ ...device.stream.counters, bytes: device.pool.stats.bytesInUse }, before);
  });
}

const layouts: [name: string, given: Partial<KvLayout>, kind: new (message: string) => Error, says: string][] = [
  ["key heads that do not divide", { kvHeads: 3 }, ShapeError, "the key heads must divide the query heads"],
  ["no key heads", { kvHeads: 0 }, ShapeError, "the key heads must divide the query heads"],
  ["slopes for other heads", { alibiSlopes: [1, 2] }, ShapeError, "alibiSlopes must be [4], one a head"],
  ["sinks for other heads", { sinks: [1] }, ShapeError, "sinks must be [4], one a head"],
  ["half a key for a window", { window: 0.5 }, ValueError, "window must be a whole number of keys"],
  ["a negative window", { window: -1 }, ValueError, "window must be a whole number of keys"],
  ["a scale that is no number", { scale: NaN }, ValueError, "scale must be finite"],
  ["an endless soft cap", { softcap: Infinity }, ValueError, "softcap not negative"],
  ["a relative bias of an even number of places", { relativeBias: t([4, 4]) }, ShapeError, "[2·M + 1, 4]"],
  ["a relative bias of other heads", { relativeBias: t([5, 2]) }, ShapeError, "[2·M + 1, 4]"],
];

for (const [name, given, kind, says] of layouts) {
  Deno.test(`kvLayout() refuses ${name}`, () => {
    const error = assertThrows(() => layout(given), kind, says);
    assert(/^Cannot run attention as .+ must .+: .+/.test(error.message), error.message);
  });
}
