import { countTokens } from "../../src/ops/count_tokens.ts";
import { repetitionPenalty } from "../../src/ops/repetition_penalty.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { benchDevice, measure } from "../measure.ts";

const device = await benchDevice();
const penalty = tensor(device, [1.1], [1]);
for (const [rows, vocab] of [[1, 32_000], [8, 151_936]] as const) {
  const logits = zeros(device, [rows, vocab]), counts = zeros(device, [rows, vocab], "uint32");
  const tokens = zeros(device, [rows], "uint32");
  const cuSeqlens = tensor(device, Uint32Array.from({ length: rows + 1 }, (_, i) => i), [rows + 1], "uint32");
  const shape = `[${rows}, ${vocab}]`;
  await measure(device, {
    name: "repetition_penalty",
    shape,
    bytes: 12 * rows * vocab, // read logits and counts, write y
    run: () => repetitionPenalty(logits, counts, penalty),
  });
  await measure(device, {
    name: "count_tokens",
    shape,
    bytes: 12 * rows,
    run: () => countTokens(counts, tokens, cuSeqlens),
  });
}
