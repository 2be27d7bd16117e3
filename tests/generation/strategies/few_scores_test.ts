/** How little beam searches read, and how little they hold with lowMemory: the same beams in both ways. */
import { assert, assertEquals } from "@std/assert";
import { generate, type GenerateOutput, type GenerationOptions } from "../../../src/generation/mod.ts";
import { loadModel } from "../../../src/models/mod.ts";
import { assertClose, testDevice } from "../../helpers.ts";
import { embedded } from "../models.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const V = model.sizes.vocabSize, steps = 6;
const few = { maxNewTokens: steps, eosTokenId: [13, 46], padTokenId: 0, doSample: false, numReturnSequences: 3 };
const inputs = { inputIds: [[2043, 510, 300, 257], [2043, 41]] };

/** A search, and how many tokens of each beam it must look at. */
const BEAMS: Record<string, [options: GenerationOptions, tokens: number]> = {
  "beam search": [{ numBeams: 3 }, 9],
  "diverse beam search": [{ numBeams: 4, numBeamGroups: 2, diversityPenalty: 0.7 }, 8],
  "diverse beam search, a beam a group": [{ numBeams: 3, numBeamGroups: 3, diversityPenalty: 20 }, 5],
  "constrained beam search": [{ numBeams: 3, forceWordsIds: [[300, 41], [[7, 8], [9]]] }, 12],
};

/** What a run gives, and how many bytes it read from the GPU. */
async function run(options: GenerationOptions): Promise<{ output: GenerateOutput; bytes: number }> {
  const { stream } = device, read = stream.read;
  let bytes = 0;
  stream.read = (buffer, offset, size, o) => {
    bytes += size;
    return read.call(stream, buffer, offset, size, o);
  };
  try {
    return { output: await generate(model, inputs, { ...few, ...options }), bytes };
  } finally {
    stream.read = read;
  }
}

function assertSame(a: GenerateOutput, b: GenerateOutput): void {
  assertEquals([a.sequences, a.beamIndices], [b.sequences, b.beamIndices]);
  assertClose("scores", a.sequencesScores!, b.sequencesScores!, { rtol: 1e-4, atol: 1e-4 });
}

const untouched = [() => {}];
for (const [name, [options, tokens]] of Object.entries(BEAMS)) {
  Deno.test(`${name} reads ${tokens} tokens of a beam at most, and all scores only for a closure`, async () => {
    const rows = 2 * options.numBeams!, { output, bytes } = await run(options);
    assert(bytes <= steps * rows * tokens * 8, `${bytes} bytes for ${steps} steps of ${rows} beams`);
    const whole = await run({ ...options, logitsProcessor: untouched });
    assert(whole.bytes >= (steps - 1) * rows * V * 4);
    assertSame(output, whole.output);
  });
}

for (const [name, [options]] of Object.entries({ ...BEAMS, "beam sampling": [{ numBeams: 3, doSample: true }] })) {
  Deno.test(`${name} with lowMemory gives the same beams, and all outputs`, async () => {
    const seeded = { ...options, seed: 5 } as GenerationOptions;
    assertSame((await run({ ...seeded, lowMemory: true })).output, (await run(seeded)).output);
    const all = { outputScores: true, outputLogits: true, outputAttentions: true, outputHiddenStates: true };
    const want = (await run({ ...seeded, ...all })).output;
    const got = (await run({ ...seeded, ...all, lowMemory: true })).output;
    assertSame(got, want);
    for (const records of ["scores", "logits"] as const) {
      want[records]!.forEach((rows, i) => assertClose(records, got[records]![i]!, rows, { rtol: 1e-3, atol: 1e-3 }));
    }
    for (const records of ["attentions", "hiddenStates"] as const) {
      want[records]!.forEach((layers, i) =>
        layers.forEach(({ data, shape }, l) => {
          assertEquals(got[records]![i]![l]!.shape, shape);
          assertClose(records, got[records]![i]![l]!.data, data, { rtol: 1e-3, atol: 1e-3 });
        })
      );
    }
  });
}

Deno.test("lowMemory holds the logits of one beam at a time", async () => {
  const most = async (options: GenerationOptions) => {
    const { applyHead } = model;
    let rows = 0;
    model.applyHead = (
      hidden,
      batch,
    ) => (rows = Math.max(rows, hidden.shape[0]!), applyHead.call(model, hidden, batch));
    try {
      await run(options);
    } finally {
      model.applyHead = applyHead;
    }
    return rows;
  };
  const beams = { numBeams: 8, returnDictInGenerate: false, outputHiddenStates: true };
  assertEquals([await most(beams), await most({ ...beams, lowMemory: true })], [16, 2]);
});
