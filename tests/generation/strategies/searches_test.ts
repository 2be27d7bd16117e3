/** Contrastive search, DoLa, constraints and finished beams without a GPU. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ValueError } from "../../../src/errors.ts";
import { Rows } from "../../../src/generation/rows.ts";
import { BeamHypotheses } from "../../../src/generation/strategies/beam_hypotheses.ts";
import {
  addToken,
  advances,
  allFulfilled,
  constraintsAfter,
  newConstraintList,
  progress,
} from "../../../src/generation/strategies/constraint_list.ts";
import {
  constraintsOf,
  DisjunctiveConstraint,
  PhrasalConstraint,
} from "../../../src/generation/strategies/constraints.ts";
import { contrastiveSearch } from "../../../src/generation/strategies/contrastive_search.ts";
import { contrast, dola, dolaLayersOf } from "../../../src/generation/strategies/dola.ts";
import {
  argmax,
  drawDistinct,
  logSoftmax,
  seededRandom,
  softmax,
  topK,
} from "../../../src/generation/strategies/math.ts";
import { plainSearch } from "../../../src/generation/strategies/plain_search.ts";
import { toyHidden, toyLogits, ToyModel, V } from "./toy_model.ts";
import { followed, toyContext, toyGenerate, toyOptions } from "./toy_search.ts";

const prompts = [[5, 2, 7], [7, 4, 1]];

async function contrastive(inputIds: number[][], penaltyAlpha: number, k: number, lowMemory = false) {
  const o = toyOptions({ penaltyAlpha, topK: k, maxNewTokens: 8, eosTokenId: null, lowMemory }, 3);
  const rows = new Rows(inputIds, o), context = toyContext(new ToyModel(), rows, o);
  const steps = await followed(rows, contrastiveSearch({ ...context, o: { ...o, penaltyAlpha } }));
  assertEquals(steps.length, 8);
  return rows.ids;
}

/** The same for one row, straight from the definition. */
function contrastiveReference(prompt: number[], alpha: number, k: number): number[] {
  const ids = [...prompt], hidden = prompt.map((_, i) => toyHidden(prompt.slice(0, i + 1)));
  const cosine = (a: Float32Array, b: Float32Array) => {
    const dot = (x: Float32Array, y: Float32Array) => x[0]! * y[0]! + x[1]! * y[1]!;
    return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  };
  for (let step = 0; step < 8; step++) {
    const p = softmax(toyLogits(ids));
    const scored = topK(p, k).map((token) => {
      const h = toyHidden([...ids, token]);
      return { token, h, score: (1 - alpha) * p[token]! - alpha * Math.max(...hidden.map((c) => cosine(h, c))) };
    });
    const { token, h } = scored.sort((a, b) => b.score - a.score)[0]!;
    ids.push(token);
    hidden.push(h);
  }
  return ids;
}

for (const [alpha, k] of [[0.6, 4], [0.1, 2], [0.9, 12], [0.5, 3]] as const) {
  Deno.test(`contrastiveSearch() does what it says, alpha ${alpha}, k ${k}; in a batch and with little memory too`, async () => {
    const want = prompts.map((prompt) => contrastiveReference(prompt, alpha, k));
    assertEquals(await contrastive(prompts, alpha, k), want);
    assertEquals(await contrastive(prompts, alpha, k, true), want);
    assertEquals(await contrastive(prompts.slice(0, 1), alpha, k), want.slice(0, 1));
  });
}

Deno.test("contrastiveSearch() without a penalty is greedy search", async () => {
  const greedy = await toyGenerate(new ToyModel(), prompts, { maxNewTokens: 8, eosTokenId: null });
  assertEquals(await contrastive(prompts, 0, 5), greedy.sequences);
});

Deno.test("dolaLayersOf() takes the layers of the documents", () => {
  const table: [Parameters<typeof dolaLayersOf>, number[]][] = [
    [["low", 8, false], [0, 2]],
    [["high", 8, false], [4, 6]],
    [["low", 8, true], [2]],
    [["low", 4, true], [2]],
    [["low", 2, true], [1]],
    [["low", 2, false], [0]],
    [["high", 3, false], [1]],
    [["low", 32, false], [0, 2, 4, 6, 8, 10, 12, 14]],
    [["high", 48, true], [28, 30, 32, 34, 36, 38, 40, 42, 44, 46]],
    [["low", 48, true], [2, 4, 6, 8, 10, 12, 14, 16, 18]],
    [[[0, 3, 9], 8, false], [0, 3]],
  ];
  for (const [args, want] of table) assertEquals(dolaLayersOf(...args), want, JSON.stringify(args));
  assertThrows(
    () => dolaLayersOf("middle" as "low", 8, false),
    ValueError,
    "dolaLayers must be either 'low', 'high' or a list of integers.",
  );
});

Deno.test("contrast() takes the layer that differs most, and only tokens that are likely enough", () => {
  const final = toyLogits([5, 2]), near = final.map((x, i) => x + 0.01 * i), far = toyLogits([9, 9]);
  const [scores] = contrast([final], [[near], [far]]);
  const p = logSoftmax(final), q = logSoftmax(far), most = Math.max(...p);
  p.forEach((x, i) => {
    const want = x < most + Math.log(0.1) ? -Infinity : Math.fround(x - q[i]!);
    assert(Object.is(scores![i], want) || Math.abs(scores![i]! - want) < 1e-6);
  });
});

Deno.test("dola() runs on the closed-form model, greedy and drawn", async () => {
  for (const doSample of [false, true]) {
    const o = toyOptions({ maxNewTokens: 6, eosTokenId: null, doSample, topK: 0 }, 3), rows = new Rows(prompts, o);
    await followed(rows, dola({ ...toyContext(new ToyModel(), rows, o), o: { ...o, dolaLayers: "high" } }));
    assertEquals(rows.fresh.map(({ length }) => length), [6, 6]);
    if (doSample) continue;
    const [scores] = contrast([toyLogits([5, 2, 7])], [[toyLogits([5, 2, 7], 3)]]);
    assertEquals(rows.fresh[0]![0], argmax(scores!));
  }
});

Deno.test("plainSearch() draws the same tokens for the same seed, and others for another", async () => {
  const draw = async (seed: number) => {
    const o = toyOptions({ maxNewTokens: 20, eosTokenId: null, doSample: true, topK: 0, seed }, 3);
    const rows = new Rows(prompts, o);
    await followed(rows, plainSearch(toyContext(new ToyModel(), rows, o), () => false));
    return rows.ids;
  };
  assertEquals(await draw(1), await draw(1));
  assert((await draw(1)).join() !== (await draw(2)).join());
});

Deno.test("a PhrasalConstraint goes forward token by token", () => {
  const start = new PhrasalConstraint([1, 2, 3]);
  assertEquals([start.advances, start.remaining, start.completed], [[1], 3, false]);
  const two = start.step(1)!.step(2)!;
  assertEquals([two.advances, two.remaining, two.step(9), two.step(3)?.completed], [[3], 1, undefined, true]);
});

Deno.test("a DisjunctiveConstraint is fulfilled by one of its lists", () => {
  const start = new DisjunctiveConstraint([[1, 2, 4], [1, 2, 3, 4]]);
  const two = start.step(1)!.step(2)!;
  assertEquals([two.advances, two.completed, two.step(5)], [[4, 3], false, undefined]);
  const four = two.step(4)!;
  assertEquals([four.completed, four.remaining], [true, 0]);
  const three = two.step(3)!;
  assertEquals([three.completed, three.remaining, three.step(4)?.completed], [false, 1, true]);
});

Deno.test("a list of constraints counts what is there, begins anew after a wrong token, and keeps the order free", () => {
  const all = constraintsOf([[3, 4], [5], [[6, 7], [8]]]);
  assertEquals(advances(newConstraintList(all)), [3, 5, 6, 8]);
  const after = (ids: number[]) => constraintsAfter(all, ids);
  assertEquals(progress(after([3]), 2), 1);
  assertEquals(advances(after([3])), [4]);
  assertEquals(progress(after([3, 9]), 2), 0, "a wrong token undoes it");
  assertEquals(progress(after([3, 4, 5]), 2), 4);
  assertEquals([[5, 3, 4, 8], [8, 3, 4, 9, 5, 1]].map((ids) => allFulfilled(after(ids))), [true, true]);
  assert(!allFulfilled(after([3, 4, 5, 6])));
  assert(allFulfilled(addToken(after([3, 4, 5, 6]), 7)));
});

const BAD_WORDS: [unknown, string][] = [
  [[], "`forceWordsIds` has to either be a"],
  [[[]], "`forceWordsIds` has to either be a"],
  [[[-1]], "of positive integers, but is [[-1]]."],
  [[[1.5]], "of positive integers, but is [[1.5]]."],
  [[[[1], [-2]]], "of positive integers, but is [[[1], [-2]]]."],
  [[[[1, 2], [1, 2, 3]]], "Each list in `nestedTokenIds` can't be a complete subset of another list, but is"],
];

for (const [words, message] of BAD_WORDS) {
  Deno.test(`constraintsOf() refuses ${JSON.stringify(words)}`, () => {
    assertThrows(() => constraintsOf(words as number[][]), ValueError, message);
  });
}

Deno.test("constraints refuse what are no tokens", () => {
  const table: [() => unknown, string][] = [
    [() => new PhrasalConstraint([]), "`tokenIds` has to be a non-empty list, but is []."],
    [() => new PhrasalConstraint([-1]), "Each list in `tokenIds` has to be a list of positive integers, but is [-1]."],
    [() => new DisjunctiveConstraint([]), "`nestedTokenIds` has to be a non-empty list, but is []."],
    [() => new DisjunctiveConstraint([1, 2] as unknown as number[][]), "`nestedTokenIds` has to be a list of lists"],
    [() => new DisjunctiveConstraint([[1], [-2]]), "Each list in `nestedTokenIds` has to be a list of positive"],
  ];
  for (const [make, message] of table) assertThrows(make, ValueError, message);
});

Deno.test("BeamHypotheses keeps the best, and knows when it is done", () => {
  const make = (earlyStopping: boolean | "never", lengthPenalty = 2) => {
    const list = new BeamHypotheses({ size: 2, lengthPenalty, earlyStopping, newTokens: 20 });
    for (const [sum, length] of [[-9, 10], [-3, 3], [-10, 10]] as const) {
      list.add({ tokens: Array(length).fill(1), sum, beamIndices: [] }, length);
    }
    return list;
  };
  const list = make(false);
  assertEquals(list.beams.map(({ score }) => score), [-9 / 100, -10 / 100]);
  list.settle(-5, 10);
  assert(!list.done, "a beam of -5 would be better");
  list.settle(-20, 10);
  assert(list.done);
  const early = make(true);
  early.settle(-5, 10);
  assert(early.done);
  const never = make("never");
  never.settle(-20, 10);
  assert(!never.done, "with 20 tokens -20 would be better");
});

Deno.test("topK() and drawDistinct() take the first of equals, and never what is impossible", () => {
  assertEquals(topK([1, 3, 3, NaN, 2], 3), [1, 2, 4]);
  assertEquals(topK([1, 2], 5), [1, 0]);
  const drawn = drawDistinct([0, -Infinity, 1, -Infinity], 4, seededRandom(3));
  assertEquals(drawn.toSorted(), [0, 2]);
  const first = Array<number>(V).fill(0), random = seededRandom(9), logits = toyLogits([5, 2]), p = softmax(logits);
  for (let i = 0; i < 20_000; i++) first[drawDistinct(logits, 3, random)[0]!]!++;
  const z = first.reduce((sum, n, t) => sum + (n - p[t]! * 20_000) ** 2 / (p[t]! * 20_000), 0);
  assert(z < 35, `chi-squared ${z} with 11 degrees of freedom`);
});
