/** Prompts as embeddings (G-6, G-12, G-17): the tokens that ids give, in every strategy; processors see new tokens only. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { NotSupportedError, ShapeError, ValueError } from "../../src/errors.ts";
import { generate, type GenerationOptions } from "../../src/generation/mod.ts";
import { openDevice } from "../../src/gpu/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { keep, type Tensor, tensor } from "../../src/tensor/mod.ts";
import { setWarningHook } from "../../src/warn.ts";
import { testDevice } from "../helpers.ts";
import { tinyModel } from "../models/tiny_model.ts";

const device = await testDevice();
const path = new URL("../data/outputs/model", import.meta.url).pathname;
const model = await loadModel(path, { device, dtype: "float32" });
const prompts = [[1, 7, 30, 7, 12], [1, 3, 25, 41, 9]];
const few = { maxNewTokens: 5, eosTokenId: null, padTokenId: 0, doSample: false } as const;

/** What the model's own embedding gives of `inputIds`: [B, S, D]. */
async function embedsOf(on: typeof model, inputIds: number[][]): Promise<Tensor> {
  using output = await on.forward({ inputIds }, { outputHiddenStates: true });
  const [first] = output.hiddenStates!;
  return keep(on.device, tensor(on.device, await first!.read(), first!.shape));
}
const inputsEmbeds = await embedsOf(model, prompts);
const one = await embedsOf(model, prompts.slice(0, 1));
addEventListener("unload", () => [inputsEmbeds, one].forEach((t) => t.dispose()));

const STRATEGIES: Record<string, GenerationOptions> = {
  greedy: {},
  "greedy in chunks": { prefillChunkSize: 2 },
  "greedy with outputs, run anew each time": { outputHiddenStates: true, useCache: false },
  sample: { doSample: true, seed: 5 },
  guided: { guidanceScale: 1.5 },
  beam: { numBeams: 3 },
  contrastive: { penaltyAlpha: 0.5, topK: 3 },
  dola: { dolaLayers: [0, 1], repetitionPenalty: 1 },
};

Deno.test("generate() from embeddings gives the tokens that their ids give, and no others before them", async () => {
  for (const [name, options] of Object.entries(STRATEGIES)) {
    const want = await generate(model, { inputIds: prompts }, { ...few, ...options });
    const before = device.pool.stats.bytesInUse;
    const got = await generate(model, { inputsEmbeds }, { ...few, ...options });
    assertEquals(got.sequences, want.sequences.map((row) => row.slice(5)), name);
    assertEquals(got.promptLengths, [0, 0]);
    assertEquals(device.pool.stats.bytesInUse, before, name);
    const both = await generate(model, { inputsEmbeds, inputIds: prompts }, { ...few, ...options });
    assertEquals(both.sequences, want.sequences, name);
  }
  const looked = await generate(model, { inputsEmbeds: one }, { ...few, promptLookupNumTokens: 2 });
  assertEquals(looked.sequences[0], (await generate(model, { inputIds: prompts }, few)).sequences[0]!.slice(5));
});

Deno.test("generate() from one embedding, padded ones, and of other families", async () => {
  const attentionMask = [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]];
  const want = await generate(model, { inputIds: prompts, attentionMask }, few);
  const got = await generate(model, { inputsEmbeds, attentionMask }, few);
  assertEquals(got.sequences, want.sequences.map((row) => row.slice(5)));
  for (const family of ["gpt2", "gemma2"] as const) {
    using tiny = await tinyModel(device, family);
    for (const inputIds of [[[3, 9, 4, 9]], [[7]]]) {
      const ids = await generate(tiny, { inputIds }, few);
      using first = await embedsOf(tiny, inputIds);
      const rows = await first.read() as Float32Array;
      const scale = family === "gemma2" ? Math.sqrt(first.shape[2]!) : 1; // it scales what it is given
      using inputsEmbeds = tensor(device, rows.map((x) => x / scale), first.shape);
      assertEquals((await generate(tiny, { inputsEmbeds }, few)).sequences[0], ids.sequences[0]!.slice(-5), family);
    }
  }
});

Deno.test("processors, criteria and streamers see no embeddings, but the ids that are given with them", async () => {
  for (const inputIds of [undefined, prompts.map((row) => row.slice(1, 3))]) {
    const seen: number[][] = [], ended: number[][] = [], put: number[][] = [];
    const { sequences } = await generate(model, { inputsEmbeds, inputIds }, {
      ...few,
      maxNewTokens: 2,
      logitsProcessor: [(ids) => void seen.push([...ids])],
      stoppingCriteria: [(ids) => (ended.push([...ids]), false)],
      streamer: { put: (rows) => void put.push(...rows.map((row) => [...row])), end() {} },
    });
    const given = inputIds ?? [[], []], first = sequences.map((row, b) => row.slice(0, given[b]!.length + 1));
    assertEquals(seen, [...given, ...first]);
    assertEquals(ended, [...first, ...sequences]);
    assertEquals(put.slice(0, 2), given);
  }
});

Deno.test("G-6: lengths count embeddings, and what processors know of them does not", async () => {
  const { sequences } = await generate(model, { inputsEmbeds }, { ...few, maxNewTokens: undefined, maxLength: 8 });
  assertEquals(sequences.map((row) => row.length), [3, 3]);
  const end = sequences[0]![0]!;
  const options = { ...few, eosTokenId: end, minNewTokens: 2, forcedEosTokenId: 44 };
  const held = await generate(model, { inputsEmbeds: one }, options);
  const want = await generate(model, { inputIds: prompts.slice(0, 1) }, options);
  assertEquals(held.sequences[0], want.sequences[0]!.slice(5));
  assert(!held.sequences[0]!.slice(0, 2).includes(end));
});

Deno.test("G-17: embeddings on another device are copied, with a warning", async () => {
  const heard: string[] = [], before = setWarningHook((category, text) => heard.push(`${category}: ${text}`));
  await using other = await openDevice();
  using there = tensor(other, await inputsEmbeds.read(), inputsEmbeds.shape);
  const bytes = device.pool.stats.bytesInUse;
  try {
    const want = await generate(model, { inputsEmbeds }, few);
    assertEquals((await generate(model, { inputsEmbeds: there }, few)).sequences, want.sequences);
  } finally {
    setWarningHook(before);
  }
  assertEquals(heard.length, 1);
  const text =
    "UserWarning: You are calling .generate() with the `inputsEmbeds` being on a device different than your model's";
  assert(heard[0]!.startsWith(text), heard[0]);
  assertEquals(device.pool.stats.bytesInUse, bytes);
});

Deno.test("G-12: embeddings that do not fit, or go with what needs ids, are refused before anything runs", async () => {
  using flat = tensor(device, [1, 2, 3], [1, 3]), narrow = tensor(device, [1, 2, 3], [1, 1, 3]);
  const { dispatches } = device.stream.counters, bytes = device.pool.stats.bytesInUse;
  const table: [inputs: object, options: GenerationOptions, error: new (message: string) => Error, message: string][] =
    [
      [{ inputsEmbeds: flat }, {}, ShapeError, "inputsEmbeds must be [rows, tokens, size]"],
      [{ inputsEmbeds, inputIds: [[1]] }, {}, ShapeError, "current shape is [2,5,16] for 1 rows of ids"],
      [
        { inputsEmbeds, attentionMask: [[1], [1]] },
        {},
        ShapeError,
        "attentionMask must have the shape of inputsEmbeds",
      ],
      [{ inputsEmbeds: narrow }, {}, ShapeError, "inputsEmbeds"],
      [
        { inputsEmbeds, attentionMask: [[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]] },
        {},
        ValueError,
        "each row must have a token",
      ],
      [{ inputsEmbeds }, { tokenHealing: true }, NotSupportedError, "tokenHealing must be left out"],
      [{ inputsEmbeds }, { assistantModel: model }, NotSupportedError, "assistantModel must be left out"],
    ];
  for (const [inputs, options, error, message] of table) {
    await assertRejects(() => generate(model, inputs, { ...few, ...options }), error, message);
    assertEquals([device.stream.counters.dispatches, device.pool.stats.bytesInUse], [dispatches, bytes], message);
  }
});
