/** Tokens are drawn from the distribution that the plain forms of the warpers give, the same on every backend. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { Chooser } from "../../src/generation/chooser.ts";
import { DEFAULTS, type GenerationConfigFields } from "../../src/generation/config_fields.ts";
import { generate, type GenerationOptions, setSeed } from "../../src/generation/mod.ts";
import type { ResolvedOptions } from "../../src/generation/options.ts";
import { hostPipe } from "../../src/generation/processors/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { type Device, openDevice } from "../../src/gpu/mod.ts";
import { tensor, tidy } from "../../src/tensor/mod.ts";
import { randn, testDevice } from "../helpers.ts";
import { embedded } from "./models.ts";

type Options = Partial<GenerationConfigFields>;

const device = await testDevice();
const full = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const V = 24, ROWS = 5_000;
const row = randn(V, 11).map((x) => Math.fround(2 * x)); // one -infinity, one NaN, a tie
row.set([-Infinity, NaN, row[2]!], 3);

function resolved(options: Options, seed: number): ResolvedOptions {
  const rest = { prefillChunkSize: 512, eosTokenIds: [], padToken: 0, stops: [], newTokens: 8 };
  return { ...DEFAULTS, topK: 0, doSample: true, seed, ...rest, ...options };
}

/** How often each token of `ROWS` equal rows was drawn in `steps` steps. */
async function draw(o: ResolvedOptions, prompt: readonly number[], steps: number): Promise<number[]> {
  const prompts = Array.from({ length: ROWS }, () => prompt), counts = new Array<number>(V).fill(0);
  const many = new Float32Array(ROWS * V);
  for (let r = 0; r < ROWS; r++) many.set(row, r * V);
  const step = tensor(device, [0], [1], "uint32");
  using chooser = new Chooser(device, o, { vocabSize: V, prompts }, step, () => step);
  for (let at = 0; at < steps; at++) {
    step.write([at]);
    using tokens = tidy(device, () => chooser.choose(chooser.process(tensor(device, many, [ROWS, V]))));
    for (const token of await tokens.read()) counts[token]!++;
  }
  step.dispose();
  return counts;
}

/** What is drawn from: the softmax of the scores after the plain forms. */
function probabilities(o: ResolvedOptions, prompt: readonly number[]): number[] {
  const scores = row.slice();
  hostPipe(o, { vocabSize: V, prompts: [prompt] })([prompt], scores);
  const weights = Array.from(scores, (x) => x > -1e30 ? Math.exp(x) : 0);
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / sum);
}

/** Pearson's statistic, as a normal deviate by Wilson and Hilferty's cube root, is below 4; rare tokens count together. */
function assertChiSquare(counts: readonly number[], p: readonly number[], name: string): void {
  const draws = counts.reduce((a, b) => a + b, 0);
  const classes: [seen: number, expected: number][] = [];
  let rest: [number, number] = [0, 0];
  for (const [i, share] of p.entries()) {
    if (share === 0) assertEquals(counts[i], 0, `${name}: token ${i} was dropped`);
    else if (share * draws >= 5) classes.push([counts[i]!, share * draws]);
    else rest = [rest[0] + counts[i]!, rest[1] + share * draws];
  }
  if (rest[1] > 0) classes.push(rest);
  const statistic = classes.reduce((sum, [seen, expected]) => sum + (seen - expected) ** 2 / expected, 0);
  const freedom = classes.length - 1, variance = 2 / (9 * freedom);
  if (freedom === 0) return;
  const deviate = (Math.cbrt(statistic / freedom) - (1 - variance)) / Math.sqrt(variance);
  assert(deviate < 4, `${name}: chi-square ${statistic} at ${freedom} degrees of freedom`);
}

/** The first six are drawn in the gate, all in the full suite. */
const table: Options[] = [
  { temperature: 0.7, topK: 8, topP: 0.9 },
  { temperature: 1.4, minP: 0.05, typicalP: 0.9 },
  { topH: 0.6, topK: 12, repetitionPenalty: 1.3 },
  { epsilonCutoff: 0.02, etaCutoff: 0.1 },
  { temperature: 0.5, frequencyPenalty: 0.4, presencePenalty: 0.3, logitBias: { 4: 1, 7: -2 } },
  { typicalP: 0.6, renormalizeLogits: true, suppressTokens: [1, 2] },
  {},
  { temperature: 0.5 },
  { temperature: 3 },
  { topK: 1 },
  { topK: 5 },
  { topK: 50 },
  { topP: 0.3 },
  { topP: 0.95 },
  { minP: 0.2 },
  { typicalP: 0.2 },
  { typicalP: 0.95 },
  { epsilonCutoff: 0.05 },
  { etaCutoff: 0.3 },
  { topH: 0.3 },
  { topH: 1 },
  { topK: 8, topP: 0.5 },
  { topK: 8, minP: 0.1 },
  { topP: 0.9, minP: 0.05 },
  { temperature: 0.8, topK: 10, topP: 0.9, minP: 0.02 },
  { temperature: 0.8, topK: 10, topP: 0.9, minP: 0.02, typicalP: 0.9, epsilonCutoff: 0.01, etaCutoff: 0.01 },
  { temperature: 2, topH: 0.8, topK: 10, topP: 0.9 },
  { temperature: 0.9, repetitionPenalty: 0.8, topP: 0.8 },
  { noRepeatNgramSize: 2, topK: 6 },
  { badWordsIds: [[2], [1, 0]], minNewTokens: 3, temperature: 1.2, topP: 0.9 },
];
const prompt = [0, 2, 5, 0, 1];
for (const [i, options] of (full ? table : table.slice(0, 6)).entries()) {
  const steps = full ? 20 : 4;
  Deno.test(`${steps * ROWS} draws follow the reference's probabilities: ${JSON.stringify(options)}`, async () => {
    const o = resolved(options, 100 + i);
    assertChiSquare(await draw(o, prompt, steps), probabilities(o, prompt), JSON.stringify(options));
  });
}

const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const inputs = { inputIds: [[2043, 510, 300, 257], [2043, 300]] };
const sampled = { doSample: true, maxNewTokens: 16, eosTokenId: null, topK: 40, topP: 0.95, temperature: 0.9 } as const;

Deno.test("setSeed() fixes the draws of the generations that follow, each of which has its own", async () => {
  const run = async () => (await generate(model, inputs, sampled)).sequences;
  setSeed(7);
  const [a, b] = [await run(), await run()];
  setSeed(7);
  assertEquals(await run(), a);
  assertEquals(await run(), b);
  setSeed(undefined);
  assertNotEquals(a, b);
});

Deno.test("rows of one prompt draw different tokens, the same in each run of a seed", async () => {
  const same = { inputIds: [[2043, 510], [2043, 510], [2043, 510]] };
  const run = async () => (await generate(model, same, { ...sampled, seed: 5 })).sequences;
  const rows = await run();
  assertEquals(new Set(rows.map(String)).size, 3);
  assertEquals(await run(), rows);
});

/** Another WebGPU implementation than the test's own. */
async function otherBackend(): Promise<Device | undefined> {
  try {
    return await openDevice({ provider: device.provider === "dawn" ? "deno" : "dawn" });
  } catch {
    return undefined;
  }
}
const other = await otherBackend();
if (!other) {
  Deno.test({ name: "skipped: the same ids on Dawn, as npm:webgpu finds no GPU here", ignore: true, fn() {} });
} else {
  globalThis.addEventListener("unload", () => other.close());
  Deno.test("a seed draws the same ids on wgpu and on Dawn, in every strategy that draws", async () => {
    using there = await loadModel(embedded("tensaur-draft"), { device: other, dtype: "float32" });
    const one = { inputIds: inputs.inputIds.slice(0, 1) };
    const ways: ((m: typeof model) => GenerationOptions)[] = [
      () => ({}),
      () => ({ typicalP: 0.9, repetitionPenalty: 1.2, topK: 0 }),
      () => ({ numBeams: 3, maxNewTokens: 6 }),
      () => ({ dolaLayers: "high", maxNewTokens: 6, repetitionPenalty: 1.2 }),
      (assistantModel) => ({ assistantModel, numAssistantTokens: 3 }),
      () => ({ promptLookupNumTokens: 3 }),
    ];
    for (const [i, way] of ways.entries()) {
      const run = (m: typeof model) => generate(m, i < 4 ? inputs : one, { ...sampled, ...way(m), seed: 3 });
      const [a, b] = await Promise.all([model, there].map(run));
      assertEquals(b!.sequences, a!.sequences, `${i}`);
    }
  });
}
