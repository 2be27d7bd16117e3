import { assert, assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError, ValueError } from "../../src/errors.ts";
import type { Device } from "../../src/gpu/mod.ts";
import { repetitionPenalty } from "../../src/ops/repetition_penalty.ts";
import { samplingParams, type SamplingSettings, samplingWords } from "../../src/ops/sampling_params.ts";
import { warpLogits, warpLogitsReference } from "../../src/ops/warp_logits.ts";
import { tensor, tidy } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor, hasReference, referencePath } from "../reference.ts";

const device = await testDevice();
const wide: Device = Object.create(device, { isCpu: { value: false } }); // chooses the workgroups that GPUs get
const NEG = Math.fround(-1e30);

/** The kernel's result for one row of logits, or several in a row. */
async function warped(
  logits: Float32Array,
  rows: number,
  settings: SamplingSettings | SamplingSettings[],
  on: Device = device,
) {
  using y = tidy(on, () => {
    const params = samplingParams(on, settings);
    return warpLogits(tensor(on, logits, [rows, logits.length / rows]), params);
  });
  return await y.read() as Float32Array;
}

const settings: SamplingSettings[] = [
  {},
  { temperature: 0.3 },
  { topK: 1 },
  { topK: 50 },
  { topK: 300 }, // more than a workgroup has threads
  { topP: 0 },
  { topP: 0.5 },
  { topP: 0.999 },
  { minP: 1 },
  { minP: 0.05 },
  { temperature: 0.7, topK: 50, topP: 0.9 },
  { temperature: 1.5, topK: 20, topP: 0.95, minP: 0.02 },
  { temperature: 0.01, topP: 0.9 },
  { temperature: 100, topP: 0.9, minP: 0.9 },
];
const shapes: [vocab: number, on: Device, threads: string][] = [
  [1, device, ""],
  [5, device, ""],
  [997, device, ""],
  [2048, device, ""],
  [32_000, device, ""],
  [2048, wide, ", 256 threads"],
  [20_001, wide, ", 512 threads"],
];
for (const [vocab, on, threads] of shapes) {
  Deno.test(`warpLogits() equals its reference at [3, ${vocab}]${threads}`, async () => {
    for (const s of vocab > 20_000 ? settings.slice(-4) : settings) {
      const logits = randn(3 * vocab, vocab).map((x) => 3 * x);
      const got = await warped(logits, 3, s, on);
      for (let row = 0; row < 3; row++) {
        const part = [row * vocab, (row + 1) * vocab] as const;
        assertClose(JSON.stringify(s), got.subarray(...part), warpLogitsReference(logits.subarray(...part), s));
      }
    }
  });
}

/** Indices of kept tokens of a row. */
const kept = (row: Float32Array) => [...row.keys()].filter((i) => row[i]! > NEG);
const rows: [name: string, logits: number[], settings: SamplingSettings, want: number[]][] = [
  ["top-k keeps ties of the last", [1, 3, 2, 2, 0, 2], { topK: 2 }, [1, 2, 3, 5]],
  ["top-k of all", [1, 3, 2], { topK: 3 }, [0, 1, 2]],
  ["top-k of more than there are", [1, -Infinity, 2], { topK: 100 }, [0, 2]],
  ["top-k 1 with equal zeros of both signs", [-0, 0, -1], { topK: 1 }, [0, 1]],
  ["top-k among negative logits", [-5, -1, -3, -2], { topK: 2 }, [1, 3]],
  ["top-k across the gap of a mask", [-1e9, 2, -1e9, 1, 0], { topK: 3 }, [1, 3, 4]],
  ["top-k into the mask", [-1e9, 2, -1e9, 1, -2e9], { topK: 3 }, [0, 1, 2, 3]],
  ["top-p keeps ties of the last", [1, 1, 1, 1], { topP: 0.3 }, [0, 1, 2, 3]],
  ["top-p keeps the token that crosses it", [Math.log(0.5), Math.log(0.3), Math.log(0.2)], { topP: 0.6 }, [0, 1]],
  ["top-p 0 keeps the most probable", [0, 2, 1], { topP: 0 }, [1]],
  ["top-p after top-k", [Math.log(4), Math.log(3), Math.log(2), 0], { topK: 3, topP: 0.7 }, [0, 1]],
  ["min-p 1 keeps the largest", [1, 2, 2], { minP: 1 }, [1, 2]],
  ["min-p is relative to the largest", [0, Math.log(0.5), Math.log(0.19)], { minP: 0.2 }, [0, 1]],
  ["-infinity, -1e30 and NaN", [-Infinity, 1, NaN, 0, -1e30, -3e38], {}, [1, 3]],
  ["-infinity and NaN, all stages", [-Infinity, 1, NaN, 0.9], { topK: 3, topP: 0.9, minP: 0.1 }, [1, 3]],
  ["+infinity", [1, Infinity, 2], { topP: 0.99 }, [1]],
  ["nothing finite", [-Infinity, NaN, -1e30], { topK: 2, topP: 0.9, minP: 0.5 }, []],
  ["huge logits", [3e38, -3e29, 1e38], { topP: 0.5 }, [0]],
];
for (const [name, logits, s, want] of rows) {
  Deno.test(`warpLogits() ${name}`, async () => assertEquals(kept(await warped(new Float32Array(logits), 1, s)), want));
}

Deno.test("warpLogits() cuts exactly between neighbouring floats", async () => {
  // all within one binade, each the float next to another
  const logits = new Float32Array(Uint32Array.from({ length: 3000 }, (_, i) => 0x41000000 + (i * 7919) % 3000).buffer);
  for (const topK of [1, 2, 64, 65, 1000, 2999]) assertEquals(kept(await warped(logits, 1, { topK })).length, topK);
});

Deno.test("warpLogits() takes settings by row, and those written later", async () => {
  const logits = Float32Array.from({ length: 12 }, (_, i) => i % 4);
  assertEquals(kept(await warped(logits, 3, [{ topK: 1 }, {}, { minP: 0.3 }])), [3, 4, 5, 6, 7, 10, 11]);
  const x = tensor(device, logits, [3, 4]), params = samplingParams(device, { topK: 1 });
  params.write(samplingWords({ topK: 2 }));
  using y = warpLogits(x, params);
  assertEquals(kept(await y.read() as Float32Array), [2, 3, 6, 7, 10, 11]);
});

Deno.test("samplingParams() and warpLogits() refuse what does not fit, before anything runs", () => {
  const refused: [SamplingSettings, string][] = [
    [{ temperature: 0 }, "Cannot sample as temperature must be a finite number above 0: current value is 0"],
    [{ topK: -1 }, "topK must be a whole number from 0: current value is -1"],
    [{ topP: -0.1 }, "topP must be a number from 0: current value is -0.1"],
    [{ minP: 2 }, "minP must be a number from 0 to 1: current value is 2"],
    [{ seed: 0.5 }, "seed must be an integer: current value is 0.5"],
    [{ temperature: NaN }, "current value is NaN"],
  ];
  for (const [s, message] of refused) assertThrows(() => samplingParams(device, s), ValueError, message);
  const logits = tensor(device, randn(12), [3, 4]), two = samplingParams(device, [{}, {}]);
  assertThrows(() => warpLogits(logits, two), ShapeError, "params must be [3, 8]: current shape is [2, 8]");
  assertThrows(() => warpLogits(logits, tensor(device, randn(8), [1, 8])), DtypeError, "params must be uint32");
});

// --- transformers' processors ---

interface ProcessorCase {
  params: Record<string, number>;
  inputs: { input_ids: number[][]; scores: GoldenTensor };
  outputs: { out: GoldenTensor };
}
const names: Record<string, keyof SamplingSettings> = {
  temperature: "temperature",
  top_k: "topK",
  top_p: "topP",
  min_p: "minP",
};
const settingsOf = (params: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(params).map(([key, value]) => [names[key], value])) as SamplingSettings;
const supported = (params: Record<string, unknown>, ...more: string[]) =>
  Object.keys(params).every((key) => key in names || more.includes(key));

const processors = await goldenCases<ProcessorCase>("data/ops/logits_processors", "logits_processor");
for (const { name, params, inputs, outputs } of processors) {
  if (Object.keys(params).length === 0 || !supported(params)) continue;
  Deno.test(`warpLogits() gives golden ${name}`, async () => {
    const [rows = 0] = inputs.scores.shape;
    const got = await warped(inputs.scores.data as Float32Array, rows, settingsOf(params));
    assertClose("out", got.map((x) => x === NEG ? -Infinity : x), outputs.out.data as Float32Array);
  });
}

interface SamplingCase {
  params: Record<string, number>;
  inputs: { input_ids: number[][]; scores: GoldenTensor };
  outputs: { probabilities: GoldenTensor; kept: number[] };
}
for (const { name, params, inputs, outputs, tolerance } of await goldenCases<SamplingCase>("data/ops/sampling")) {
  if (!supported(params, "repetition_penalty")) continue;
  Deno.test(`warpLogits() gives the distribution of golden ${name}`, async () => {
    const { repetition_penalty = 1, ...others } = params;
    const { shape, data } = inputs.scores, [rows = 0, vocab = 0] = shape;
    const counts = new Uint32Array(rows * vocab);
    for (const [row, ids] of inputs.input_ids.entries()) for (const id of ids) counts[row * vocab + id]!++;
    using y = tidy(device, () => {
      const scores = tensor(device, data as Float32Array, shape);
      const penalized = repetitionPenalty(scores, tensor(device, counts, shape, "uint32"), repetition_penalty);
      return warpLogits(penalized, samplingParams(device, settingsOf(others)));
    });
    const got = await y.read() as Float32Array;
    for (let row = 0; row < rows; row++) {
      const logits = got.subarray(row * vocab, (row + 1) * vocab);
      assertEquals(kept(logits).length, outputs.kept[row], "tokens kept");
      const weights = [...logits].map((x) => Math.exp(x - Math.max(...logits)));
      const sum = weights.reduce((a, b) => a + b);
      const want = (outputs.probabilities.data as Float32Array).subarray(row * vocab, (row + 1) * vocab);
      assertClose("probabilities", weights.map((w) => w / sum), want, tolerance);
    }
  });
}

const vectors = "../design/semantics_vectors.json";
if (hasReference(vectors)) {
  const { logits_processors: v } = JSON.parse(await Deno.readTextFile(referencePath(vectors)));
  const wanted: [string, SamplingSettings][] = [
    ["temperature 0.7", { temperature: 0.7 }],
    ["top_k 3", { topK: 3 }],
    ["top_p 0.8", { topP: 0.8 }],
    ["min_p 0.2", { minP: 0.2 }],
    ["chain temp .7, k5, p.9", { temperature: 0.7, topK: 5, topP: 0.9 }],
  ];
  for (const [name, s] of wanted) {
    Deno.test(`warpLogits() gives transformers' ${name}`, async () => {
      const want = (v.cases[name] as (number | "-inf")[][]).flat().map((x) => x === "-inf" ? NEG : x);
      assert(want.length > 0);
      assertClose(name, await warped(Float32Array.from(v.logits.flat()), 2, s), want);
    });
  }
} else Deno.test({ name: `skipped: ${vectors} is not there`, ignore: true, fn() {} });
