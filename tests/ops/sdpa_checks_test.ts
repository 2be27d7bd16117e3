import { assert, assertEquals, assertThrows } from "@std/assert";
import { DtypeError, NotSupportedError, RuntimeError, ShapeError, TensaurError, ValueError } from "../../src/errors.ts";
import { scaledDotProductAttention, type SdpaOptions } from "../../src/ops/scaled_dot_product_attention.ts";
import { type Dtype, empty, type Shape, type Tensor } from "../../src/tensor/mod.ts";
import { testDevice } from "../helpers.ts";

const device = await testDevice();
const other = await testDevice();
const made: Tensor[] = [];
const t = (shape: Shape, dtype: Dtype = "float32", on = device): Tensor => {
  const x = empty(on, shape, dtype);
  made.push(x);
  return x;
};
const gone = t([2, 4, 3, 8]);
gone.dispose();

// B 2, H 4, L 3, E 8; Hkv 4, S 5, Ev 6
const q = t([2, 4, 3, 8]), k = t([2, 4, 5, 8]), v = t([2, 4, 5, 6]);

interface Wrong {
  q?: Tensor;
  k?: Tensor;
  v?: Tensor;
  options?: SdpaOptions;
  kind: new (message: string) => Error;
  says: string;
}
const any = (options: Record<string, unknown>) => options as SdpaOptions; // what a caller without types may pass

const cases: Record<string, Wrong> = {
  "q of rank 1": { q: t([8]), kind: ShapeError, says: "q must have at least 2 dimensions: current value is [8]" },
  "k of rank 1": { k: t([8]), kind: ShapeError, says: "k must have at least 2 dimensions" },
  "k of another rank": { k: t([4, 5, 8]), kind: ShapeError, says: "k must have as many dimensions as q, 4" },
  "v of another rank": { v: t([1, 2, 4, 5, 6]), kind: ShapeError, says: "v must have as many dimensions as q, 4" },
  "batch of k": { k: t([3, 4, 5, 8]), kind: ShapeError, says: "k must have the leading dimensions of q, [2, …]" },
  "batch of k that PyTorch would repeat": { k: t([1, 4, 5, 8]), kind: ShapeError, says: "leading dimensions of q" },
  "batch of v": { v: t([1, 4, 5, 6]), kind: ShapeError, says: "v must have the leading dimensions of q, [2, …]" },
  "head of k too short": { k: t([2, 4, 5, 7]), kind: ShapeError, says: "as long as one of q, 8" },
  "empty heads": { q: t([2, 4, 3, 0]), k: t([2, 4, 5, 0]), kind: ShapeError, says: "a head of q must not be empty" },
  "fewer values than keys": { v: t([2, 4, 4, 6]), kind: ShapeError, says: "a value for each of the 5 keys" },
  "value heads are not the key heads": { v: t([2, 2, 5, 6]), kind: ShapeError, says: "v must have the 4 heads of k" },
  "groups without enableGqa": {
    k: t([2, 2, 5, 8]),
    v: t([2, 2, 5, 6]),
    kind: ShapeError,
    says: "k must have the 4 heads of q: current value is [2, 2, 5, 8]",
  },
  "groups that do not divide": {
    k: t([2, 3, 5, 8]),
    v: t([2, 3, 5, 6]),
    options: { enableGqa: true },
    kind: ShapeError,
    says: "the heads of k must divide the 4 of q",
  },
  "more key heads than query heads": {
    k: t([2, 8, 5, 8]),
    v: t([2, 8, 5, 6]),
    options: { enableGqa: true },
    kind: ShapeError,
    says: "the heads of k must divide the 4 of q",
  },
  "no key heads": {
    k: t([2, 0, 5, 8]),
    v: t([2, 0, 5, 6]),
    options: { enableGqa: true },
    kind: ShapeError,
    says: "must divide",
  },
  "integers for queries": { q: t([2, 4, 3, 8], "int32"), kind: DtypeError, says: "q must be float32" },
  "integers for values": { v: t([2, 4, 5, 6], "uint32"), kind: DtypeError, says: "v must be float32" },
  "keys of another dtype": {
    k: t([2, 4, 5, 8], "float16"),
    kind: DtypeError,
    says: "k must have the dtype of q, float32",
  },
  "values of another dtype": { v: t([2, 4, 5, 6], "bfloat16"), kind: DtypeError, says: "v must have the dtype of q" },
  "a tensor that was disposed of": { q: gone, kind: ValueError, says: "must be alive" },
  "keys on another device": {
    k: t([2, 4, 5, 8], "float32", other),
    kind: ValueError,
    says: "k must be on the device of q",
  },
  "a mask on another device": {
    options: { attnMask: t([3, 5], "uint32", other) },
    kind: ValueError,
    says: "attnMask must be on the device of q",
  },
  "a mask of too many keys": {
    options: { attnMask: t([3, 6]) },
    kind: ShapeError,
    says: "broadcastable to [2, 4, 3, 5]",
  },
  "a mask of too many dimensions": {
    options: { attnMask: t([1, 2, 4, 3, 5]) },
    kind: ShapeError,
    says: "broadcastable",
  },
  "a mask of key heads": { options: { attnMask: t([2, 2, 3, 5]) }, kind: ShapeError, says: "broadcastable" },
  "a mask of int32": {
    options: { attnMask: t([3, 5], "int32") },
    kind: DtypeError,
    says: "attnMask must be uint32 (bool)",
  },
  "a mask and isCausal": {
    options: { attnMask: t([3, 5]), isCausal: true },
    kind: RuntimeError,
    says: "attnMask must not be set where isCausal is true",
  },
  "isCausal of an unknown name": { options: any({ isCausal: "lower" }), kind: ValueError, says: "isCausal must be" },
  "a scale that is no number": { options: { scale: NaN }, kind: ValueError, says: "scale must be a finite number" },
  "an infinite scale": { options: { scale: Infinity }, kind: ValueError, says: "scale must be a finite number" },
  "a negative soft cap": {
    options: { softcap: -1 },
    kind: ValueError,
    says: "softcap must be finite and not negative",
  },
  "a soft cap that is no number": { options: { softcap: NaN }, kind: ValueError, says: "softcap must be finite" },
  "a window of no key": { options: { slidingWindow: 0 }, kind: ValueError, says: "a whole number of keys from 1" },
  "a window of half a key": {
    options: { slidingWindow: 1.5 },
    kind: ValueError,
    says: "a whole number of keys from 1",
  },
  "slopes for other heads": { options: { alibiSlopes: [1, 2] }, kind: ShapeError, says: "alibiSlopes must be [4]" },
  "slopes of rank 2": { options: { alibiSlopes: t([4, 1]) }, kind: ShapeError, says: "alibiSlopes must be [4]" },
  "slopes of float16": { options: { alibiSlopes: t([4], "float16") }, kind: DtypeError, says: "must be float32" },
  "slopes that are no numbers": { options: { alibiSlopes: [1, 2, 3, NaN] }, kind: ValueError, says: "finite numbers" },
  "sinks for other heads": { options: { sinks: t([5]) }, kind: ShapeError, says: "sinks must be [4], one a head" },
  "lengths for another batch": { options: { kvLengths: [5] }, kind: ShapeError, says: "each of the 2 batch entries" },
  "lengths on the GPU for another batch": {
    options: { kvLengths: t([3], "uint32") },
    kind: ShapeError,
    says: "each of the 2",
  },
  "lengths of float32": { options: { kvLengths: t([2]) }, kind: DtypeError, says: "kvLengths must be uint32" },
  "a length beyond the keys": { options: { kvLengths: [5, 6] }, kind: ValueError, says: "whole numbers from 0 to 5" },
  "a negative length": { options: { kvLengths: [-1, 5] }, kind: ValueError, says: "whole numbers from 0 to 5" },
  "lengths and a window that nothing aligns": {
    options: { kvLengths: [5, 4], slidingWindow: 2 },
    kind: ValueError,
    says: "isCausal must say where the 3 queries stand among 5 keys",
  },
  "dropout": { options: { dropoutP: 0.1 }, kind: NotSupportedError, says: "dropoutP must be 0, for inference" },
  "dropout that is no number": { options: { dropoutP: NaN }, kind: NotSupportedError, says: "dropoutP must be 0" },
  "enableGqa that is no flag": {
    options: any({ enableGqa: 1 }),
    kind: ValueError,
    says: "enableGqa must be true or false",
  },
  "an option of another name": {
    options: any({ is_causal: true }),
    kind: ValueError,
    says: "current value is is_causal",
  },
};

for (const [name, { kind, says, options, ...tensors }] of Object.entries(cases)) {
  Deno.test(`scaledDotProductAttention() refuses ${name}, and nothing was dispatched`, () => {
    device.stream.flush();
    const before = { ...device.stream.counters, bytes: device.pool.stats.bytesInUse };
    const args = { q, k, v, ...tensors };
    const error = assertThrows(() => scaledDotProductAttention(args.q, args.k, args.v, options), kind, says);
    assert(error instanceof TensaurError);
    if (name !== "a tensor that was disposed of") {
      assert(/^Cannot run scaledDotProductAttention as .+ must .+: .+/.test(error.message), error.message);
    }
    device.stream.flush();
    assertEquals({ ...device.stream.counters, bytes: device.pool.stats.bytesInUse }, before);
  });
}

Deno.test("scaledDotProductAttention() keeps no bytes but those of its result", () => {
  const before = device.pool.stats.bytesInUse;
  const options = { attnMask: t([2, 1, 3, 5], "float16"), sinks: [0, 0, 0, 0], kvLengths: [2, 5] };
  const masked = device.pool.stats.bytesInUse;
  const y = scaledDotProductAttention(q, k, v, options);
  y.dispose();
  assertEquals(device.pool.stats.bytesInUse - masked, 0);
  options.attnMask.dispose();
  assertEquals(device.pool.stats.bytesInUse, before);
});
