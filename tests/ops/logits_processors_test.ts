/** The kernels of logits processors: shapes that they refuse, and what tests/generation/pipe_test.ts leaves out. */
import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError, type TensaurError } from "../../src/errors.ts";
import { appendTokensReference } from "../../src/ops/append_tokens.ts";
import { biasTokensReference } from "../../src/ops/bias_tokens.ts";
import { occurrencePenaltyReference } from "../../src/ops/occurrence_penalty.ts";
import * as ops from "../../src/ops/mod.ts";
import { type Tensor, tensor, tidy } from "../../src/tensor/mod.ts";
import { assertClose, randn, random, testDevice } from "../helpers.ts";

const device = await testDevice();
const u32 = (data: readonly number[], shape: number[] = [data.length]) => tensor(device, data, shape, "uint32");
const f32 = (data: readonly number[], shape: number[] = [data.length]) => tensor(device, data, shape);
const x = f32([1, 2, 3, 4], [2, 2]), one = u32([1]), factor = f32([1.5]);
const past = { ids: u32([0, 1], [2, 1]), lengths: u32([1, 1]) };
const row = f32([1, 2], [1, 2]), words = u32([1, 2], [1, 2]), three = u32([1, 2, 3]), flat = f32([1, 2]);
const square = f32([1], [1, 1]);
const wrong = { ids: u32([0], [1, 1]), lengths: u32([1]) };

const refused: [name: string, run: () => Tensor | void, type: typeof TensaurError, text: string][] = [
  ["occurrencePenalty", () => ops.occurrencePenalty(x, three, factor), ShapeError, "counts must be [2, 2]"],
  ["biasTokens", () => ops.biasTokens(x, one, one, wrong), ShapeError, "ids must be [2, N]"],
  ["biasTokens", () => ops.biasTokens(x, factor, one), DtypeError, "table"],
  ["banNgrams", () => ops.banNgrams(x, wrong, past, one), ShapeError, "ids must be [2, N]"],
  ["forceTokens", () => ops.forceTokens(flat, one, one), ShapeError, "x must be [B, V]"],
  ["lengthDecay", () => ops.lengthDecay(x, one, one, one), DtypeError, "factor"],
  ["finiteLogits", () => ops.finiteLogits(one), ShapeError, "x must be [B, V]"],
  ["guideLogits", () => ops.guideLogits(x, row, factor), ShapeError, "u must be [2, 2]"],
  ["watermarkLogits", () => ops.watermarkLogits(x, wrong, one), ShapeError, "ids must be [2, N]"],
  ["cutoffLogits", () => ops.cutoffLogits(x, one), DtypeError, "settings"],
  ["typicalLogits", () => ops.typicalLogits(words, factor), DtypeError, "logits"],
  ["topHLogits", () => ops.topHLogits(x, square), ShapeError, "share must be [n]"],
  ["appendTokens", () => ops.appendTokens(past, one), ShapeError, "ids must be [1, N]"],
];
for (const [name, run, type, text] of refused) {
  Deno.test(`${name}() refuses what does not fit: ${text}`, () => {
    const before = device.pool.stats.bytesInUse;
    assertThrows(run, type, text);
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}

Deno.test("appendTokens() fills rows, and leaves those that are full", async () => {
  for (const [rows, width] of [[1, 3], [3, 1], [70, 4]] as const) {
    const next = random(rows), draw = (n: number) => Math.floor(next() * n);
    const ids = Uint32Array.from({ length: rows * width }, () => draw(99));
    const lengths = Uint32Array.from({ length: rows }, () => draw(width + 1));
    const history = { ids: u32([...ids], [rows, width]), lengths: u32([...lengths]) };
    for (let step = 0; step < 3; step++) {
      const tokens = Array.from({ length: rows }, () => draw(99));
      ops.appendTokens(history, u32(tokens));
      appendTokensReference(ids, lengths, tokens);
    }
    assertEquals([...await history.ids.read()], [...ids]);
    assertEquals([...await history.lengths.read()], [...lengths]);
  }
});

Deno.test("occurrencePenalty() equals its reference", async () => {
  const logits = randn(2 * 700, 3), counts = Uint32Array.from({ length: 1400 }, (_, i) => i % 5 === 0 ? i % 7 : 0);
  using y = ops.occurrencePenalty(f32([...logits], [2, 700]), u32([...counts], [2, 700]), f32([0.3, 0.7]));
  assertClose("y", await y.read() as Float32Array, occurrencePenaltyReference(logits, counts, [0.3, 0.7]));
});

Deno.test("biasTokens() equals its reference for many biases of random tokens, at steps of each", async () => {
  const next = random(9), V = 40, draw = (n: number) => Math.floor(next() * n);
  const biases = Array.from({ length: 300 }, () => ({
    ids: Array.from({ length: 1 + draw(4) }, () => draw(5) + (next() < 0.2 ? draw(V - 5) : 0)),
    bias: next() < 0.05 ? -Infinity : Math.fround(next() - 0.5),
    from: draw(3),
    until: next() < 0.5 ? 2 + draw(4) : undefined,
  }));
  const rows = [[1, 2, 3, 4, 0, 1, 2], [0, 0], [4]], width = 8;
  const padded = rows.flatMap((row) => [...row, ...Array(width - row.length).fill(0)]);
  const history = { ids: u32(padded, [3, width]), lengths: u32(rows.map((row) => row.length)) };
  const table = u32([...ops.biasTable(biases)]), logits = randn(3 * V, 4);
  for (const step of [0, 1, 2, 5, 9]) {
    using y = tidy(device, () => ops.biasTokens(f32([...logits], [3, V]), table, u32([step]), history));
    const want = logits.slice();
    rows.forEach((row, b) => biasTokensReference(want.subarray(b * V, (b + 1) * V), biases, row, step));
    assertClose(`step ${step}`, (await y.read() as Float32Array).map((v) => v <= -1e30 ? -Infinity : v), want, {
      atol: 1e-5,
    });
  }
});
