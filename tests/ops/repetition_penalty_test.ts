import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError, ValueError } from "../../src/errors.ts";
import { repetitionPenalty, repetitionPenaltyReference } from "../../src/ops/repetition_penalty.ts";
import { tensor, tidy } from "../../src/tensor/mod.ts";
import { assertClose, randn, random, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor, hasReference, referencePath } from "../reference.ts";

const device = await testDevice();

async function penalized(logits: Float32Array, counts: Uint32Array, rows: number, penalty: number | number[]) {
  using y = tidy(device, () => {
    const shape = [rows, logits.length / rows];
    const p = typeof penalty === "number" ? penalty : tensor(device, penalty, [penalty.length]);
    return repetitionPenalty(tensor(device, logits, shape), tensor(device, counts, shape, "uint32"), p);
  });
  return await y.read() as Float32Array;
}

const occurrences = (ids: number[][], vocab: number) => {
  const counts = new Uint32Array(ids.length * vocab);
  for (const [row, list] of ids.entries()) for (const id of list) counts[row * vocab + id]!++;
  return counts;
};

for (const [rows, vocab] of [[1, 1], [3, 65], [2, 32_000]] as const) {
  Deno.test(`repetitionPenalty() equals its reference at [${rows}, ${vocab}]`, async () => {
    const next = random(2), counts = Uint32Array.from({ length: rows * vocab }, () => Math.floor(next() * 3));
    const logits = randn(rows * vocab).map((x) => 4 * x);
    for (const penalty of [1, 1.3, 0.7]) {
      const want = repetitionPenaltyReference(logits, counts, penalty);
      assertClose("y", await penalized(logits, counts, rows, penalty), want);
    }
  });
}

Deno.test("repetitionPenalty() takes a penalty for each row, and leaves what stands for -infinity below all", async () => {
  const logits = Float32Array.from([2, -2, -1e30, -Infinity, 2, -2, -1e30, -Infinity]), NEG = Math.fround(-1e30);
  const got = await penalized(logits, new Uint32Array(8).fill(1), 2, [2, 0.5]);
  assertEquals([...got], [1, -4, NEG, -Infinity, 4, -1, NEG, -Infinity]);
});

interface PenaltyCase {
  params: { penalty: number };
  inputs: { input_ids: number[][]; scores: GoldenTensor };
  outputs: { out: GoldenTensor };
}
const cases = await goldenCases<PenaltyCase>("data/ops/logits_processors", "logits_processor");
for (const { name, params, inputs, outputs, tolerance } of cases) {
  if (!/^repetition_penalty_[\d.]+$/.test(name)) continue;
  Deno.test(`repetitionPenalty() gives golden ${name}`, async () => {
    const { data, shape: [rows = 0, vocab = 0] } = inputs.scores;
    const got = await penalized(data as Float32Array, occurrences(inputs.input_ids, vocab), rows, params.penalty);
    assertClose("out", got, outputs.out.data as Float32Array, tolerance);
  });
}

const vectors = "../design/semantics_vectors.json";
if (hasReference(vectors)) {
  const { logits_processors: v } = JSON.parse(await Deno.readTextFile(referencePath(vectors)));
  for (const penalty of [1.5, 0.8]) {
    Deno.test(`repetitionPenalty() gives transformers' repetition ${penalty}`, async () => {
      const got = await penalized(Float32Array.from(v.logits.flat()), occurrences(v.input_ids, 8), 2, penalty);
      assertClose("y", got, v.cases[`repetition ${penalty}`].flat());
    });
  }
} else Deno.test({ name: `skipped: ${vectors} is not there`, ignore: true, fn() {} });

Deno.test("repetitionPenalty() refuses what does not fit, before anything runs", () => {
  const x = tensor(device, randn(6), [3, 2]), counts = tensor(device, new Uint32Array(6), [3, 2], "uint32");
  assertThrows(() => repetitionPenalty(x, x, 1.5), DtypeError, "counts must be uint32");
  assertThrows(() => repetitionPenalty(x, counts, 0), ValueError, "above 0: current value is 0");
  assertThrows(
    () => repetitionPenalty(x, counts, tensor(device, [1, 2], [2])),
    ShapeError,
    "penalty must be [1] or [3]",
  );
  assertThrows(() => repetitionPenalty(x, counts.reshape([2, 3]), 1.5), ShapeError, "counts must be [3, 2]");
});
