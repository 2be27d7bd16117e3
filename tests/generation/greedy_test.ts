import { assertEquals } from "@std/assert";
import { DynamicCache, StaticCache } from "../../src/cache/mod.ts";
import { generate, stream } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import type { Tensor } from "../../src/tensor/mod.ts";
import { assertClose, testDevice } from "../helpers.ts";
import { DECODERS, embedded, referenceModel } from "./models.ts";

const device = await testDevice();

for (const name of DECODERS) {
  const reference = await referenceModel(name);
  if (!reference) {
    Deno.test(`skipped: generate() equals the goldens of ${name} (no reference data)`, () => {});
    continue;
  }
  Deno.test(`generate() gives the greedy tokens of ${name}`, async (t) => {
    using model = await loadModel(reference.path, { device, dtype: "float32" });
    for (const c of reference.cases.filter(({ name }) => name === "greedy" || name === "greedy_eos")) {
      const inputs = { inputIds: c.inputs.input_ids, attentionMask: c.inputs.attention_mask };
      const options = {
        maxNewTokens: c.generation.max_new_tokens,
        eosTokenId: c.generation.eos_token_id,
        doSample: false,
      };
      await t.step(c.name, async () => {
        assertEquals((await generate(model, inputs, options)).sequences, c.outputs.sequences);
      });
      await t.step(`${c.name}, prompts unpadded, in chunks of 3, static cache`, async () => {
        const rows = inputs.inputIds.map((row, b) => row.filter((_, i) => inputs.attentionMask?.[b]?.[i] ?? 1));
        const width = Math.max(...rows.map((row) => row.length));
        const maxCacheLen = width + options.maxNewTokens;
        using cache = name === "mamba" ? model.newCache() : new StaticCache({ maxCacheLen });
        const { sequences } = await generate(model, { inputIds: rows }, { ...options, cache, prefillChunkSize: 3 });
        const pad = model.config.pad_token_id;
        const fresh = (all: number[][], prompts: readonly number[][]) =>
          all.map((row, b) => row.slice(prompts[b]!.length, row.findLastIndex((id) => id !== pad) + 1));
        const want = fresh(c.outputs.sequences, inputs.inputIds), got = fresh(sequences, rows);
        assertEquals(got, want);
      });
      await t.step(`${c.name}, step by step with scores`, async () => {
        const { sequences, logits } = await generate(model, inputs, { ...options, outputLogits: true });
        assertEquals(sequences, c.outputs.sequences);
        assertEquals(logits!.length, c.outputs.sequences[0]!.length - inputs.inputIds[0]!.length);
        const want = c.outputs.step_logits, V = model.sizes.vocabSize, steps = c.logit_steps ?? [];
        for (let at = 0; want && at < want.data.length; at += V) { // [B, steps, V]
          const b = Math.floor(at / V / steps.length), step = steps[at / V % steps.length]!;
          const got = logits![step]!.subarray(b * V, (b + 1) * V);
          assertClose(`row ${b}, step ${step}`, got, want.data.subarray(at, at + V), { rtol: 1e-4, atol: 1e-4 });
        }
      });
    }
  });
}

const tiny = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const prompt = [2043, 510, 300, 257], short = [2043, 41];
const greedy = { doSample: false, eosTokenId: null, maxNewTokens: 20 } as const;

Deno.test("generate() gives each row of a ragged batch what it gives alone", async () => {
  const { sequences } = await generate(tiny, { inputIds: [prompt, short] }, greedy);
  const alone = await Promise.all([prompt, short].map((row) => generate(tiny, { inputIds: [row] }, greedy)));
  assertEquals(sequences[0], alone[0]!.sequences[0]);
  assertEquals(sequences[1]!.slice(0, 22), alone[1]!.sequences[0]);
});

Deno.test("G-15: only the last positions of a prompt get logits, those that a pass over all positions gives", async () => {
  const inputs = { inputIds: [prompt, short] }, { nextLogits, applyHead } = tiny, V = tiny.sizes.vocabSize;
  using pass = await tiny.forward(inputs);
  const all = await pass.logits!.read() as Float32Array, ends = [prompt.length - 1, prompt.length + short.length - 1];
  const heads: number[] = [], seen = (logits: Tensor) => (heads.push(logits.shape[0]!), logits);
  tiny.nextLogits = (...args) => seen(nextLogits.apply(tiny, args));
  tiny.applyHead = (...args) => seen(applyHead.apply(tiny, args));
  try {
    for (const options of [{}, { numBeams: 3 }, { penaltyAlpha: 0.5, topK: 3 }, { outputHiddenStates: true }]) {
      const more = { ...greedy, ...options, maxNewTokens: 1, outputLogits: true };
      const { logits } = await generate(tiny, inputs, more), rows = logits![0]!.length / V / 2;
      for (const [b, end] of ends.entries()) {
        const got = logits![0]!.subarray(b * rows * V, (b * rows + 1) * V);
        assertClose(`row ${b}`, got, all.subarray(end * V, (end + 1) * V), { rtol: 1e-4, atol: 1e-4 });
      }
    }
    assertEquals(new Set(heads), new Set([2, 6])); // a row each; contrastive search's 3 candidates of each
  } finally {
    Object.assign(tiny, { nextLogits, applyHead });
  }
});

Deno.test("stream() yields what generate() returns", async () => {
  const { sequences } = await generate(tiny, { inputIds: [prompt] }, greedy);
  const tokens: number[] = [];
  for await (const step of stream(tiny, { inputIds: [prompt] }, greedy)) tokens.push(...step.tokens);
  assertEquals([...prompt, ...tokens], sequences[0]);
});

Deno.test("stream() can be left at any step, and returns its memory", async () => {
  const before = device.pool.stats.bytesInUse;
  for (const leaveAt of [1, 2, 5, 13]) {
    let steps = 0;
    for await (const _ of stream(tiny, { inputIds: [prompt] }, greedy)) if (++steps === leaveAt) break;
    assertEquals(device.pool.stats.bytesInUse, before);
  }
});

Deno.test("generate() goes on from a cache, and computes only what is new", async () => {
  using cache = new DynamicCache();
  const first = await generate(tiny, { inputIds: [prompt] }, { ...greedy, cache });
  assertEquals(cache.lengths, [first.sequences[0]!.length - 1]);
  const longer = [...first.sequences[0]!, 17, 99];
  const before = device.stream.counters.dispatches;
  const again = await generate(tiny, { inputIds: [longer] }, { ...greedy, cache });
  const cached = device.stream.counters.dispatches - before;
  assertEquals(again.sequences, (await generate(tiny, { inputIds: [longer] }, greedy)).sequences);
  assertEquals(cached > 0, true);
  assertEquals(cache.lengths, [longer.length + 19]);
});

Deno.test("a decode step is replayed: no pipeline, bind group, buffer or host write after warm-up", async () => {
  using cache = new StaticCache({ maxCacheLen: 256 });
  const counts = () => ({
    pipelines: device.kernels.counters.pipelines,
    bindGroups: device.kernels.counters.bindGroups,
    buffers: device.pool.stats.created,
    writes: device.stream.counters.writes,
  });
  let steps = 0, warm: ReturnType<typeof counts> | undefined;
  for await (const _ of stream(tiny, { inputIds: [prompt] }, { ...greedy, maxNewTokens: 100, cache })) {
    if (++steps === 30) warm = counts();
    if (steps === 90) assertEquals(counts(), warm);
  }
  assertEquals(steps, 100);
});
