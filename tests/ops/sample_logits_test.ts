import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/errors.ts";
import { gumbelNoise, sampleLogits, sampleLogitsReference } from "../../src/ops/sample_logits.ts";
import { samplingParams, type SamplingSettings, samplingWords } from "../../src/ops/sampling_params.ts";
import { warpLogitsReference } from "../../src/ops/warp_logits.ts";
import { tensor, tidy } from "../../src/tensor/mod.ts";
import { randn, testDevice } from "../helpers.ts";

const device = await testDevice();

/** Tokens for `rows` rows of logits at one step. */
async function sample(logits: Float32Array, rows: number, settings: SamplingSettings | SamplingSettings[], step = 0) {
  using tokens = tidy(device, () => {
    const x = tensor(device, logits, [rows, logits.length / rows]);
    return sampleLogits(x, samplingParams(device, settings), tensor(device, [step], [1], "uint32"));
  });
  return [...await tokens.read()];
}

/** `row`, `times` times. */
function repeated(row: Float32Array, times: number): Float32Array {
  const all = new Float32Array(row.length * times);
  for (let i = 0; i < times; i++) all.set(row, i * row.length);
  return all;
}

const settings: SamplingSettings[] = [
  {},
  { temperature: 0.7, topK: 50, topP: 0.9, seed: 2n ** 63n + 5n },
  { temperature: 2, minP: 0.1, seed: -1 },
];
for (const [rows, vocab] of [[200, 5], [100, 997], [20, 2048], [3, 32_000]] as const) {
  Deno.test(`sampleLogits() draws the reference's tokens at [${rows}, ${vocab}]`, async () => {
    const logits = randn(rows * vocab, 7).map((x) => 2 * x);
    for (const [step, s] of settings.entries()) {
      const tokens = await sample(logits, rows, s, step);
      for (const [row, token] of tokens.entries()) {
        const x = logits.subarray(row * vocab, (row + 1) * vocab);
        const want = sampleLogitsReference(x, s, step, row);
        if (token === want) continue;
        const noise = gumbelNoise(s.seed ?? 0, step, row);
        const score = (i: number) => x[i]! / (s.temperature ?? 1) + noise(i);
        assert(Math.abs(score(token) - score(want)) < 1e-4, `row ${row}: ${token} instead of ${want}, no near tie`);
      }
    }
  });
}

const row = Float32Array.from([0, 1, 2, 3, 2.5, -1, 0.5, 2, -Infinity, 1.5, -3, NaN]);
const draws: [name: string, logits: Float32Array, settings: SamplingSettings][] = [
  ["all tokens", row, { seed: 1 }],
  ["a low temperature", row, { temperature: 0.5, seed: 2 }],
  ["a high temperature", row, { temperature: 5, seed: 3 }],
  ["top-k, top-p and min-p", row, { topK: 7, topP: 0.9, minP: 0.1, seed: 4n }],
  ["many tokens alike", new Float32Array(256), { seed: 5 }],
  ["one token of many rare ones", Float32Array.from({ length: 1000 }, (_, i) => i ? -7 : 0), { seed: 6 }],
];
for (const [name, logits, s] of draws) {
  Deno.test(`sampleLogits() draws from the distribution: ${name}`, async () => {
    const warped = warpLogitsReference(logits, s), weights = [...warped].map((x) => x < -1e29 ? 0 : Math.exp(x));
    const sum = weights.reduce((a, b) => a + b), counts = new Array<number>(logits.length).fill(0);
    const rows = 2000, steps = 10, many = repeated(logits, rows);
    for (let step = 0; step < steps; step++) for (const t of await sample(many, rows, s, step)) counts[t]!++;
    // rare tokens are counted together, so that each class expects at least 5
    const classes: [seen: number, expected: number][] = [];
    let rest: [number, number] = [0, 0];
    for (const [i, w] of weights.entries()) {
      const expected = w / sum * rows * steps;
      if (expected === 0) assertEquals(counts[i], 0, `token ${i} was dropped`);
      else if (expected >= 5) classes.push([counts[i]!, expected]);
      else rest = [rest[0] + counts[i]!, rest[1] + expected];
    }
    if (rest[1] > 0) classes.push(rest);
    assertChiSquare(classes, name);
  });
}

/** Pearson's statistic, as a normal deviate by Wilson and Hilferty's cube root, is below 4. */
function assertChiSquare(classes: readonly (readonly [seen: number, expected: number])[], name: string): void {
  const statistic = classes.reduce((sum, [seen, expected]) => sum + (seen - expected) ** 2 / expected, 0);
  const freedom = classes.length - 1, variance = 2 / (9 * freedom);
  const deviate = (Math.cbrt(statistic / freedom) - (1 - variance)) / Math.sqrt(variance);
  assert(deviate < 4, `${name}: chi-square ${statistic} at ${freedom} degrees of freedom`);
}

Deno.test("sampleLogits() draws independently in rows, steps and seeds that follow each other", async () => {
  const rows = 8192, logits = new Float32Array(rows * 2);
  const draw = (step: number, seed: number | bigint) => sample(logits, rows, { seed }, step);
  const first = await draw(0, 0);
  const others: [string, number[]][] = [
    ["row", [...first.slice(1), first[0]!]],
    ["step", await draw(1, 0)],
    ["seed", await draw(0, 1)],
    ["upper half of the seed", await draw(0, 2n ** 32n)],
  ];
  for (const [name, second] of others) {
    const pairs = [0, 0, 0, 0];
    for (let i = 0; i < rows; i++) pairs[2 * first[i]! + second[i]!]!++;
    assertChiSquare(pairs.map((seen) => [seen, rows / 4] as const), name);
  }
});

Deno.test("sampleLogits() repeats itself for a seed and step, and rows with their own seed do so in any batch", async () => {
  const x = randn(40), s = { seed: 9 };
  const [a, b] = [await sample(repeated(x, 64), 64, s, 3), await sample(repeated(x, 64), 64, s, 3)];
  assertEquals(a, b);
  assertNotEquals(a, await sample(repeated(x, 64), 64, s, 4));
  assertNotEquals(a, await sample(repeated(x, 64), 64, { seed: 10 }, 3));
  const own = await sample(repeated(x, 3), 3, [{ seed: 1 }, s, s], 3);
  assertEquals([own[1], own[2]], [a[0], a[0]]);
});

Deno.test("sampleLogits() takes a step for each row", async () => {
  const x = repeated(new Float32Array(1000), 2), params = samplingParams(device, [{ seed: 4 }, { seed: 4 }]);
  using tokens = sampleLogits(tensor(device, x, [2, 1000]), params, tensor(device, [5, 6], [2], "uint32"));
  const want = [5, 6].map((step) => sampleLogitsReference(x.subarray(0, 1000), { seed: 4 }, step, 0));
  assertEquals([...await tokens.read()], want);
});

Deno.test("sampleLogits() may be part of a recording, whose step and settings change between replays", async () => {
  const x = randn(50), logits = tensor(device, x, [1, 50]), params = samplingParams(device, {});
  const step = tensor(device, [0], [1], "uint32");
  let tokens = step; // made by the recording
  using recording = device.stream.capture(() => void (tokens = sampleLogits(logits, params, step)));
  for (const [at, s] of [[0, {}], [1, {}], [2, { topK: 3, topP: 0.8, seed: 5 }]] as [number, SamplingSettings][]) {
    params.write(samplingWords(s));
    step.write([at]);
    device.stream.replay(recording);
    assertEquals([...await tokens.read()], [sampleLogitsReference(x, s, at, 0)]);
  }
});

Deno.test("sampleLogits() draws the same numbers for ever", () => {
  const noise = gumbelNoise(42n, 7, 3);
  assertEquals([0, 1, 151_000].map((token) => noise(token).toFixed(6)), ["0.235633", "1.272919", "0.993170"]);
});

Deno.test("sampleLogits() writes no token for a row without a finite logit, and draws the others", async () => {
  const rows = [[-Infinity, NaN, -1e30], [NaN, 1, -Infinity], [-Infinity, -Infinity, -Infinity], [0, Infinity, 1]];
  for (const s of [{}, { topK: 2, topP: 0.9, minP: 0.5 }]) {
    assertEquals(await sample(Float32Array.from(rows.flat()), 4, s), [0xffffffff, 1, 0xffffffff, 1]);
  }
});

Deno.test("sampleLogits() with topK 1 or a temperature near 0 is the argmax", async () => {
  const x = randn(3 * 500);
  const want = [0, 1, 2].map((r) => x.subarray(r * 500, (r + 1) * 500)).map((r) => r.indexOf(Math.max(...r)));
  for (const s of [{ topK: 1 }, { temperature: 1e-9 }, { temperature: 1e-40 }, { topP: 0 }, { minP: 1 }]) {
    assertEquals(await sample(x, 3, s), want, JSON.stringify(s));
  }
});

Deno.test("sampleLogits() refuses steps that do not fit, before anything runs", () => {
  const x = tensor(device, randn(6), [3, 2]), steps = tensor(device, [0, 1], [2], "uint32");
  assertThrows(
    () => sampleLogits(x, samplingParams(device), steps),
    ShapeError,
    "Cannot run sampleLogits as step must be [1] or [3]: current shape is [2]",
  );
});
