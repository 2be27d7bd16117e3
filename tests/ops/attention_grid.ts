/** The parameter grid that ggml tests its flash attention with, as calls of our op, and the rows of it that are checked. */
import { fromFileUrl } from "@std/path";
import type { Device } from "../../src/gpu/mod.ts";
import { attention, kvLayout, type Strides } from "../../src/ops/attention.ts";
import {
  scaledDotProductAttention,
  scaledDotProductAttentionReference,
} from "../../src/ops/scaled_dot_product_attention.ts";
import { type Tensor, tensor, tidy } from "../../src/tensor/mod.ts";
import { randn, random } from "../helpers.ts";

/** One case, under ggml's names. */
export interface GridCase {
  /** Length of a key and of a value. */
  hsk: number;
  hsv: number;
  /** Key heads, query heads a key head, query batches on one batch of keys. */
  nh: number;
  nr2: number;
  nr3: number;
  /** Keys, and queries. */
  kv: number;
  nb: number;
  mask: boolean;
  sinks: boolean;
  /** With ALiBi: the mask times a slope a head. */
  max_bias: number;
  softcap: number;
  tk: "f16" | "f32";
  /** [0, 2, 1, 3]: heads lie within tokens. */
  perm: number[];
  /** Values are the first elements of the keys. */
  v_view_of_k: boolean;
}

/** The cases: all that lie beside the repository, else the few in it. */
export function gridCases(): { cases: GridCase[]; all: boolean } {
  const read = (path: string) =>
    JSON.parse(Deno.readTextFileSync(fromFileUrl(new URL(path, import.meta.url)))).cases as GridCase[];
  try {
    return { cases: read("../../../shared/cases/ggml_grids/flash_attn_ext_float_only.json"), all: true };
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return { cases: read("../data/flash_attn_ext.json"), all: false };
  }
}

/** What tells cases apart in a list. */
export function nameOf(c: GridCase): string {
  const flags = [
    c.mask && "mask",
    c.sinks && "sinks",
    c.max_bias && "alibi",
    c.softcap && "softcap",
    c.perm[1] === 2 && "perm",
  ];
  const heads = `${c.nh}x${c.nr2}${c.nr3 > 1 ? `x${c.nr3}` : ""} heads`;
  return `${c.hsk}/${c.hsv} ${c.tk}, ${heads}, ${c.nb} queries, ${c.kv} keys, ${flags.filter(Boolean).join(" ")}`;
}

/** Multiplications and additions of a case. */
export function operations(c: GridCase): number {
  return 2 * c.nb * c.kv * c.nh * c.nr2 * c.nr3 * (c.hsk + c.hsv);
}

const POOL = 2 ** 20;
const pool = new Float16Array(randn(POOL, 5)); // numbers of every case, exact in float16 and so in float32

/** `n` numbers from somewhere in the pool. */
function numbers(n: number, at: number): Float16Array {
  if (at + n <= POOL) return pool.subarray(at, at + n);
  const to = new Float16Array(n);
  for (let i = 0; i < n; i += POOL - at) to.set(pool.subarray(at, at + Math.min(POOL - at, n - i)), i);
  return to;
}

interface Data {
  q: Float16Array; // [nr3, H, nb, hsk]
  k: Float16Array; // [nh, kv, hsk]
  v: Float16Array; // [nh, kv, hsv]
  mask?: Float16Array; // [nr3, nb, kv]
  sinks?: number[]; // [H]
  slopes: number[]; // [H]
}

function dataOf(c: GridCase, seed: number): Data {
  const next = random(seed), H = c.nh * c.nr2;
  const some = (n: number) => numbers(n, Math.floor(next() * POOL / 2));
  const k = some(c.nh * c.kv * c.hsk);
  const v = c.v_view_of_k
    ? Float16Array.from({ length: c.nh * c.kv * c.hsv }, (_, i) => k[Math.floor(i / c.hsv) * c.hsk + i % c.hsv]!)
    : some(c.nh * c.kv * c.hsv);
  const mask = c.mask ? Float16Array.from(some(c.nr3 * c.nb * c.kv)) : undefined;
  for (let i = 0; mask && i < mask.length; i += 32) { // runs of keys that a query does not see
    if (next() < 0.3) mask.fill(-Infinity, i, i + 32);
  }
  const power = 2 ** Math.floor(Math.log2(H)), m0 = 2 ** (-c.max_bias / power), m1 = 2 ** (-c.max_bias / 2 / power);
  const slopes = Array.from(
    { length: H },
    (_, h) => !c.max_bias ? 1 : h < power ? m0 ** (h + 1) : m1 ** (2 * (h - power) + 1),
  );
  return { q: some(c.nr3 * H * c.nb * c.hsk), k, v, mask, slopes, sinks: c.sinks ? Array.from(some(H)) : undefined };
}

/** The mask times the slope of each head, where heads have any: [nr3, 1 or H, nb, kv]. */
function maskTensor(device: Device, c: GridCase, { mask, slopes }: Data): Tensor | undefined {
  if (!mask) return undefined;
  const heads = c.max_bias ? slopes : [1], row = c.nb * c.kv;
  const to = new Float32Array(c.nr3 * heads.length * row);
  for (let b = 0; b < c.nr3; b++) {
    for (const [h, slope] of heads.entries()) {
      const at = (b * heads.length + h) * row;
      for (let i = 0; i < row; i++) to[at + i] = mask[b * row + i]! * slope;
    }
  }
  return tensor(device, to, [c.nr3, heads.length, c.nb, c.kv]);
}

/** Runs a case; the result lies as [nr3, H, nb, hsv], or where `perm` says so as [nr3, nb, H, hsv]. */
function run(device: Device, c: GridCase, data: Data): Tensor {
  const H = c.nh * c.nr2, permuted = c.perm[1] === 2, dtype = c.tk === "f16" ? "float16" : "float32";
  const times = <T>(x: ArrayLike<T>, n: number) => Array.from({ length: n }, () => Array.from(x)).flat();
  const swap = (x: Float16Array, heads: number, rows: number, dim: number) =>
    permuted
      ? Float16Array.from(x, (_, i) => {
        const d = i % dim, h = Math.floor(i / dim) % heads, r = Math.floor(i / dim / heads) % rows;
        return x[(Math.floor(i / dim / heads / rows) * heads * rows + h * rows + r) * dim + d]!;
      })
      : x;
  const put = (x: Float16Array, shape: number[]) =>
    tensor(device, dtype === "float16" ? bits(x) : Float32Array.from(x), shape, dtype);
  const batch = (x: Float16Array) => c.nr3 === 1 ? x : new Float16Array(times(x, c.nr3));
  const mask = maskTensor(device, c, data), scale = 1 / Math.sqrt(c.hsk);
  if (!permuted) {
    return scaledDotProductAttention(
      put(data.q, [c.nr3, H, c.nb, c.hsk]),
      put(batch(data.k), [c.nr3, c.nh, c.kv, c.hsk]),
      put(batch(data.v), [c.nr3, c.nh, c.kv, c.hsv]),
      { attnMask: mask, enableGqa: true, softcap: c.softcap || undefined, sinks: data.sinks, scale },
    );
  }
  const within = (dim: number): Strides => ({
    sequenceStride: c.nh * c.kv * dim,
    headStride: dim,
    keyStride: c.nh * dim,
  });
  const geometry = kvLayout(device, {
    heads: H,
    kvHeads: c.nh,
    ...within(c.hsk),
    values: within(c.hsv),
    counts: "lengths",
    scale,
    causal: false,
    softcap: c.softcap,
    sinks: data.sinks,
    bias: mask && {
      strides: [mask.shape[1]! * c.nb * c.kv, c.max_bias ? c.nb * c.kv : 0, c.kv, 1],
      mask: false,
    },
  });
  const list = (x: number[]) => tensor(device, x, [x.length], "uint32");
  const q = tensor(device, Float32Array.from(swap(data.q, H, c.nb, c.hsk)), [c.nr3 * c.nb, H, c.hsk]);
  const kv = {
    k: put(batch(swap(data.k, c.nh, c.kv, c.hsk)), [c.nr3, c.nh, c.kv, c.hsk]),
    v: put(batch(swap(data.v, c.nh, c.kv, c.hsv)), [c.nr3, c.nh, c.kv, c.hsv]),
    geometry,
    past: list(Array(c.nr3).fill(c.kv)),
  };
  return attention(q, kv, list(Array.from({ length: c.nr3 + 1 }, (_, b) => b * c.nb)), { bias: mask });
}

/** The bits of float16 numbers. */
function bits(x: Float16Array): Uint16Array {
  return new Uint16Array(x.buffer, x.byteOffset, x.length);
}

/** Normalised mean squared error of a case over `rows` of its rows, drawn with `seed`: ggml's measure. */
export async function errorOf(device: Device, c: GridCase, rows: number, seed: number): Promise<number> {
  const data = dataOf(c, seed), H = c.nh * c.nr2, total = c.nr3 * H * c.nb, next = random(seed);
  using o = tidy(device, () => run(device, c, data));
  const got = await o.read({ early: true });
  const pick = total <= rows
    ? [...Array(total).keys()]
    : [0, total - 1, ...Array.from({ length: rows - 2 }, () => Math.floor(next() * total))];
  const doubles = (x: Float16Array, width: number) => {
    const made = new Map<number, Float64Array>(); // of each key head, once
    return (g: number): Float64Array => {
      const head = made.get(g) ?? Float64Array.from(x.subarray(g * width, (g + 1) * width));
      made.set(g, head);
      return head;
    };
  };
  const keys = doubles(data.k, c.kv * c.hsk), values = doubles(data.v, c.kv * c.hsv);
  let error = 0, size = 0;
  for (const row of pick) {
    const i = row % c.nb, h = Math.floor(row / c.nb) % H, b = Math.floor(row / c.nb / H), g = Math.floor(h / c.nr2);
    const want = scaledDotProductAttentionReference(
      { data: data.q.subarray(row * c.hsk, (row + 1) * c.hsk), shape: [1, 1, 1, c.hsk] },
      { data: keys(g), shape: [1, 1, c.kv, c.hsk] },
      { data: values(g), shape: [1, 1, c.kv, c.hsv] },
      {
        attnMask: data.mask && {
          data: Float64Array.from(
            data.mask.subarray((b * c.nb + i) * c.kv, (b * c.nb + i + 1) * c.kv),
            (m) => m * data.slopes[h]!,
          ),
          shape: [c.kv],
        },
        softcap: c.softcap,
        sinks: data.sinks && [data.sinks[h]!],
      },
    );
    const at = (c.perm[1] === 2 ? (b * c.nb + i) * H + h : row) * c.hsv;
    for (let d = 0; d < c.hsv; d++) {
      error += (got[at + d]! - want[d]!) ** 2;
      size += want[d]! ** 2;
    }
  }
  return error === 0 ? 0 : error / size;
}
