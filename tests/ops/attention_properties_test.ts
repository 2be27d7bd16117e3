/** What attention must give whatever the numbers are: order, batching, chunks, padding and grouping change nothing. */
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { scaledDotProductAttention, type SdpaOptions } from "../../src/ops/scaled_dot_product_attention.ts";
import { tensor, tidy } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";

const device = await testDevice();
const E = 16, CLOSE = { rtol: 1e-5, atol: 2e-6 };
const RUNS = Deno.env.get("TENSAUR_TEST_FULL") === "1" ? 300 : 12;

interface Case {
  B: number;
  H: number;
  Hkv: number;
  L: number;
  S: number;
  q: Float32Array; // [B, H, L, E]
  k: Float32Array; // [B, Hkv, S, E]
  v: Float32Array; // [B, Hkv, S, E]
  isCausal?: "bottomRight";
}

/** Random cases; few shapes of tiles, each of which is a kernel to compile. */
const cases = fc.record({
  B: fc.integer({ min: 1, max: 4 }),
  groups: fc.constantFrom(1, 2),
  L: fc.integer({ min: 9, max: 40 }),
  more: fc.integer({ min: 0, max: 50 }),
  causal: fc.boolean(),
  seed: fc.nat(1e6),
}).map(({ B, groups, L, more, causal, seed }): Case => {
  const H = 4, Hkv = H / groups, S = L + more;
  const some = (heads: number, n: number, i: number) => randn(B * heads * n * E, seed + i);
  const isCausal = causal ? "bottomRight" : undefined;
  return { B, H, Hkv, L, S, q: some(H, L, 0), k: some(Hkv, S, 1), v: some(Hkv, S, 2), isCausal };
});

/** [B][H][n] rows of E numbers. */
function rowsOf(x: Float32Array, heads: number, n: number): Float32Array[][][] {
  const B = x.length / (heads * n * E);
  const row = (i: number) => x.subarray(i * E, (i + 1) * E);
  return Array.from(
    { length: B },
    (_, b) =>
      Array.from({ length: heads }, (_, h) => Array.from({ length: n }, (_, i) => row((b * heads + h) * n + i))),
  );
}

type Rows = Float32Array[][][];

/** Attention of rows of any numbers. */
async function attend(q: Rows, k: Rows, v: Rows, options: SdpaOptions = {}): Promise<Rows> {
  const put = (x: Rows) => {
    const flat = Float32Array.from(x.flat(2).flatMap((row) => [...row]));
    return tensor(device, flat, [x.length, x[0]?.length ?? 0, x[0]?.[0]?.length ?? 0, E]);
  };
  using o = tidy(device, () => scaledDotProductAttention(put(q), put(k), put(v), { enableGqa: true, ...options }));
  const result = await o.read({ early: true }) as Float32Array;
  return rowsOf(result, q[0]!.length, q[0]![0]!.length);
}

const flat = (x: Rows): number[] => x.flat(2).flatMap((row) => [...row]);
const parts = (
  c: Case,
): [Rows, Rows, Rows] => [rowsOf(c.q, c.H, c.L), rowsOf(c.k, c.Hkv, c.S), rowsOf(c.v, c.Hkv, c.S)];

function law(name: string, check: (c: Case, whole: Rows) => Promise<void>): void {
  Deno.test(`attention: ${name}`, async () => {
    await fc.assert(
      fc.asyncProperty(cases, async (c) => check(c, await attend(...parts(c), { isCausal: c.isCausal }))),
      { numRuns: RUNS, seed: 4 },
    );
    await device.stream.settled();
  });
}

law("a batch in another order gives the results in that order", async (c, whole) => {
  const turned = parts(c).map((x) => x.toReversed()) as [Rows, Rows, Rows];
  assertEquals(flat(await attend(...turned, { isCausal: c.isCausal })), flat(whole.toReversed()));
});

law("a batch in two parts gives what it gives whole", async (c, whole) => {
  if (c.B < 2) return;
  const both = await Promise.all([[0, 1], [1, c.B]].map(([from, to]) => {
    const [q, k, v] = parts(c).map((x) => x.slice(from, to)) as [Rows, Rows, Rows];
    return attend(q, k, v, { isCausal: c.isCausal });
  }));
  assertClose("o", flat(both.flat()), flat(whole), CLOSE);
});

law("queries in chunks over the keys so far give what they give at once", async (c, whole) => {
  if (!c.isCausal) return;
  const [q, k, v] = parts(c), cut = c.L >> 1, keys = c.S - c.L + cut;
  const upTo = (x: Rows, from: number, to: number) => x.map((heads) => heads.map((rows) => rows.slice(from, to)));
  const first = await attend(upTo(q, 0, cut), upTo(k, 0, keys), upTo(v, 0, keys), { isCausal: "bottomRight" });
  const second = await attend(upTo(q, cut, c.L), k, v, { isCausal: "bottomRight" });
  const joined = first.map((heads, b) => heads.map((rows, h) => [...rows, ...second[b]![h]!]));
  assertClose("o", flat(joined), flat(whole), CLOSE);
});

law("grouped heads give what repeated key heads give", async (c, whole) => {
  const [q, k, v] = parts(c);
  const repeat = (x: Rows) => x.map((heads) => heads.flatMap((head) => Array(c.H / c.Hkv).fill(head)));
  assertClose("o", flat(await attend(q, repeat(k), repeat(v), { isCausal: c.isCausal })), flat(whole), CLOSE);
});

law("keys in another order give the same", async (c) => {
  const [q, k, v] = parts(c), turned = (x: Rows) => x.map((heads) => heads.map((rows) => rows.toReversed()));
  assertClose("o", flat(await attend(q, turned(k), turned(v))), flat(await attend(q, k, v)), CLOSE);
});

law("keys in two parts, put together by their weights, give what they give at once", async (c) => {
  const [q, k, v] = parts(c), cut = Math.max(1, c.S >> 2);
  const piece = (x: Rows, from: number, to: number) => x.map((heads) => heads.map((rows) => rows.slice(from, to)));
  const [head, tail] = [[0, cut], [cut, c.S]] as const;
  const a = await attend(q, piece(k, ...head), piece(v, ...head)),
    b = await attend(q, piece(k, ...tail), piece(v, ...tail));
  const joined = q.map((heads, n) =>
    heads.map((rows, h) =>
      rows.map((row, i) => {
        const keys = k[n]![Math.floor(h * c.Hkv / c.H)]!;
        const weights = keys.map((key) => Math.exp(key.reduce((sum, x, d) => sum + x * row[d]!, 0) / Math.sqrt(E)));
        const total = weights.reduce((sum, w) => sum + w, 0),
          share = weights.slice(0, cut).reduce((s, w) => s + w, 0) / total;
        return a[n]![h]![i]!.map((x, d) => share * x + (1 - share) * b[n]![h]![i]![d]!);
      })
    )
  );
  assertClose("o", flat(joined), flat(await attend(q, k, v)), { rtol: 1e-5, atol: 1e-5 });
});

law("padding on the left or the right changes nothing for the rest", async (c) => {
  const [q, k, v] = parts(c), pads = 3, L = Math.min(c.L, c.S);
  const cut = (x: Rows) => x.map((heads) => heads.map((rows) => rows.slice(0, L)));
  const junk = Array.from({ length: pads }, () => new Float32Array(E).fill(1e4));
  const pad = (x: Rows, left: boolean) =>
    cut(x).map((heads) => heads.map((rows) => left ? [...junk, ...rows] : [...rows, ...junk]));
  const want = flat(await attend(cut(q), cut(k), cut(v), { isCausal: true }));
  const real = (x: Rows, left: boolean) =>
    x.map((heads) => heads.map((rows) => left ? rows.slice(pads) : rows.slice(0, L)));
  const mask = (left: boolean) =>
    tensor(
      device,
      Array.from({ length: L + pads }, (_, j) => (left ? j >= pads : j < L) ? 1 : 0),
      [L + pads],
      "uint32",
    );
  for (const left of [true, false]) {
    using attnMask = mask(left);
    const masked = await attend(pad(q, left), pad(k, left), pad(v, left), { isCausal: "topLeft", attnMask });
    assertClose(left ? "left" : "right", flat(real(masked, left)), want, CLOSE);
  }
  const kvLengths = Array<number>(c.B).fill(L);
  const counted = await attend(pad(q, false), pad(k, false), pad(v, false), { isCausal: true, kvLengths });
  assertClose("lengths", flat(real(counted, false)), want, CLOSE);
});
