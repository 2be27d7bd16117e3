import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/errors.ts";
import type { Device } from "../../src/gpu/mod.ts";
import { canStoreKv, qkvRope, qkvRopeReference, qkvRopeStore, type QueryKeyValue } from "../../src/ops/qkv_rope.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { tensor, tidy } from "../../src/tensor/mod.ts";
import { assertClose, randn, random, testDevice } from "../helpers.ts";

const device = await testDevice();
const wide: Device = Object.create(device, { isCpu: { value: false } }); // chooses the kernel that GPUs get
type Shape = [tokens: number, heads: number, kvHeads: number, headDim: number, half: number];
const odd: Shape = [5, 6, 2, 13, 3];
const splits = { name: "splits only", rope: false, norm: false, interleaved: false, on: device };
const rotates = { name: "rotates", rope: true, norm: false, interleaved: false, on: device };
const norms = { name: "norms and rotates", rope: true, norm: true, interleaved: false, on: device };
const cases: [form: typeof splits, ...shapes: Shape[]][] = [
  // multi-query, grouped, multi-head; partly rotated, odd, wider than a workgroup
  [splits, odd],
  [rotates, [1, 1, 1, 2, 1], odd, [3, 4, 1, 64, 32]],
  [{ ...rotates, name: "rotates pairs side by side", interleaved: true }, odd],
  [norms, odd, [2, 2, 2, 256, 64]],
  [{ ...norms, name: "norms only", rope: false }, odd],
  [{ ...norms, name: "norms and rotates with a workgroup a head", on: wide }, odd, [2, 2, 2, 256, 64]],
];
for (const [{ name, rope, norm, interleaved, on }, ...shapes] of cases) {
  for (const [tokens, heads, kvHeads, headDim, half] of shapes) {
    Deno.test(`qkvRope() ${name} at ${tokens} tokens, ${heads}/${kvHeads} heads of ${headDim}`, async () => {
      const qkv = randn(tokens * (heads + 2 * kvHeads) * headDim), table = randn(30 * 2 * half, 2), next = random(3);
      const positions = Uint32Array.from({ length: tokens }, () => Math.floor(next() * 30));
      const norms = norm ? { q: randn(headDim, 4), k: randn(headDim, 5) } : undefined;
      const got = tidy(on, () =>
        qkvRope(
          tensor(on, qkv, [tokens, qkv.length / tokens]),
          rope ? tensor(on, table, [30, 2, half]) : undefined,
          rope ? tensor(on, positions, [tokens], "uint32") : undefined,
          {
            heads,
            kvHeads,
            headDim,
            interleaved,
            qNorm: norms && tensor(on, norms.q, [headDim]),
            kNorm: norms && tensor(on, norms.k, [headDim]),
            eps: 1e-5,
          },
        ));
      const shape = { heads, kvHeads, headDim, half: rope ? half : 0, interleaved, eps: 1e-5 };
      const want = qkvRopeReference(qkv, rope ? table : undefined, positions, shape, norms);
      for (const part of ["q", "k", "v"] satisfies (keyof QueryKeyValue)[]) {
        using t = got[part];
        assertClose(part, await t.read(), want[part]);
      }
    });
  }
}

const stores = [
  // dtype, heads of, rotated pairs, normed, side by side
  ["float32", 12, 3, false, false],
  ["float32", 8, 4, true, true],
  ["float16", 8, 0, false, false],
  ["float16", 12, 4, false, false],
  ["float16", 64, 32, true, false],
  ["float16", 8, 2, false, true],
] as const;
for (const [dtype, headDim, half, norm, interleaved] of stores) {
  const what = `${half} pairs${norm ? ", normed" : ""}${interleaved ? ", side by side" : ""}`;
  Deno.test(`qkvRopeStore() writes ${dtype} keys and values behind those that are there: ${what}`, async () => {
    const lengths = [2, 0, 3], past = [1, 4, 0], capacity = 5, heads = 3, kvHeads = 2;
    const tokens = 5, filled = lengths.length * kvHeads * capacity * headDim;
    const qkv = randn(tokens * (heads + 2 * kvHeads) * headDim), table = randn(8 * 2 * half, 2);
    const positions = Uint32Array.from([1, 2, 0, 1, 2]);
    const norms = norm ? { q: randn(headDim, 4), k: randn(headDim, 5) } : undefined;
    const shape = { heads, kvHeads, headDim, half, interleaved, eps: 1e-6 };
    const want = qkvRopeReference(qkv, half ? table : undefined, positions, shape, norms);
    const into = tidy(device, () => {
      const kv = { k: tensor(device, Array(filled).fill(7), [3, kvHeads, capacity, headDim], dtype) };
      const target = { ...kv, v: zeros(device, kv.k.shape, dtype), past: tensor(device, past, [3], "uint32") };
      const options = {
        ...{ heads, kvHeads, headDim, interleaved },
        ...norms && { qNorm: tensor(device, norms.q, [headDim]), kNorm: tensor(device, norms.k, [headDim]) },
      };
      const turn = half ? tensor(device, table, [8, 2, half]) : undefined;
      assertEquals(canStoreKv(device, options, turn), half % 2 === 0);
      const starts = tensor(device, [0, 2, 2, 5], [4], "uint32"), at = tensor(device, positions, [tokens], "uint32");
      const q = qkvRopeStore(tensor(device, qkv, [tokens, 7 * headDim]), turn, at, options, target, starts);
      return { ...target, q };
    });
    assertClose("q", await into.q.read(), want.q);
    for (const [part, before] of [["k", 7], ["v", 0]] as const) {
      const all = new Float32Array(filled).fill(before);
      for (const [token, sequence, slot] of [[0, 0, 1], [1, 0, 2], [2, 2, 0], [3, 2, 1], [4, 2, 2]] as const) {
        for (let head = 0; head < kvHeads; head++) {
          const from = (token * kvHeads + head) * headDim;
          const row = want[part].subarray(from, from + headDim);
          all.set(row, ((sequence * kvHeads + head) * capacity + slot) * headDim);
        }
      }
      const tolerance = dtype === "float32" ? {} : { rtol: 1e-3, atol: 1e-6 };
      assertClose(part, Float32Array.from(await into[part].read()), all, tolerance);
    }
    for (const t of Object.values(into)) t.dispose();
  });
}

for (const dtype of ["float32", "float16"] as const) {
  Deno.test(`qkvRopeStore() writes ${dtype} keys and values into the pages of their sequence`, async () => {
    const kvHeads = 2, headDim = 4, pages = 4, tokens = 5, table = [3, 0, /* of the second: */ 1, 2];
    const qkv = randn(tokens * 6 * headDim), shape = { heads: 2, kvHeads, headDim, half: 0 };
    const want = qkvRopeReference(qkv, undefined, [], shape);
    const into = tidy(device, () => {
      const k = zeros(device, [1, kvHeads, 64 * pages, headDim], dtype), v = zeros(device, k.shape, dtype);
      const past = tensor(device, [62, 1, 0, 0, ...table], [8], "uint32"); // the first sequence goes on to its next page
      const starts = tensor(device, [0, 3, 5], [3], "uint32"), packed = tensor(device, qkv, [tokens, 6 * headDim]);
      qkvRopeStore(packed, undefined, undefined, shape, { k, v, past, paged: true }, starts);
      return { k, v };
    });
    for (const part of ["k", "v"] as const) {
      const all = new Float32Array(pages * kvHeads * 64 * headDim);
      for (const [token, page, slot] of [[0, 3, 62], [1, 3, 63], [2, 0, 0], [3, 1, 1], [4, 1, 2]] as const) {
        for (let head = 0; head < kvHeads; head++) {
          const from = (token * kvHeads + head) * headDim;
          all.set(want[part].subarray(from, from + headDim), ((head * pages + page) * 64 + slot) * headDim);
        }
      }
      const tolerance = dtype === "float32" ? {} : { rtol: 1e-3, atol: 1e-6 };
      assertClose(part, Float32Array.from(await into[part].read()), all, tolerance);
      into[part].dispose();
    }
  });
}

Deno.test("qkvRope() refuses what does not fit, before anything runs", () => {
  const qkv = tensor(device, randn(16), [2, 8]), norm = tensor(device, [1, 1], [2]);
  const options = { heads: 2, kvHeads: 1, headDim: 2 };
  assertThrows(
    () => qkvRope(qkv, undefined, undefined, { ...options, heads: 3 }),
    ShapeError,
    "Cannot run qkvRope as qkv must be [T, 10]: current shape is [2, 8]",
  );
  assertThrows(() => qkvRope(qkv, undefined, undefined, { ...options, kNorm: norm }), ShapeError, "only kNorm came");
  assertThrows(
    () => qkvRope(qkv, tensor(device, [1, 0], [1, 2, 1]), undefined, options),
    ShapeError,
    "only table came",
  );
});
