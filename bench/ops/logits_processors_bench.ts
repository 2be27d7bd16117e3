import { biasTable, watermarkWords } from "../../src/ops/mod.ts";
import * as ops from "../../src/ops/mod.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
const u32 = (data: ArrayLike<number>, shape: number[] = [data.length]) =>
  tensor(device, Uint32Array.from(data), shape, "uint32");
const f32 = (data: number[]) => tensor(device, data, [data.length]);

for (const [rows, vocab] of [[1, 32_000], [1, 151_936]] as const) {
  // nearly normal, since how often a row is read depends on its shape
  const uniform = () => Math.random() + Math.random() + Math.random() + Math.random() - 2;
  const x = tensor(device, Float32Array.from({ length: rows * vocab }, () => 5 * uniform()), [rows, vocab]);
  const counts = zeros(device, [rows, vocab], "uint32"), step = u32([3]), length = 1000;
  const past = { ids: u32({ length }, [rows, length]), lengths: u32([length]) };
  const biases = Array.from({ length: 32 }, (_, i) => ({ ids: [i, 7 * i], bias: 1 }));
  const table = u32(biasTable(biases)), penalties = f32([0.1, 0.1]), scale = f32([1.5]), size = u32([3]);
  const mark = {
    greenlistRatio: 0.25,
    bias: 2,
    hashingKey: 15485863,
    seedingScheme: "lefthash",
    contextWidth: 1,
  } as const;
  const words = u32(watermarkWords(mark)), forced = u32([9, 2]), decay = u32([1, 2]), factor = f32([1.1]);
  const rest = { contextHistorySize: 1024, samplingTableSeed: 0, skipFirstNgramCalls: false, debugMode: false };
  const tournaments = u32(
    ops.synthIdWords({ ngramLen: 5, keys: Array.from({ length: 30 }, (_, i) => 31 * i), ...rest }),
  );
  const mass = f32([0.9]), share = f32([0.5]), cutoff = f32([1e-3, 1]);
  const copy = 8 * rows * vocab; // read x, write y
  const runs: [name: string, bytes: number, run: () => unknown][] = [
    ["occurrence_penalty", copy + 4 * rows * vocab, () => ops.occurrencePenalty(x, counts, penalties)],
    ["bias_tokens", copy, () => ops.biasTokens(x, table, step, past)],
    ["ban_ngrams", copy + 12 * length, () => ops.banNgrams(x, past, past, size)],
    ["force_tokens", copy, () => ops.forceTokens(x, forced, step)],
    ["length_decay", copy, () => ops.lengthDecay(x, decay, factor, step)],
    ["finite_logits", copy, () => ops.finiteLogits(x)],
    ["guide_logits", copy + 4 * rows * vocab, () => ops.guideLogits(x, x, scale)],
    ["watermark_logits", copy, () => ops.watermarkLogits(x, past, words)],
    ["synthid_logits", copy, () => ops.synthIdLogits(x, past, tournaments, step)],
    ["cutoff_logits", copy, () => ops.cutoffLogits(x, cutoff)],
    ["typical_logits", copy, () => ops.typicalLogits(x, mass)],
    ["top_h_logits", copy, () => ops.topHLogits(x, share)],
  ];
  for (const [name, bytes, run] of runs) await measure(device, { name, shape: `[${rows}, ${vocab}]`, bytes, run });
}
