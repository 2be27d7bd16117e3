import { assertEquals, assertRejects } from "@std/assert";
import { AbortError, LimitError, NumericError, ShapeError, type TensaurError, ValueError } from "../../src/errors.ts";
import { StaticCache } from "../../src/cache/mod.ts";
import { generate, type GenerationOptions, stream } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { testDevice } from "../helpers.ts";
import { embedded } from "./models.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const prompt = [2043, 510, 300, 257];
const greedy = { doSample: false, eosTokenId: null, maxNewTokens: 12 } as const;
const whole = (await generate(model, { inputIds: [prompt] }, greedy)).sequences[0]!;

/** A codec whose text is one character a token, so that stop strings are easy to aim. */
const letters = {
  decode: (ids: readonly number[]) => ids.map((id) => String.fromCodePoint(0x4e00 + id)).join(""),
  tokenStream: () => ({ put: (id: number) => letters.decode([id]), end: () => "" }),
};

const bad: [name: string, options: GenerationOptions, text: string][] = [
  ["seed negative", { seed: -3 }, "seed must be a whole number from 0: current value is -3"],
  ["eosTokenId beyond the vocabulary", { eosTokenId: [2048] }, "eosTokenId must be token ids below 2048"],
  ["an empty stop string", { stopStrings: [""], tokenizer: letters }, "stopStrings must be texts that are not empty"],
  ["prefillChunkSize 0", { prefillChunkSize: 0 }, "prefillChunkSize must be a whole number from 1"],
];

for (const [name, options, text] of bad) {
  Deno.test(`generate() refuses ${name}, before anything runs`, async () => {
    const { dispatches } = device.stream.counters;
    await assertRejects(() => generate(model, { inputIds: [prompt] }, { ...greedy, ...options }), ValueError, text);
    assertEquals(device.stream.counters.dispatches, dispatches);
  });
}

const badInputs = [
  ["no rows", { inputIds: [] }, ShapeError, "at least one row"],
  ["an empty row", { inputIds: [prompt, []] }, ValueError, "row 1 has none"],
  ["a row that is all padding", { inputIds: [prompt], attentionMask: [[0, 0, 0, 0]] }, ValueError, "row 0 has none"],
  ["an id beyond the vocabulary", { inputIds: [[2048]] }, ValueError, "current value is 2048"],
  ["a negative id", { inputIds: [[-1]] }, ValueError, "current value is -1"],
  ["a fraction", { inputIds: [[1.5]] }, ValueError, "current value is 1.5"],
  ["a mask of another shape", { inputIds: [prompt], attentionMask: [[1]] }, ShapeError, "attentionMask"],
] as const;

for (const [name, inputs, error, text] of badInputs) {
  Deno.test(`generate() refuses ${name}`, async () => {
    const before = device.pool.stats.bytesInUse;
    await assertRejects(() => generate(model, inputs, greedy), error as typeof TensaurError, text);
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}

Deno.test("generate() stops at an end of sequence, and fills with the pad token", async () => {
  const eos = whole[8]!;
  const at = whole.indexOf(eos, prompt.length);
  const { sequences } = await generate(model, { inputIds: [prompt, [2043]] }, {
    ...greedy,
    eosTokenId: eos,
    padTokenId: 7,
  });
  assertEquals(sequences[0]!.slice(0, at + 1), whole.slice(0, at + 1));
  assertEquals(sequences[0]!.slice(at + 1).every((id) => id === 7), true);
});

Deno.test("minNewTokens holds an end of sequence back", async () => {
  const eos = whole[prompt.length]!;
  const ended = await generate(model, { inputIds: [prompt] }, { ...greedy, eosTokenId: eos });
  assertEquals(ended.sequences[0]!.length, prompt.length + 1);
  const held = await generate(model, { inputIds: [prompt] }, { ...greedy, eosTokenId: eos, minNewTokens: 5 });
  assertEquals(held.sequences[0]!.slice(prompt.length, prompt.length + 5).includes(eos), false);
});

Deno.test("maxNewTokens wins over maxLength, and maxLength counts the prompt", async () => {
  const long = await generate(model, { inputIds: [prompt] }, { ...greedy, maxLength: 6 });
  assertEquals(long.sequences[0]!.length, prompt.length + 12);
  const { maxNewTokens: _, ...rest } = greedy;
  const short = await generate(model, { inputIds: [prompt] }, { ...rest, maxLength: 6 });
  assertEquals(short.sequences[0]!.length, 6);
});

Deno.test("stop strings end a row after the token that completes one, across token borders", async () => {
  for (const [from, to] of [[6, 7], [5, 8], [4, 6]] as const) {
    const stop = letters.decode(whole.slice(from, to));
    const { sequences } = await generate(model, { inputIds: [prompt] }, {
      ...greedy,
      stopStrings: [stop],
      tokenizer: letters,
    });
    const end = Array.from(whole.keys()).find((n) =>
      n > prompt.length && letters.decode(whole.slice(prompt.length, n)).includes(stop)
    );
    assertEquals(sequences[0], whole.slice(0, end));
  }
});

Deno.test("a stop string in the prompt ends nothing", async () => {
  const stopStrings = letters.decode(prompt.slice(1, 3));
  const { sequences } = await generate(model, { inputIds: [prompt] }, { ...greedy, stopStrings, tokenizer: letters });
  assertEquals(sequences[0], whole);
});

Deno.test("a logits processor on the host decides, and sees each row's ids", async () => {
  const seen: number[] = [];
  const ban = (ids: readonly number[], scores: Float32Array) => {
    seen.push(ids.length);
    scores[whole[prompt.length]!] = -Infinity;
  };
  const { sequences } = await generate(model, { inputIds: [prompt] }, {
    ...greedy,
    maxNewTokens: 3,
    logitsProcessor: [ban],
  });
  assertEquals(seen, [4, 5, 6]);
  assertEquals(sequences[0]!.slice(4).includes(whole[prompt.length]!), false);
});

Deno.test("stoppingCriteria end rows", async () => {
  const { sequences } = await generate(model, { inputIds: [prompt] }, {
    ...greedy,
    stoppingCriteria: [(ids) => ids.length >= 9],
  });
  assertEquals(sequences[0], whole.slice(0, 9));
});

Deno.test("sampling depends on the seed alone", async () => {
  const draw = async (seed: number) =>
    (await generate(model, { inputIds: [prompt] }, { maxNewTokens: 24, eosTokenId: null, doSample: true, seed }))
      .sequences[0]!;
  const [a, b, c] = [await draw(11), await draw(11), await draw(12)];
  assertEquals(a, b);
  assertEquals(a.join() === c.join(), false);
});

Deno.test("a repetition penalty forbids what was there", async () => {
  const { sequences } = await generate(model, { inputIds: [prompt] }, {
    ...greedy,
    maxNewTokens: 40,
    repetitionPenalty: 1e6,
  });
  assertEquals(new Set(sequences[0]).size, sequences[0]!.length);
});

await generate(model, { inputIds: [prompt] }, { ...greedy, maxNewTokens: 400 }); // the rotary table grows to its length
for (const when of [0, 1, 2, 7, 11]) {
  Deno.test(`an abort at step ${when} rejects with AbortError and leaks nothing`, async () => {
    const before = device.pool.stats.bytesInUse;
    const controller = new AbortController();
    if (when === 0) controller.abort("enough");
    let steps = 0;
    const error = await assertRejects(async () => {
      for await (
        const _ of stream(model, { inputIds: [prompt] }, { ...greedy, maxNewTokens: 400, signal: controller.signal })
      ) {
        if (++steps === when) controller.abort("enough");
      }
    }, AbortError);
    assertEquals(error.cause, "enough");
    assertEquals(steps - when <= 22, true); // within the steps that were in flight
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}

Deno.test("timers run during a generate: AbortSignal.timeout stops it", async () => {
  const start = performance.now();
  const signal = AbortSignal.timeout(60);
  await assertRejects(
    () => generate(model, { inputIds: [prompt] }, { ...greedy, maxNewTokens: 1000, signal }),
    AbortError,
  );
  assertEquals(performance.now() - start < 1000, true);
});

Deno.test("a static cache that is too small is refused before anything is written", async () => {
  using cache = new StaticCache({ maxCacheLen: 3 });
  await assertRejects(
    () => generate(model, { inputIds: [prompt] }, { ...greedy, cache }),
    LimitError,
    "its capacity is 3",
  );
  assertEquals(cache.lengths.every((n) => n === 0), true);
});

Deno.test("logits that are not finite raise NumericError, never a token", async () => {
  const poison = (_: readonly number[], scores: Float32Array) => scores.fill(NaN);
  const options = { ...greedy, logitsProcessor: [poison] };
  await assertRejects(() => generate(model, { inputIds: [prompt] }, options), NumericError, "row 0");
  await assertRejects(
    () => generate(model, { inputIds: [prompt] }, { ...options, doSample: true }),
    NumericError,
    "row 0",
  );
});
