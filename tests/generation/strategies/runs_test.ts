/** What every strategy promises of its outputs, its cache, its memory and an abort. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { DynamicCache } from "../../../src/cache/mod.ts";
import { AbortError, NumericError } from "../../../src/errors.ts";
import {
  computeTransitionScores,
  DisjunctiveConstraint,
  generate,
  type GenerateOutput,
  type GenerationOptions,
  PhrasalConstraint,
  stream,
} from "../../../src/generation/mod.ts";
import { loadModel, type Model } from "../../../src/models/mod.ts";
import { tensor } from "../../../src/tensor/mod.ts";
import { assertClose, testDevice } from "../../helpers.ts";
import { embedded } from "../models.ts";

const MOMENTS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const { vocabSize: V, hiddenSize: D, heads: H } = model.sizes, L = model.sizes.attention.length;
const prompt = [2043, 510, 300, 257], short = [2043, 41];
const few = { maxNewTokens: 5, eosTokenId: null, doSample: false } as const;

const STRATEGIES: Record<string, GenerationOptions> = {
  greedy: {},
  sample: { doSample: true, seed: 5 },
  beam: { numBeams: 3 },
  beamSample: { numBeams: 3, doSample: true, seed: 5 },
  groupBeam: { numBeams: 4, numBeamGroups: 2, diversityPenalty: 0.5 },
  constrainedBeam: { numBeams: 3, forceWordsIds: [[300]] },
  contrastive: { penaltyAlpha: 0.5, topK: 3 },
  dola: { dolaLayers: "low", repetitionPenalty: 1.2 },
  assisted: { assistantModel: model, numAssistantTokens: 2 },
  promptLookup: { promptLookupNumTokens: 2 },
};
const BEAMS = ["beam", "beamSample", "groupBeam", "constrainedBeam"];
const SINGLE = ["assisted", "promptLookup"];

const bytes = () => device.pool.stats.bytesInUse;
await generate(model, { inputIds: [prompt] }, few); // what stays with the model is made

for (const [name, options] of Object.entries(STRATEGIES)) {
  Deno.test(`${name}: an abort at any of ${MOMENTS.length} moments gives AbortError, the memory, and the cache as promised`, async () => {
    const before = bytes();
    for (const moment of MOMENTS) {
      using cache = new DynamicCache();
      const controller = new AbortController();
      let seen = 0;
      if (moment === 0) controller.abort(new Error("enough"));
      const logitsProcessor = [() => {
        if (++seen === moment) controller.abort(new Error("enough"));
      }];
      const more = { ...few, ...options, logitsProcessor, signal: controller.signal, cache, maxNewTokens: 12 };
      const error = await assertRejects(() => generate(model, { inputIds: [prompt] }, more), AbortError);
      assertEquals((error.cause as Error).message, "enough");
      assert(cache.lengths.length === 0 || cache.lengths.length === 1, `${cache.lengths}`);
      const again = await generate(model, { inputIds: [prompt] }, { ...few, cache: usable(cache) });
      assertEquals(again.sequences, plain.sequences, `moment ${moment}`);
    }
    assertEquals(bytes(), before);
  });
}

const plain = await generate(model, { inputIds: [prompt] }, few);
/** A cache that holds more than the prompt holds what was decoded, which is no prefix of it. */
function usable(cache: DynamicCache): DynamicCache {
  if (cache.lengths.length) cache.crop([Math.min(cache.lengths[0]!, prompt.length)]);
  return cache;
}

for (const [name, options] of Object.entries(STRATEGIES)) {
  Deno.test(`${name}: all outputs, in their shapes, and the same tokens with them`, async () => {
    const inputIds = SINGLE.includes(name) ? [prompt] : [prompt, short];
    const want = await generate(model, { inputIds }, { ...few, ...options });
    const before = bytes();
    const all = { outputScores: true, outputLogits: true, outputAttentions: true, outputHiddenStates: true };
    const got = await generate(model, { inputIds }, { ...few, ...options, ...all });
    assertEquals(got.sequences, want.sequences);
    assertEquals(bytes(), before);
    const rows = inputIds.length * (options.numBeams ?? 1), steps = got.sequences[0]!.length - prompt.length;
    assertEquals(got.scores!.map(({ length }) => length), Array(steps).fill(rows * V));
    assertEquals(got.logits!.map(({ length }) => length), Array(steps).fill(rows * V));
    got.attentions!.forEach((layers, step) => {
      const queries = step === 0 ? prompt.length : 1;
      assertEquals(layers.map(({ shape }) => shape), Array(L).fill([rows, H, queries, prompt.length + step]));
    });
    got.hiddenStates!.forEach((layers, step) => {
      assertEquals(layers.map(({ shape }) => shape), Array(L + 1).fill([rows, step === 0 ? prompt.length : 1, D]));
    });
    assertEquals([got.attentions!.length, got.hiddenStates!.length], [steps, steps]);
    if (!BEAMS.includes(name)) return;
    const scores = computeTransitionScores(got).map((row) => row.reduce((sum, x) => sum + x, 0));
    const lengths = got.beamIndices!.map((row) => row.filter((index) => index >= 0).length);
    if (name === "constrainedBeam") return; // its scores are sums
    assertClose("sums", scores.map((sum, r) => sum / lengths[r]!), got.sequencesScores!, { rtol: 1e-4, atol: 1e-4 });
  });
}

/** Attention rows or hidden states that two runs both have. */
function assertSameRecords(a: GenerateOutput, b: GenerateOutput): void {
  for (const name of ["scores", "logits"] as const) {
    b[name]!.forEach((want, step) => assertClose(name, a[name]![step]!, want, { rtol: 1e-3, atol: 1e-3 }));
  }
  for (const name of ["attentions", "hiddenStates"] as const) {
    b[name]!.forEach((layers, step) =>
      layers.forEach((want, layer) => {
        const got = a[name]![step]![layer]!;
        assertEquals(got.shape, want.shape);
        assertClose(`${name} ${step} ${layer}`, got.data, want.data, { rtol: 1e-3, atol: 1e-3 });
      })
    );
  }
}

Deno.test("assisted decoding gives the outputs of greedy search, step by step", async () => {
  const all = { outputScores: true, outputLogits: true, outputAttentions: true, outputHiddenStates: true };
  const greedy = await generate(model, { inputIds: [prompt] }, { ...few, ...all });
  for (const name of SINGLE) {
    assertSameRecords(await generate(model, { inputIds: [prompt] }, { ...few, ...all, ...STRATEGIES[name] }), greedy);
  }
});

Deno.test("useCache: false gives the same tokens", async () => {
  for (const name of ["greedy", "sample", "beam", "dola"]) {
    const options = { ...few, ...STRATEGIES[name] };
    const want = await generate(model, { inputIds: [prompt, short] }, options);
    const got = await generate(model, { inputIds: [prompt, short] }, { ...options, useCache: false });
    assertEquals(got.sequences, want.sequences, name);
  }
});

Deno.test("a cache that is passed in is used, kept, and returned", async () => {
  for (const [name, options] of Object.entries(STRATEGIES)) {
    using cache = new DynamicCache();
    await generate(model, { inputIds: [prompt.slice(0, 3)] }, { maxNewTokens: 1, eosTokenId: null, cache });
    const got = await generate(model, { inputIds: [prompt] }, { ...few, ...options, cache });
    assertEquals(
      got.sequences,
      (await generate(model, { inputIds: [prompt] }, { ...few, ...options })).sequences,
      name,
    );
    assert(got.cache === cache);
    assertEquals(cache.lengths, [BEAMS.includes(name) ? prompt.length : prompt.length + 4], name);
  }
});

Deno.test("returnDictInGenerate gives the run's own cache, which goes on", async () => {
  const before = bytes();
  const { sequences, cache } = await generate(model, { inputIds: [prompt] }, { ...few, returnDictInGenerate: true });
  assertEquals(cache!.lengths, [prompt.length + 4]);
  const more = await generate(model, { inputIds: sequences }, { ...few, cache });
  assertEquals(more.sequences, (await generate(model, { inputIds: sequences }, few)).sequences);
  cache![Symbol.dispose]();
  assertEquals(bytes(), before);
});

Deno.test("numReturnSequences gives so many draws of each prompt, grouped by prompt", async () => {
  const options = { ...few, doSample: true, seed: 3, numReturnSequences: 3, temperature: 2 };
  const { sequences } = await generate(model, { inputIds: [prompt, short] }, options);
  assertEquals(sequences.map((row) => row[1]), [510, 510, 510, 41, 41, 41]);
  assert(new Set(sequences.map((row) => row.join())).size === 6);
  using cache = new DynamicCache();
  await generate(model, { inputIds: [prompt, short] }, { maxNewTokens: 1, eosTokenId: null, cache });
  assertEquals((await generate(model, { inputIds: [prompt, short] }, { ...options, cache })).sequences, sequences);
});

Deno.test("numReturnSequences of a beam search gives the best, best first", async () => {
  const options = { ...few, numBeams: 4, numReturnSequences: 3 };
  const { sequences, sequencesScores } = await generate(model, { inputIds: [prompt, short] }, options);
  assertEquals(sequences.length, 6);
  for (const at of [0, 3]) {
    const scores = sequencesScores!.slice(at, at + 3);
    assertEquals(scores, scores.toSorted((a, b) => b - a));
  }
});

Deno.test("beam search in chunks, and of a ragged batch, gives what it gives alone", async () => {
  const options = { ...few, numBeams: 3, numReturnSequences: 3, prefillChunkSize: 2 };
  const { sequencesScores, sequences } = await generate(model, { inputIds: [prompt, short] }, options);
  const alone = await generate(model, { inputIds: [short] }, { ...options, prefillChunkSize: 512 });
  assertEquals(sequences.slice(3).map((row) => row.slice(0, 7)), alone.sequences);
  assertClose("scores", sequencesScores!.slice(3), alone.sequencesScores!, { rtol: 1e-4, atol: 1e-4 });
});

Deno.test("a stream can be left at any step of any strategy that has steps, and returns its memory", async () => {
  const before = bytes();
  for (const [name, options] of Object.entries(STRATEGIES).filter(([name]) => !BEAMS.includes(name))) {
    for (const leaveAt of [1, 3]) {
      let steps = 0;
      for await (const { tokens } of stream(model, { inputIds: [prompt] }, { ...few, ...options })) {
        assertEquals(tokens.length, 1);
        if (++steps === leaveAt) break;
      }
      assertEquals(bytes(), before, name);
    }
  }
});

Deno.test("every strategy raises NumericError where a logit is not finite", async () => {
  const own: Partial<Model> = {
    applyHead: () => tensor(device, Array<number>(V).fill(NaN), [1, V]),
    hidden: model.hidden.bind(model),
    newCache: model.newCache.bind(model),
  };
  const broken = new Proxy(model, { get: (_, key) => own[key as keyof Model] ?? model[key as keyof Model] });
  const before = bytes();
  for (const name of ["beam", "beamSample", "groupBeam", "constrainedBeam", "contrastive", "dola", "promptLookup"]) {
    const run = () => generate(broken, { inputIds: [prompt] }, { ...few, ...STRATEGIES[name] });
    await assertRejects(run, NumericError, "logits must be finite");
    assertEquals(bytes(), before, name);
  }
});

Deno.test("constraints may be given as objects", async () => {
  const constraints = [new PhrasalConstraint([300, 41]), new DisjunctiveConstraint([[7, 8], [9]])];
  const { sequences } = await generate(model, { inputIds: [prompt] }, {
    ...few,
    maxNewTokens: 8,
    numBeams: 4,
    constraints,
  });
  const text = `,${sequences[0]!.join()},`;
  assert(text.includes(",300,41,") && (text.includes(",7,8,") || text.includes(",9,")), text);
});
