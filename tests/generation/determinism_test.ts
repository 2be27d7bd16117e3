/** the same device, prompt, seed and place in the batch give the same tokens from the same bits. */
import { assertEquals } from "@std/assert";
import { generate } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { random, testDevice } from "../helpers.ts";
import { embedded } from "./models.ts";

const full = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const PROMPTS = full ? 100 : 8, RUNS = full ? 5 : 2, BATCH = 4;

const device = await testDevice();

/** Rows of 1 to 40 tokens. */
function prompts(vocabSize: number): number[][] {
  const next = random(17);
  const row = () => Array.from({ length: 1 + Math.floor(40 * next()) }, () => Math.floor(vocabSize * next()));
  return Array.from({ length: PROMPTS }, row);
}

async function hash(scores: readonly Float32Array[]): Promise<string> {
  const all = Uint8Array.from(scores.flatMap((row) => [...new Uint8Array(row.slice().buffer)]));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", all)).toHex();
}

for (const doSample of [false, true]) {
  const how = doSample ? "sampled with a seed" : "greedy";
  Deno.test(`generate() gives ${PROMPTS} prompts the same tokens and logits ${RUNS} times, ${how}`, async () => {
    using model = await loadModel(embedded("tensaur-draft"), { device });
    const all = prompts(model.sizes.vocabSize), options = { doSample, seed: 5, eosTokenId: null, maxNewTokens: 6 };
    const run = async () => {
      const seen: unknown[] = [];
      for (let i = 0; i < PROMPTS; i += BATCH) {
        const inputs = { inputIds: all.slice(i, i + BATCH) };
        const { sequences, logits } = await generate(model, inputs, { ...options, outputLogits: true });
        seen.push(sequences, await hash(logits!));
      }
      return seen;
    };
    const first = await run();
    for (let again = 1; again < RUNS; again++) assertEquals(await run(), first);
  });
}
