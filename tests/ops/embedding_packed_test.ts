import { assertEquals } from "@std/assert";
import { embeddingPacked, packedTable } from "../../src/ops/embedding_packed.ts";
import { emptyPacked, packWeight, stripOf } from "../../src/ops/pack_weight.ts";
import { decode, type Dtype, encode, tensor, tidy } from "../../src/tensor/mod.ts";
import { asGpu, randn, testDevice } from "../helpers.ts";

const device = await testDevice();
const cases: [Dtype, V: number, dim: number, columns: boolean, gpu?: boolean][] = [
  // rows of less and of more than a workgroup's, that divide by 4 and do not; the last strip has fewer columns
  ["float16", 70, 1100, false],
  ["bfloat16", 18, 12, false],
  ["float32", 18, 7, false],
  ["float16", 70, 1100, true],
  ["bfloat16", 67, 12, true],
  ["float32", 40, 7, true],
  ["float16", 70, 12, true, true],
];

for (const [dtype, V, dim, columns, gpu = false] of cases) {
  const where = `${V} ${columns ? "columns" : "rows"} of ${dim} ${dtype}${gpu ? ", workgroups of a GPU" : ""}`;
  Deno.test(`embeddingPacked() gives rows of one table and of two: ${where}`, async () => {
    const all = Float32Array.from(decode(encode(randn(V * dim), dtype).slice().buffer, dtype)), cut = 8 * (V >> 4);
    const tokens = [0, V - 1, cut, V, 3, 4_000_000_000, cut - 1, 3];
    const want = Float32Array.from(
      tokens.flatMap((token) =>
        token < V ? [...all.subarray(token * dim, (token + 1) * dim)] : Array<number>(dim).fill(0)
      ),
    );
    const table = (first: number, end: number) => {
      const part = tensor(device, all.slice(first * dim, end * dim), [end - first, dim], dtype);
      const strip = columns ? stripOf(device) : undefined;
      const [K, N] = columns ? [dim, end - first] : [end - first, dim];
      const w = emptyPacked(device, K, N, dtype);
      packWeight(part, w, { transpose: columns, strip });
      return packedTable(w, dim, end - first, columns, { first, strip: columns ? strip : undefined });
    };
    for (const parts of [[[0, V]], [[0, cut], [cut, V]]] as const) {
      const run = () =>
        tidy(device, () => {
          const ids = tensor(device, tokens, [2, 4], "uint32");
          return embeddingPacked(ids, parts.map(([first, end]) => table(first, end)));
        });
      using y = gpu ? asGpu(device, run) : run();
      assertEquals([y.shape, await y.read()], [[2, 4, dim], want]);
    }
  });
}
