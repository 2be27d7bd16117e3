/**
 * all-MiniLM-L6-v2 over one sentence of 128 tokens, and over a ragged batch, in a process of its own.
 *
 *     deno run -A bench/encoder_bench.ts FOLDER [--rounds 5]
 */
import { loadModel, type Model, openDevice } from "../mod.ts";
import { flagValue } from "./flags.ts";

/** The best of the rounds, in milliseconds. */
export interface EncoderResult {
  model: string;
  dtype: string;
  /** One row of 128 tokens. */
  sentence: number;
  /** 16 rows of 8 to 128 tokens. */
  batch: number;
  /** Tokens of that batch. */
  batchTokens: number;
  peakBytes: number;
}

const LONGEST = 128, ROWS = 16;

/** Measures the encoder in `path`. */
export async function encoderBench(path: string, rounds: number): Promise<EncoderResult> {
  await using device = await openDevice();
  using model = await loadModel(path, { device, dtype: "float32" });
  const lengths = Array.from({ length: ROWS }, (_, i) => (i + 1) * LONGEST / ROWS);
  const best = { sentence: Infinity, batch: Infinity };
  for (let round = 0; round <= rounds; round++) {
    const sentence = await timed(model, [LONGEST]), batch = await timed(model, lengths);
    if (round === 0) continue; // compiles
    best.sentence = Math.min(best.sentence, sentence);
    best.batch = Math.min(best.batch, batch);
  }
  const batchTokens = lengths.reduce((sum, n) => sum + n, 0), { peakBytes } = device.pool.stats;
  return { model: "all-MiniLM-L6-v2", dtype: model.dtype, ...best, batchTokens, peakBytes };
}

/** Milliseconds until the hidden states are on the host. */
async function timed(model: Model, lengths: readonly number[]): Promise<number> {
  const rows = (id: (i: number) => number) =>
    lengths.map((n) => Array.from({ length: LONGEST }, (_, i) => i < n ? id(i) : 0));
  const inputs = { inputIds: rows((i) => 1000 + i), attentionMask: rows(() => 1) };
  const start = performance.now();
  using output = await model.forward(inputs);
  await output.lastHiddenState!.read();
  return performance.now() - start;
}

if (import.meta.main) {
  console.log(JSON.stringify(await encoderBench(Deno.args[0]!, Number(flagValue("--rounds") ?? 5))));
}
