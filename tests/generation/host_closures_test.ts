/** Only the caller's own code, and a grammar's thread, make scores leave the GPU: what each option lets be read. */
import { assert } from "@std/assert";
import { generate, type GenerationOptions } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { loadTokenizer } from "../../src/tokenizer/mod.ts";
import { testDevice } from "../helpers.ts";
import { embedded, PROCESSORS } from "./models.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const tokenizer = await loadTokenizer(embedded("tensaur-draft"));
const V = model.sizes.vocabSize, inputs = { inputIds: [[2043, 510, 300, 257]] };
const few = { maxNewTokens: 3, eosTokenId: null, padTokenId: 0, doSample: false, seed: 1 } as const;

const ON_GPU: GenerationOptions = {
  ...PROCESSORS,
  minLength: 6,
  minNewTokens: 2,
  forcedBosTokenId: 9,
  exponentialDecayLengthPenalty: [1, 1.02],
  renormalizeLogits: true,
  temperature: 0.9,
  topH: 0.9,
  topK: 60,
  topP: 0.95,
  minP: 0.01,
  typicalP: 0.95,
  epsilonCutoff: 1e-4,
  etaCutoff: 1e-4,
};
const WARPERS = ["temperature", "topH", "topK", "topP", "minP", "typicalP", "epsilonCutoff", "etaCutoff"];
const ON_HOST: GenerationOptions = {
  logitsProcessor: [() => {}],
  prefixAllowedTokensFn: () => [7, 8],
  regex: "[a-z]*",
};

/** The most bytes that one read of a run took. */
async function largestRead(options: GenerationOptions): Promise<number> {
  const { stream } = device, { read, readNow } = stream;
  let most = 0;
  const note = (size: number) => void (most = Math.max(most, size));
  stream.read = (buffer, offset, size, o) => (note(size), read.call(stream, buffer, offset, size, o));
  stream.readNow = (buffer, offset, size) => (note(size), readNow.call(stream, buffer, offset, size));
  try {
    await generate(model, inputs, { ...few, ...options });
  } finally {
    Object.assign(stream, { read, readNow });
  }
  return most;
}

for (const [name, value] of Object.entries(ON_GPU)) {
  Deno.test(`${name} leaves the scores on the GPU`, async () => {
    const eosTokenId = name.startsWith("min") || name.startsWith("exp") ? 2047 : null;
    const most = await largestRead({ [name]: value, doSample: WARPERS.includes(name), eosTokenId });
    assert(most < 4 * V, `${most} bytes at once`);
  });
}

for (const [name, value] of Object.entries(ON_HOST)) {
  Deno.test(`${name} reads the scores in each step`, async () => {
    const most = await largestRead({ [name]: value, tokenizer, eosTokenId: 2047 });
    assert(most >= 4 * V, `${most} bytes at once`);
  });
}
