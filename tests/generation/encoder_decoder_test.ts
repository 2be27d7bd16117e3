/** Encoder-decoders generate what transformers does: greedily, by every search, with every processor. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { CrossCache, EncoderDecoderCache, StaticCache } from "../../src/cache/mod.ts";
import { NotSupportedError, ValueError } from "../../src/errors.ts";
import { generate, generateSpeech, type SpeechTask, stream } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { assertClose, testDevice } from "../helpers.ts";
import { type GoldenTensor, hasReference, loadGoldens, referencePath } from "../reference.ts";
import { optionsOf, type SearchCase } from "./strategies/options.ts";

const device = await testDevice();
const MODELS = ["t5", "t5-gated", "bart"];

/** Cases of a golden pair, and the release whose beam search they show. */
async function casesOf(path: string, profile: "hf4" | "hf5") {
  const goldens = await loadGoldens<SearchCase>(path);
  return (goldens?.cases ?? []).filter(({ kind }) => kind === "generate").map((c) => ({ c, profile }));
}

for (const name of MODELS) {
  const path = `data/models/${name}`;
  if (!hasReference(path)) {
    Deno.test(`skipped: generate() of ${name} (no reference data)`, () => {});
    continue;
  }
  const all = [
    ...await casesOf(`${path}/goldens`, "hf5"),
    ...await casesOf(`data/generate/processors-${name}`, "hf5"),
    ...await casesOf(`data/generate/legacy-searches-${name}`, "hf4"),
  ];
  Deno.test(`generate() gives the tokens of ${name}`, async (t) => {
    using model = await loadModel(referencePath(path), { device, dtype: "float32" });
    for (const { c, profile } of all) {
      await t.step(c.name, async () => {
        const inputs = { inputIds: c.inputs.input_ids, attentionMask: c.inputs.attention_mask };
        const allowed = c.name.startsWith("prefix_allowed") && {
          prefixAllowedTokensFn: (_: number, ids: readonly number[]) =>
            Array.from({ length: model.sizes.vocabSize }, (_, t) => t).filter((t) => (t + ids.at(-1)!) % 3 === 1),
        };
        // the goldens leave forced tokens of generation_config.json out
        const forced = { forcedBosTokenId: null, forcedEosTokenId: null };
        const options = { ...forced, ...optionsOf(c.generation), doSample: false, profile, ...allowed };
        const output = await generate(model, inputs, options);
        assertEquals(output.sequences, c.outputs.sequences);
        if (!c.outputs.sequences_scores) return;
        assertClose("scores", output.sequencesScores!, c.outputs.sequences_scores.data, { rtol: 1e-4, atol: 1e-4 });
      });
    }
  });
}

if (hasReference("data/models/t5")) {
  const model = await loadModel(referencePath("data/models/t5"), { device, dtype: "float32" });
  const inputs = { inputIds: [[5, 66, 7, 8, 9, 1], [40, 41, 1]] };
  const greedy = { maxNewTokens: 20, eosTokenId: null, doSample: false } as const;

  Deno.test("generate() runs the encoder once, and goes on from a cache without it", async () => {
    using cache = new EncoderDecoderCache(new StaticCache({ maxCacheLen: 48 }), new CrossCache());
    const first = await generate(model, inputs, { ...greedy, maxNewTokens: 8, cache });
    assert(cache.crossAttentionCache.isUpdated(1));
    assertEquals(cache.lengths, [8, 8]);
    const { sequences } = await generate(model, { ...inputs, decoderInputIds: first.sequences }, {
      ...greedy,
      maxNewTokens: 12,
      cache,
    });
    assertEquals(sequences, (await generate(model, inputs, greedy)).sequences);
  });

  Deno.test("generate() of an encoder-decoder gives each row what it gives alone, by every cache", async () => {
    const { sequences } = await generate(model, inputs, greedy);
    for (const [b, row] of inputs.inputIds.entries()) {
      assertEquals((await generate(model, { inputIds: [row] }, greedy)).sequences[0], sequences[b]);
    }
    for (const cacheImplementation of ["static", "static", "offloaded", "paged"]) {
      assertEquals((await generate(model, inputs, { ...greedy, cacheImplementation })).sequences, sequences);
    }
    assertEquals((await generate(model, inputs, { ...greedy, useCache: false })).sequences, sequences);
    const streamed: number[] = [];
    for await (const { tokens } of stream(model, { inputIds: [[40, 41, 1]] }, greedy)) streamed.push(...tokens);
    assertEquals(streamed, sequences[1]!.slice(1));
  });

  Deno.test("G-67: an encoder-decoder drafts for one, reading what it reads; a decoder alone is refused, and DoLa", async () => {
    const one = { inputIds: [inputs.inputIds[0]!] }, other = Object.create(model, { task: { value: "causal-lm" } });
    const { sequences } = await generate(model, one, greedy), before = device.pool.stats.bytesInUse;
    for (const more of [{ assistantModel: model, numAssistantTokens: 3 }, { promptLookupNumTokens: 3 }]) {
      assertEquals((await generate(model, one, { ...greedy, ...more })).sequences, sequences);
    }
    const refused = [
      [
        { assistantModel: other },
        "The main model and the assistant don't have compatible encoder-dependent input shapes. Ensure you load the " +
        "assistant with the correct encoder-decoder class.",
      ],
      [{ dolaLayers: "low" }, "DoLa decoding is only available for decoder-only models."],
    ] as const;
    for (const [options, message] of refused) {
      const error = await assertRejects(() => generate(model, one, { ...greedy, ...options }), ValueError);
      assertEquals(error.message, message);
    }
    assertEquals(device.pool.stats.bytesInUse, before);
  });

  Deno.test("generate() of an encoder-decoder draws the same again, several times for each input", async () => {
    const options = { maxNewTokens: 12, eosTokenId: null, doSample: true, seed: 3, numReturnSequences: 3, topK: 0 };
    const { sequences } = await generate(model, inputs, options);
    assertEquals(sequences.length, 6);
    assertEquals((await generate(model, inputs, options)).sequences, sequences);
    assert(new Set(sequences.map(String)).size > 4);
  });

  Deno.test("generate() puts the start token before decoderInputIds that lack it", async () => {
    const with_ = await generate(model, { ...inputs, decoderInputIds: [[0, 9], [0, 17]] }, greedy);
    const without = await generate(model, { ...inputs, decoderInputIds: [[9], [17]] }, greedy);
    assertEquals(without.sequences, with_.sequences);
    const other = await generate(model, inputs, { ...greedy, decoderStartTokenId: [3, 4], maxNewTokens: 1 });
    assertEquals(other.sequences.map(([first]) => first), [3, 4]);
  });

  Deno.test("generate() of an encoder-decoder refuses what it cannot do", async () => {
    await assertRejects(() => generate(model), ValueError, "the encoder must have an input");
    await assertRejects(() => generate(model, { inputIds: [[]] }), ValueError, "each row must have a token");
    await assertRejects(() => generate(model, inputs, { guidanceScale: 2 }), NotSupportedError, "guide");
    await assertRejects(
      () => generate(model, inputs, { cache: new StaticCache({ maxCacheLen: 9 }) }),
      ValueError,
      "two",
    );
  });

  Deno.test("generate() of an encoder-decoder returns its memory", async () => {
    await generate(model, inputs, { ...greedy, numBeams: 2 });
    const before = device.pool.stats.bytesInUse;
    await generate(model, inputs, { ...greedy, numBeams: 2 });
    await generate(model, inputs, greedy);
    assertEquals(device.pool.stats.bytesInUse, before);
  });
  addEventListener("unload", () => model.dispose());
}

interface WhisperCase {
  name: string;
  kind: string;
  inputs: { input_features?: GoldenTensor; decoder_input_ids?: number[][] };
  generation?: {
    language?: string;
    task?: string;
    max_new_tokens: number;
    num_beams?: number;
    return_timestamps?: boolean;
  };
  outputs: { sequences: number[][]; log_mel?: GoldenTensor };
}
const whisper = (await loadGoldens<WhisperCase>("data/models/whisper/goldens"))?.cases ?? [];
for (const c of whisper.filter(({ kind }) => kind === "whisper_generate" || kind === "greedy_masked")) {
  Deno.test(`generate() and generateSpeech() give the tokens of whisper: ${c.name}`, async () => {
    using model = await loadModel(referencePath("data/models/whisper"), { device, dtype: "float32" });
    const { input_features: t = c.outputs.log_mel!, decoder_input_ids: ids } = c.inputs;
    const { language, task, return_timestamps: returnTimestamps, ...options } = c.generation ?? {};
    using inputFeatures = tensor(device, t.data as Float32Array, t.shape);
    if (ids) { // any token but those from 410 on
      const suppressTokens = Array.from({ length: model.sizes.vocabSize - 410 }, (_, i) => 410 + i);
      const [want] = c.outputs.sequences, maxNewTokens = want!.length - ids[0]!.length;
      const all = { suppressTokens, beginSuppressTokens: null, eosTokenId: null, maxNewTokens, doSample: false };
      const { sequences } = await generate(model, { inputFeatures, decoderInputIds: ids }, all);
      assertEquals(sequences, c.outputs.sequences);
      return;
    }
    const { sequences, segments } = await generateSpeech(model, inputFeatures, {
      ...optionsOf(options),
      ...{ language, task: task as SpeechTask["task"], returnTimestamps },
      doSample: false,
      profile: "hf5",
    });
    const width = Math.max(...sequences.map((row) => row.length)), pad = model.generationConfig.pad_token_id as number;
    const padded = sequences.map((row) => [...row, ...Array<number>(width - row.length).fill(pad)]);
    assertEquals(padded, c.outputs.sequences);
    for (const row of segments) assert(row.every(({ start, end }) => start >= 0 && end <= 2));
  });
}
