import { assertThrows } from "@std/assert";
import { ShapeError } from "../../src/errors.ts";
import { ropeConfig, ropeFrequencies, RopeTable } from "../../src/models/rope.ts";
import { rotaryEmbedding, rotaryEmbeddingReference } from "../../src/ops/rotary_embedding.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, random, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor } from "../reference.ts";

const device = await testDevice();
const cases: [tokens: number, heads: number, headDim: number, half: number][] = [
  // one pair, all of a head, partly rotated, odd leftovers, not a multiple of a workgroup, nothing rotated
  [1, 1, 2, 1],
  [3, 4, 64, 32],
  [5, 3, 64, 8],
  [7, 2, 13, 3],
  [130, 1, 2, 1],
  [2, 2, 4, 0],
];
for (const [tokens, heads, headDim, half] of cases) {
  for (const interleaved of headDim === 64 ? [false] : [false, true]) { // the goldens have the other
    const name = `[${tokens}, ${heads}, ${headDim}], ${2 * half} rotary${interleaved ? ", interleaved" : ""}`;
    Deno.test(`rotaryEmbedding() equals its reference at ${name}`, async () => {
      const x = randn(tokens * heads * headDim), table = randn(40 * 2 * half, 2), next = random(3);
      const positions = Uint32Array.from({ length: tokens }, () => Math.floor(next() * 40));
      using y = rotaryEmbedding(
        tensor(device, x, [tokens, heads, headDim]),
        tensor(device, table, [40, 2, half]),
        tensor(device, positions, [tokens], "uint32"),
        { interleaved },
      );
      assertClose("y", await y.read(), rotaryEmbeddingReference(x, table, positions, headDim, half, interleaved));
    });
  }
}

interface RopeCase {
  params: Record<string, unknown> & { head_dim: number; max_position_embeddings: number; seq_len: number | null };
  inputs: { q: GoldenTensor; k: GoldenTensor; position_ids: number[][] };
  outputs: Record<string, GoldenTensor>;
}
for (const { name, params, inputs, outputs, tolerance } of await goldenCases<RopeCase>("data/ops/rope", "rope")) {
  Deno.test(`rotaryEmbedding() gives golden ${name} in both layouts`, async () => {
    const { head_dim, max_position_embeddings, seq_len, ...rope_parameters } = params;
    const config = ropeConfig({ max_position_embeddings, rope_parameters }, head_dim);
    // the goldens' positions may lie beyond their seq_len: the frequencies of the one, a table as long as the others
    const { invFreq, attentionFactor } = ropeFrequencies(config, seq_len ?? 1);
    const rows = Array.from({ length: 251 }, (_, p) => {
      const angles = [...invFreq].map((f) => p * f);
      return [...angles.map(Math.cos), ...angles.map(Math.sin)].map((c) => c * attentionFactor);
    });
    const table = tensor(device, rows.flat(), [251, 2, invFreq.length]);
    const ids = inputs.position_ids.flat(), [batch = 0, , length = 0] = inputs.q.shape;
    const positions = tensor(device, ids, [ids.length], "uint32");
    for (const which of ["q", "k"] as const) {
      const { data, shape: [, heads = 0] } = inputs[which];
      const packed = swapped(data as Float32Array, batch, heads, length, head_dim);
      for (const layout of ["half", "interleaved"]) {
        using y = rotaryEmbedding(tensor(device, packed, [batch * length, heads, head_dim]), table, positions, {
          interleaved: layout === "interleaved",
        });
        const want = swapped(outputs[`${which}_${layout}`]!.data as Float32Array, batch, heads, length, head_dim);
        assertClose(`${which} ${layout}`, await y.read(), want, tolerance);
      }
    }
  });
}

/** [B, H, L, D] to [B·L, H, D] */
function swapped(x: Float32Array, batch: number, heads: number, length: number, dim: number): Float32Array {
  const y = new Float32Array(x.length);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (let l = 0; l < length; l++) {
        const from = ((b * heads + h) * length + l) * dim;
        y.set(x.subarray(from, from + dim), ((b * length + l) * heads + h) * dim);
      }
    }
  }
  return y;
}

Deno.test("rotaryEmbedding() turns relative positions into the same product", async () => {
  using rope = new RopeTable(device, ropeConfig({}, 8));
  const table = rope.table(300), x = randn(16);
  const dots = [];
  for (const [a, b] of [[0, 9], [100, 109], [290, 299]] as const) {
    using y = rotaryEmbedding(tensor(device, x, [2, 1, 8]), table, tensor(device, [a, b], [2], "uint32"));
    const values = [...await y.read()];
    dots.push(values.slice(0, 8).reduce((sum, v, i) => sum + v * values[8 + i]!, 0));
  }
  assertClose("dots", dots.slice(1), [dots[0]!, dots[0]!], { rtol: 1e-4, atol: 1e-5 });
});

Deno.test("rotaryEmbedding() refuses what does not fit, before anything runs", () => {
  const x = tensor(device, randn(12), [2, 1, 6]), table = tensor(device, randn(16), [2, 2, 4]);
  const positions = tensor(device, [0, 1], [2], "uint32");
  assertThrows(
    () => rotaryEmbedding(x, table, positions),
    ShapeError,
    "table must be at most [positions, 2, 3]: current shape is [2, 2, 4]",
  );
  assertThrows(() => rotaryEmbedding(x, x, positions), ShapeError, "table must be [positions, 2, rotaryDim / 2]");
  assertThrows(
    () => rotaryEmbedding(x, table, tensor(device, [0], [1], "uint32")),
    ShapeError,
    "positions must be [2]",
  );
});
