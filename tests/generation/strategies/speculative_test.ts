/** Speculative decoding without a GPU: candidates, acceptance, schedules, and the law that it changes no output. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ValueError } from "../../../src/errors.ts";
import type { GenerationOptions } from "../../../src/generation/options.ts";
import { Rows } from "../../../src/generation/rows.ts";
import { assistedDecoding, type DraftSource } from "../../../src/generation/strategies/assisted_decoding.ts";
import { DraftModel, type DraftOptions } from "../../../src/generation/strategies/draft_model.ts";
import { logSoftmax, seededRandom } from "../../../src/generation/strategies/math.ts";
import { lookup, promptLookup } from "../../../src/generation/strategies/prompt_lookup.ts";
import { acceptSampled } from "../../../src/generation/strategies/speculative.ts";
import { longestDiagonal, spliceTail, translatedDraft } from "../../../src/generation/strategies/translated_draft.ts";
import vectors from "../../data/decode_runs.json" with { type: "json" };
import { toyLogits, ToyModel, V } from "./toy_model.ts";
import { followed, toyContext, toyGenerate, toyOptions } from "./toy_search.ts";

const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const DRAFT: DraftOptions = {
  eosTokenIds: [],
  doSample: false,
  confidenceThreshold: 0,
  schedule: "constant",
  plain: false,
};

for (const [name, { ids, kw, out }] of Object.entries(vectors.prompt_lookup)) {
  Deno.test(`lookup() finds what transformers finds: ${name}`, () => {
    const { num_output_tokens: numTokens, max_matching_ngram_size: maxNgram, eos_token_id: eosTokenIds } = kw;
    assertEquals([...ids[0]!, ...lookup(ids[0]!, { numTokens, maxNgram, eosTokenIds })], out[0]);
  });
}

Deno.test("promptLookup() refuses numbers that are not positive", () => {
  for (const [numTokens, maxNgram] of [[0, 2], [-1, 2], [3, 0]] as const) {
    assertThrows(
      () => promptLookup({ numTokens, maxNgram, eosTokenIds: [] }),
      ValueError,
      "Invalid maxMatchingNgramSize or promptLookupNumTokens",
    );
  }
});

Deno.test("acceptSampled() keeps two of three drafted tokens where the model is sure of another third", async () => {
  const peak = (token: number) => Float32Array.from({ length: V }, (_, i) => i === token ? 10 : -Infinity);
  const scores = [1, 4, 8, 5].map(peak);
  const probabilities = [1, 4, 5].map((token) => peak(token).map(Math.exp).map((x) => Math.min(1, x)));
  const draft = { tokens: [1, 4, 5], probabilities };
  const { tokens } = await acceptSampled(draft, (i) => Promise.resolve(scores[i]!), seededRandom(1));
  assertEquals(tokens, [1, 4, 8]);
});

/** Runs assisted decoding of one prompt. */
async function assisted(
  prompt: number[],
  given: GenerationOptions,
  sourceOf: (run: ReturnType<typeof start>) => DraftSource,
) {
  const run = start(prompt, given);
  await followed(run.rows, assistedDecoding(run.context, sourceOf(run)));
  return run;
}

function start(prompt: number[], given: GenerationOptions) {
  const o = toyOptions(given, prompt.length), rows = new Rows([prompt], o), model = new ToyModel();
  return { o, rows, model, context: toyContext(model, rows, o) };
}

/** A drafter whose logits lie `shift` from the model's: with 0 it is always right. */
function drafter(
  { context, o }: ReturnType<typeof start>,
  shift: number,
  options: Partial<DraftOptions> = {},
  tokens = 5,
) {
  const length = { tokens };
  const settings = { ...DRAFT, plain: context.plain, eosTokenIds: o.eosTokenIds, doSample: o.doSample, ...options };
  const source = new DraftModel(new ToyModel(shift), context.process, settings, length, seededRandom(o.seed + 1));
  return { source, length };
}

const PROCESSORS: GenerationOptions[] = [
  {},
  { repetitionPenalty: 1.3 },
  { noRepeatNgramSize: 2 },
  { minNewTokens: 6 },
  { forcedEosTokenId: 3 },
  { repetitionPenalty: 1.2, noRepeatNgramSize: 3, minNewTokens: 4, badWordsIds: [[9], [2, 5]] },
  { exponentialDecayLengthPenalty: [3, 1.3] },
];

Deno.test("assistedDecoding() gives the tokens of greedy search, with every processor, drafter and end", async () => {
  let runs = 0, saved = 0;
  for (const processors of PROCESSORS) {
    for (const eosTokenId of [null, 3, [3, 8]]) {
      for (const prompt of [[5, 2], [7, 4], [1], [5, 2, 2, 5, 11, 5, 2]]) {
        const options = { ...processors, eosTokenId, maxNewTokens: 12 };
        const want = (await toyGenerate(new ToyModel(), [prompt], options)).sequences;
        for (const shift of [0, 0.02, 1]) {
          for (const tokens of [1, 3, 20]) {
            const { rows, model } = await assisted(prompt, options, (run) => drafter(run, shift, {}, tokens).source);
            assertEquals(rows.ids, want, JSON.stringify({ options, prompt, shift, tokens }));
            saved += rows.fresh[0]!.length - model.forwards;
            runs++;
          }
        }
        for (const [numTokens, maxNgram] of [[1, 1], [3, 2], [10, 3]] as const) {
          const source = promptLookup({ numTokens, maxNgram, eosTokenIds: [eosTokenId ?? []].flat() });
          const { rows } = await assisted(prompt, options, () => source);
          assertEquals(rows.ids, want, JSON.stringify({ options, prompt, numTokens, maxNgram }));
          runs++;
        }
      }
    }
  }
  assert(runs > 900 && saved > runs, `${runs} runs saved ${saved} passes`);
});

Deno.test("a drafter that is always right drafts ever more, one that is wrong ever less, a constant one the same", async () => {
  const lengthAfter = async (shift: number, schedule: DraftOptions["schedule"]) => {
    let length = { tokens: 5 };
    await assisted([5, 2], { maxNewTokens: 30, eosTokenId: null }, (run) => {
      const made = drafter(run, shift, { schedule });
      length = made.length;
      return made.source;
    });
    return length.tokens;
  };
  assert(await lengthAfter(0, "heuristic") > 5);
  assertEquals(await lengthAfter(2.5, "heuristic"), 1);
  assertEquals(await lengthAfter(2.5, "constant"), 5);
});

Deno.test("DraftModel ends a draft at a token that it is not sure of, and at an end of sequence", async () => {
  const plain = { maxNewTokens: 12, eosTokenId: null };
  const propose = (options: Partial<DraftOptions>) =>
    drafter(start([5, 2], plain), 0, options).source.propose([5, 2], 10);
  assertEquals((await propose({})).tokens, [2, 5, 11, 1, 0]);
  assertEquals((await propose({ confidenceThreshold: 0.99 })).tokens, [2]);
  assertEquals((await propose({ eosTokenIds: [11] })).tokens, [2, 5, 11]);
});

/** χ² of counts against probabilities, as a standard normal number; cells that expect under 5 are taken together. */
function deviation(counts: Map<string, number>, chances: Map<string, number>, draws: number): number {
  let sum = 0, cells = 0, restGot = draws, restWant = draws;
  for (const [key, chance] of chances) {
    const want = chance * draws;
    if (want < 5) continue;
    const got = counts.get(key) ?? 0;
    [sum, cells, restGot, restWant] = [sum + (got - want) ** 2 / want, cells + 1, restGot - got, restWant - want];
  }
  if (restWant > 1) [sum, cells] = [sum + (restGot - restWant) ** 2 / restWant, cells + 1];
  return (sum - (cells - 1)) / Math.sqrt(2 * (cells - 1));
}

/** Chances of every continuation of `ids` by `n` tokens. */
function chancesOf(ids: number[], n: number): Map<string, number> {
  let chances = new Map([["", 1]]);
  for (let i = 0; i < n; i++) {
    chances = new Map([...chances].flatMap(([key, chance]) => {
      const before = [...ids, ...key.split(",").filter(Boolean).map(Number)];
      return [...logSoftmax(toyLogits(before))].map((p, t) => [`${key}${t},`, chance * Math.exp(p)] as const);
    }));
  }
  return chances;
}

const SOURCES: [name: string, source: (run: ReturnType<typeof start>) => DraftSource][] = [
  ["a drafter that differs", (run) => drafter(run, 0.3, {}, 2).source],
  ["a drafter that differs much", (run) => drafter(run, 2, {}, 3).source],
  ["a drafter that is not sure", (run) => drafter(run, 0.3, { confidenceThreshold: 0.2 }, 3).source],
  ["a drafter that is right", (run) => drafter(run, 0, {}, 2).source],
  ["prompt lookup", () => promptLookup({ numTokens: 2, maxNgram: 1, eosTokenIds: [] })],
];

for (const [i, [name, source]] of SOURCES.entries()) {
  const draws = FULL ? [200_000][i] ?? 20_000 : 6_000;
  Deno.test(`assistedDecoding() draws as plain sampling does, with ${name}: chi-squared of ${draws} draws`, async () => {
    const prompt = [5, 2, 2, 7, 5, 2], chances = chancesOf(prompt, 3), counts = new Map<string, number>();
    for (let seed = 0; seed < draws; seed++) {
      const options = { doSample: true, topK: 0, seed: seed * 2, maxNewTokens: 3, eosTokenId: null };
      const { rows } = await assisted(prompt, options, source);
      const key = rows.fresh[0]!.map((token) => `${token},`).join("");
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    const z = deviation(counts, chances, draws);
    assert(Math.abs(z) < 4, `chi-squared lies ${z} standard deviations from its mean`);
  });
}

Deno.test("longestDiagonal() and spliceTail() find where two lists say the same", () => {
  assertEquals(longestDiagonal([1, 2, 3, 4], [9, 2, 3, 8]), { a: 1, b: 1, length: 2 });
  assertEquals(longestDiagonal([1, 2, 3], [3, 1, 2]), { a: 0, b: 1, length: 2 });
  assertEquals(longestDiagonal([1], [2]).length, 0);
  assertEquals(longestDiagonal([], []).length, 0);
  assertEquals(spliceTail([1, 2, 3, 4, 5], [4, 6, 7], 10), [1, 2, 3, 4, 6, 7]);
  assertEquals(spliceTail([4, 1, 2, 3], [4, 6], 2), undefined, "only the end is looked at");
});

/** A codec of one letter a token, and one whose tokens are letters or pairs of them. */
const letters = {
  encode: (text: string) => [...text].map((c) => c.charCodeAt(0) - 97),
  decode: (ids: readonly number[]) => String.fromCharCode(...ids.map((id) => 97 + id)),
};
const pairs = {
  encode: (text: string) =>
    (text.match(/[a-d][a-d]|./g) ?? []).map((s) => [...s].reduce((n, c) => n * 13 + c.charCodeAt(0) - 96, 0)),
  decode: (ids: readonly number[]) =>
    ids.map((id) => (id >= 13 ? [Math.floor(id / 13), id % 13] : [id]).map((n) => String.fromCharCode(96 + n)).join(""))
      .join(""),
};

Deno.test("translatedDraft() changes no output, whatever its drafter writes", async () => {
  let accepted = 0;
  for (const prompt of [[5, 2], [7, 4], [1, 0, 2, 3, 1], [2]]) {
    const options = { eosTokenId: null, maxNewTokens: 20 };
    const want = (await toyGenerate(new ToyModel(), [prompt], options)).sequences;
    for (const wrong of [0, 3]) {
      const inner: DraftSource = {
        propose: (ids, most) => {
          const text = letters.encode(pairs.decode(ids)), from = text.length;
          for (let i = 0; i < 6; i++) text.push(want[0]![text.length] ?? 0);
          if (wrong) text[from + wrong] = (text[from + wrong]! + 1) % V;
          return Promise.resolve({ tokens: pairs.encode(letters.decode(text)).slice(ids.length).slice(0, most) });
        },
        learn: (_, n) => void (accepted += n),
      };
      const source = translatedDraft(inner, {
        target: letters,
        assistant: pairs,
        targetLookbehind: 10,
        assistantLookbehind: 10,
      });
      assertEquals((await assisted(prompt, options, () => source)).rows.ids, want);
    }
  }
  assert(accepted > 10, `${accepted} tokens were accepted`);
});
