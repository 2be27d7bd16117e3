/** Attention at the edge: numbers that overflow, masks that hide everything, sequences of nothing. */
import { assertEquals } from "@std/assert";
import {
  type HostSdpaOptions,
  scaledDotProductAttention,
  scaledDotProductAttentionReference,
  type SdpaOptions,
} from "../../src/ops/scaled_dot_product_attention.ts";
import { type Dtype, type Shape, tensor, tidy } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";

const device = await testDevice();
const E = 16;

interface Edge {
  name: string;
  q: [Shape, number | ((i: number) => number)];
  k: [Shape, number | ((i: number) => number)];
  v?: Shape;
  mask?: [Shape, number | ((i: number) => number), Dtype];
  options?: Omit<HostSdpaOptions, "attnMask">;
}

const wave = (i: number) => Math.sin(i * 12.9898) * 2;
const edges: Edge[] = [
  {
    name: "logits of ±1e4",
    q: [[1, 2, 3, E], (i) => i % E ? 0 : 200],
    k: [[1, 2, 9, E], (i) => i % E ? 0 : 200 * wave(i)],
  },
  { name: "equal logits", q: [[1, 2, 3, E], 0], k: [[1, 2, 9, E], wave] },
  { name: "one key and one query", q: [[1, 2, 1, E], wave], k: [[1, 2, 1, E], wave] },
  {
    name: "a key, many queries, causal",
    q: [[1, 2, 9, E], wave],
    k: [[1, 2, 1, E], wave],
    options: { isCausal: true },
  },
  {
    name: "more queries than keys, aligned at the end: the first see nothing",
    q: [[1, 2, 9, E], wave],
    k: [[1, 2, 4, E], wave],
    options: { isCausal: "bottomRight" },
  },
  { name: "no key", q: [[2, 2, 9, E], wave], k: [[2, 2, 0, E], 0] },
  {
    name: "sequences of no key, one and all",
    q: [[3, 2, 9, E], wave],
    k: [[3, 2, 9, E], wave],
    options: { kvLengths: [0, 1, 9] },
  },
  { name: "no query", q: [[2, 2, 0, E], 0], k: [[2, 2, 3, E], wave] },
  { name: "no sequence", q: [[0, 2, 3, E], 0], k: [[0, 2, 3, E], 0] },
  {
    name: "a mask of -1e30 over some keys",
    q: [[1, 2, 9, E], wave],
    k: [[1, 2, 9, E], wave],
    mask: [[9, 9], (i) => i % 3 ? 0 : -1e30, "float32"],
  },
  {
    name: "a mask of -1e30 over all keys: all count alike",
    q: [[1, 2, 9, E], wave],
    k: [[1, 2, 9, E], wave],
    mask: [[9], -1e30, "float32"],
  },
  {
    name: "a mask of float32's lowest over all keys",
    q: [[1, 2, 9, E], wave],
    k: [[1, 2, 9, E], wave],
    mask: [[9], -3.4028234663852886e38, "float32"],
  },
  {
    name: "a mask of -Infinity over all keys of a query",
    q: [[1, 2, 9, E], wave],
    k: [[1, 2, 9, E], wave],
    mask: [[9, 1], (i) => i % 2 ? 0 : -Infinity, "float32"],
  },
  {
    name: "a mask over nothing but one key",
    q: [[1, 2, 9, E], wave],
    k: [[1, 2, 9, E], wave],
    mask: [[9], (i) => i === 8 ? 1 : 0, "uint32"],
  },
  {
    name: "a mask of every size",
    q: [[2, 2, 9, E], wave],
    k: [[2, 2, 9, E], wave],
    mask: [[2, 2, 9, 9], (i) => i % 5 ? wave(i) : -Infinity, "float16"],
  },
  {
    name: "a mask of one batch entry's heads",
    q: [[2, 2, 9, E], wave],
    k: [[2, 2, 9, E], wave],
    mask: [[2, 1, 1, 9], (i) => i % 4, "uint32"],
  },
  {
    name: "a huge bias",
    q: [[1, 2, 9, E], wave],
    k: [[1, 2, 9, E], wave],
    mask: [[9, 9], (i) => 1e4 * wave(i), "float32"],
  },
  { name: "sinks", q: [[1, 2, 9, E], wave], k: [[1, 2, 9, E], wave], options: { sinks: [0.5, -30] } },
  {
    name: "a sink above all and no key",
    q: [[1, 2, 9, E], wave],
    k: [[1, 2, 9, E], wave],
    options: { sinks: [1e4, 0], kvLengths: [0] },
  },
  {
    name: "ALiBi in both directions",
    q: [[1, 2, 9, E], wave],
    k: [[1, 2, 9, E], wave],
    options: { alibiSlopes: [0.5, 0.25] },
  },
  {
    name: "a window in both directions",
    q: [[1, 2, 9, E], wave],
    k: [[1, 2, 9, E], wave],
    options: { slidingWindow: 2 },
  },
  {
    name: "a window at the end of longer keys",
    q: [[1, 2, 1, E], wave],
    k: [[1, 2, 30, E], wave],
    options: { slidingWindow: 4 },
  },
  {
    name: "ALiBi at the end of longer keys",
    q: [[1, 2, 1, E], wave],
    k: [[1, 2, 30, E], wave],
    options: { alibiSlopes: [0.5, 0.1] },
  },
  {
    name: "a cache with room, decoded",
    q: [[2, 2, 1, E], wave],
    k: [[2, 2, 30, E], wave],
    options: { slidingWindow: 4, kvLengths: [9, 30], isCausal: "bottomRight" },
  },
  {
    name: "padded rows with a window and lengths",
    q: [[2, 2, 9, E], wave],
    k: [[2, 2, 9, E], wave],
    options: { slidingWindow: 3, kvLengths: [4, 9] },
  },
  {
    name: "a soft cap far below the logits",
    q: [[1, 2, 9, E], (i) => 50 * wave(i)],
    k: [[1, 2, 9, E], wave],
    options: { softcap: 2 },
  },
];

/** The same with 20 tokens for 9: other kernels run where there are many. */
function longer({ name, q, k, mask, options }: Edge): Edge {
  const more = (list: ArrayLike<number>) => Array.from(list, (n) => n === 9 ? 20 : n);
  return {
    name: `${name}; 20 tokens`,
    q: [more(q[0]), q[1]],
    k: [more(k[0]), k[1]],
    mask: mask && [more(mask[0]), mask[1], mask[2]],
    options: options?.kvLengths ? { ...options, kvLengths: more(options.kvLengths) } : options,
  };
}

for (
  const { name, q, k, mask, options = {} } of edges.flatMap((edge) => edge.q[0][2] === 9 ? [edge, longer(edge)] : edge)
) {
  Deno.test(`scaledDotProductAttention() equals its reference: ${name}`, async () => {
    const host = ([shape, fill]: Edge["q"]) => {
      const n = shape.reduce((product, x) => product * x, 1);
      return { shape, data: Float32Array.from({ length: n }, (_, i) => typeof fill === "number" ? fill : fill(i)) };
    };
    const [hostQ, hostK, hostV] = [host(q), host(k), host([k[0], (i) => wave(i + 7)])];
    const hostMask = mask && host([mask[0], mask[1]]);
    using o = tidy(device, () => {
      const [x, y, z] = [hostQ, hostK, hostV].map(({ data, shape }) => tensor(device, data, shape));
      const attnMask = hostMask && tensor(device, [...hostMask.data], hostMask.shape, mask[2]);
      return scaledDotProductAttention(x!, y!, z!, { ...options as SdpaOptions, attnMask });
    });
    const rounded = hostMask && mask[2] === "float16" ? Float16Array.from(hostMask.data) : hostMask?.data;
    const attnMask = hostMask && { shape: hostMask.shape, data: rounded!, bool: mask[2] === "uint32" };
    const want = scaledDotProductAttentionReference(hostQ, hostK, hostV, { ...options, attnMask });
    assertEquals(o.shape, q[0]);
    assertClose("o", await o.read(), want, { rtol: 1e-5, atol: 1e-5 });
  });
}

Deno.test("scaledDotProductAttention() takes any number of leading dimensions, and masks that none of them has", async () => {
  const shapes = [[9, E], [2, 9, E], [2, 3, 2, 9, E], [2, 1, 3, 2, 9, E]];
  const masks = [[9, 9], [1, 9], [2, 1, 1, 9, 9], [3, 1, 1, 9]]; // the third repeats between entries that differ
  for (const [i, shape] of shapes.entries()) {
    const n = shape.reduce((product, x) => product * x, 1), lead = shape.slice(0, -3), H = shape.length > 2 ? 2 : 1;
    const B = lead.reduce((product, x) => product * x, 1), four = [B, H, 9, E];
    const q = randn(n, 1), k = randn(n, 2), v = randn(n, 3), maskShape = masks[i]!;
    const data = Float32Array.from(randn(maskShape.reduce((product, x) => product * x, 1), 4));
    using o = tidy(device, () => {
      const [x, y, z] = [q, k, v].map((data) => tensor(device, data, shape));
      return scaledDotProductAttention(x!, y!, z!, { attnMask: tensor(device, data, maskShape) });
    });
    assertEquals(o.shape, shape);
    const perEntry = maskShape.length === 5 ? 3 : 1; // [2, 1, …] of [2, 3, …]: each of two lasts for three entries
    const whole = maskShape.length < 3
      ? [1, 1, ...maskShape]
      : maskShape.slice(-4).with(0, maskShape.length === 5 ? 2 : 3);
    const size = whole.slice(1).reduce((product, x) => product * x, 1);
    const spread = Float32Array.from({ length: B * size }, (_, j) => {
      const b = Math.floor(j / size);
      return data[
        (maskShape.length < 3 ? 0 : maskShape.length === 5 ? Math.floor(b / perEntry) : b % 3) * size + j % size
      ]!;
    });
    const host = (data: Float32Array) => ({ data, shape: four });
    const attnMask = { data: spread, shape: [B, ...whole.slice(1)] };
    assertClose(
      "o",
      await o.read(),
      scaledDotProductAttentionReference(host(q), host(k), host(v), { attnMask }),
      { atol: 2e-6 },
    );
  }
});
