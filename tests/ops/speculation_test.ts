import { assert, assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/errors.ts";
import { INVALID_TOKEN } from "../../src/ops/decode_state.ts";
import {
  acceptDrafts,
  acceptDraftsReference,
  acceptDrawn,
  acceptDrawnReference,
  BROKEN_DRAFT,
  draftSettings,
  draftToken,
  draftTokenReference,
  type SpeculationBuffers,
  type SpeculationWords,
  STATE_HEADER,
} from "../../src/ops/speculation.ts";
import { samplingParams } from "../../src/ops/sampling_params.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { randn, random, testDevice } from "../helpers.ts";

const device = await testDevice();
const WIDTH = 9, RING = 7;
const NAMES = ["window", "positions", "steps", "pair", "pairPositions", "state"] as const;

/** Buffers of a sequence whose last token is `last`, at place 40, with 5 tokens emitted. */
function words(last: number, drafts: readonly number[], state: readonly number[] = [0, 0, 0]): SpeculationWords {
  const ring = Array.from({ length: RING }, (_, i) => 900 + i);
  return {
    window: Uint32Array.from({ length: WIDTH }, (_, i) => i === 0 ? last : drafts[i - 1] ?? 77),
    positions: new Uint32Array(WIDTH),
    steps: new Uint32Array(WIDTH),
    pair: new Uint32Array(2),
    pairPositions: new Uint32Array(2),
    state: Uint32Array.of(40, ...state, 5, 0, 0, 0, ...ring),
  };
}

function onGpu(w: SpeculationWords): SpeculationBuffers {
  return Object.fromEntries(NAMES.map((name) => [name, tensor(device, w[name], [w[name].length], "uint32")])) as Record<
    keyof SpeculationBuffers,
    ReturnType<typeof tensor>
  >;
}

async function assertSame(buffers: SpeculationBuffers, want: SpeculationWords): Promise<void> {
  for (const name of NAMES) assertEquals([...await buffers[name].read()], [...want[name]], name);
  for (const name of NAMES) buffers[name].dispose();
}

const ROUNDS: [name: string, drafts: number[], chosen: number[], change?: (logits: Float32Array) => void][] = [
  ["no draft", [], [3]],
  ["all kept", [3, 1, 4], [3, 1, 4, 2]],
  ["none kept", [3, 1, 4], [2, 1, 4, 2]],
  ["the first two kept", [3, 1, 4], [3, 1, 0, 2]],
  ["equal after a difference", [3, 1, 4, 4], [3, 0, 4, 4, 4]],
  ["a round that goes round the ring", [1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]],
  ["a choice that is no token", [3, 1], [3, 4_000_000_000, 1]],
  ["a chosen logit that is NaN", [3, 1], [3, 1, 2], (x) => x[5 + 1] = NaN],
  ["a chosen logit that is infinite", [3, 1], [3, 1, 2], (x) => x[3] = Infinity],
  ["a draft that was over after two", [3, 1, 4, 4, 2], [3, 1, 4, 4, 2, 0]],
  ["a logit that is NaN behind what is kept", [3, 1], [2, 1, 2], (x) => x.fill(NaN, 5)],
];
for (const [name, drafts, chosen, change] of ROUNDS) {
  Deno.test(`acceptDrafts() equals its reference: ${name}`, async () => {
    const V = 5, logits = randn(chosen.length * V, 3), all = drafts.length, over = name.includes("over") ? 2 : all;
    const want = words(9, drafts, name.includes("ring") ? [0, 0, 0] : [all, over, 1]); // that one is the host's draft
    change?.(logits);
    const buffers = onGpu(want);
    using ids = tensor(device, chosen, [chosen.length], "uint32");
    using scores = tensor(device, logits, [chosen.length, V]);
    acceptDrafts(ids, scores, buffers);
    acceptDraftsReference(Uint32Array.from(chosen), logits, want);
    await assertSame(buffers, want);
  });
}

Deno.test("acceptDrafts() keeps what was chosen alike and the model's own token after it", async () => {
  const buffers = onGpu(words(9, [3, 1, 4]));
  using ids = tensor(device, [3, 1, 2, 0], [4], "uint32");
  using scores = tensor(device, new Float32Array(4 * 5), [4, 5]);
  acceptDrafts(ids, scores, buffers);
  const state = [...await buffers.state.read()];
  assertEquals(state.slice(0, STATE_HEADER), [43, 0, 0, 0, 8, 0, 2, 0]);
  assertEquals(state.slice(STATE_HEADER), [2, 901, 902, 903, 904, 3, 1]); // tokens 5, 6 and 7
  assertEquals([...await buffers.pair.read(), ...await buffers.pairPositions.read()], [1, 2, 42, 43]);
  for (const t of Object.values(buffers)) t.dispose();
});

const bad = (token: number, at: number) => (x: Float32Array) => void (x[at] = token);
const DRAFTS: [
  name: string,
  rows: number,
  V: number,
  threshold: number,
  eos: number[],
  change?: (x: Float32Array) => void,
][] = [
  ["one row", 1, 997, 0, []],
  ["the last of two rows", 2, 1000, 0, []],
  ["fewer tokens than threads", 1, 3, 0, []],
  ["a vocabulary", 2, 32_000, 0, []],
  ["equal logits", 1, 50, 0, [], (x) => x.fill(2)],
  ["a sure token", 1, 50, 0.9, [], bad(40, 20)],
  ["an unsure token", 1, 50, 0.9, []],
  ["an end of sequence", 1, 50, 0, [7, 20], bad(40, 20)],
  ["a NaN", 1, 50, 0, [], bad(NaN, 20)],
  ["an infinity", 1, 50, 0, [], bad(Infinity, 20)],
];
for (const [name, rows, V, threshold, eosTokenIds, change] of DRAFTS) {
  Deno.test(`draftToken() equals its reference: ${name}`, async () => {
    const logits = randn(rows * V, V);
    change?.(logits);
    for (const state of [[0, 0, 0], [2, 2, 0], [3, 1, 1]]) {
      const want = words(9, [1, 2, 3], state), buffers = onGpu(want), row = logits.subarray((rows - 1) * V);
      const list = draftSettings(V, threshold, eosTokenIds);
      using settings = tensor(device, list, [list.length], "uint32");
      using tokens = tensor(device, [0], [1], "uint32");
      using positions = tensor(device, [0], [1], "uint32");
      using scores = tensor(device, logits, [rows, V]);
      draftToken(scores, { tokens, positions, settings }, buffers);
      if (row.every(Number.isFinite)) {
        const token = draftTokenReference(row, { threshold, eosTokenIds }, want);
        assertEquals([...await tokens.read(), ...await positions.read()], [token, 40 + want.state[1]!]);
        await assertSame(buffers, want);
      } else {
        assertEquals((await buffers.state.read())[3], state[2] === 1 ? 1 : BROKEN_DRAFT);
        for (const t of Object.values(buffers)) t.dispose();
      }
    }
  });
}

Deno.test("acceptDrafts() refuses logits of another number of rows", () => {
  const buffers = onGpu(words(9, []));
  using ids = tensor(device, [1, 2], [2], "uint32");
  using scores = tensor(device, new Float32Array(5), [1, 5]);
  assertThrows(() => acceptDrafts(ids, scores, buffers), ShapeError, "logits");
  for (const t of Object.values(buffers)) t.dispose();
});

Deno.test("a token that was not finite is marked, and the next window begins with a real one", async () => {
  const want = words(9, []), logits = Float32Array.of(NaN, 0, 0);
  acceptDraftsReference(Uint32Array.of(0), logits, want);
  assertEquals([want.state[STATE_HEADER + 5], want.window[0]], [INVALID_TOKEN, 0]);
  const buffers = onGpu(words(9, []));
  using ids = tensor(device, [0], [1], "uint32");
  using scores = tensor(device, logits, [1, 3]);
  acceptDrafts(ids, scores, buffers);
  await assertSame(buffers, want);
});

/** What {@linkcode acceptDrawn} chooses of drafts in rows of `V`, of which the first `count` count. */
async function drawn(
  p: Float32Array,
  q: Float32Array,
  drafts: readonly number[],
  seed: number,
  count = drafts.length,
): Promise<number[]> {
  const rows = drafts.length + 1, V = p.length / rows;
  const put = (data: readonly number[]) => tensor(device, data, [data.length], "uint32");
  const steps = Array.from({ length: rows }, (_, i) => 3 + i);
  const buffers = { window: put([0, ...drafts]), steps: put(steps), state: put([40, rows, count, 1]) };
  using scores = tensor(device, p, [rows, V]);
  using from = tensor(device, q, [q.length / V, V]);
  using params = samplingParams(device, { seed });
  using chosen = acceptDrawn(scores, { q: from, params }, buffers as unknown as SpeculationBuffers);
  const tokens = [...await chosen.read()];
  for (const t of Object.values(buffers)) t.dispose();
  return tokens;
}

function rowsOf(row: ArrayLike<number>, times: number): Float32Array {
  return Float32Array.from({ length: row.length * times }, (_, i) => row[i % row.length]!);
}

Deno.test("acceptDrawn() chooses as its reference, with masked scores, a draft that is sure and one that equals p", async () => {
  for (const [V, shift] of [[5, 0.5], [997, 1], [997, 0], [8, 20]] as const) {
    const rows = 40, p = randn(rows * V, 1).map((x) => 2 * x), noise = randn(rows * V, 2);
    p.forEach((_, i) => p[i] = i % V !== 1 && i % 7 === 0 ? -1e30 : p[i]!);
    const q = p.map((x, i) => x > -1e29 ? x + shift * noise[i]! : i % 2 ? 0 : x).slice(0, (rows - 1) * V);
    const drafts = Array.from(
      { length: rows - 1 },
      (_, i) => i % 3 ? q.slice(i * V, (i + 1) * V).indexOf(Math.max(...q.slice(i * V, (i + 1) * V))) : 1,
    );
    for (const count of [rows - 1, 4, 0]) {
      const got = await drawn(p, q, drafts, 11, count);
      for (let i = 0; i <= (count === 0 ? 0 : rows - 1); i++) {
        const part = (x: Float32Array) => x.subarray(i * V, (i + 1) * V), draft = i < count ? drafts[i] : undefined;
        const want = acceptDrawnReference(part(p), part(draft === undefined ? p : q), draft, { seed: 11, step: 3 + i });
        assertEquals(got[i], want, `row ${i} of V ${V}, ${count} drafts`);
      }
    }
  }
});

Deno.test("acceptDrawn() keeps two of three drafted tokens where the model is sure of another third", async () => {
  const peak = (token: number) => Array.from({ length: 16 }, (_, i) => i === token ? 10 : -1e30);
  const p = Float32Array.from([1, 4, 8, 5].flatMap(peak)), q = Float32Array.from([1, 4, 5].flatMap(peak));
  assertEquals((await drawn(p, q, [1, 4, 5], 1)).slice(0, 3), [1, 4, 8]);
});

Deno.test("acceptDrawn() draws from p, whatever q the drafts were drawn from", async () => {
  const rows = 8000, p = [0, 1, 2, 3, 2.5, -1, 0.5, -1e30], weights = p.map((x) => x > -1e29 ? Math.exp(x) : 0);
  const sum = weights.reduce((a, b) => a + b), next = random(5);
  for (const q of [[3, 2, 1, 0, 0, 0, 0, 0], p, [0, 0, 0, 9, 0, 0, 0, 0]]) {
    const chances = q.map((x) => x > -1e29 ? Math.exp(x) : 0), all = chances.reduce((a, b) => a + b);
    const drafts = Array.from({ length: rows - 1 }, () => {
      let left = next() * all;
      return chances.findIndex((w) => (left -= w) < 0);
    });
    const counts = p.map(() => 0);
    for (const token of (await drawn(rowsOf(p, rows), rowsOf(q, rows - 1), drafts, 7)).slice(0, -1)) counts[token]!++;
    const cells = weights.map((w) => w / sum * (rows - 1));
    const sumOf = counts.reduce((x, n, i) => cells[i]! > 0 ? x + (n - cells[i]!) ** 2 / cells[i]! : x + n, 0);
    assert(sumOf < 24.3, `chi-squared ${sumOf} of 6 degrees of freedom: ${counts}`); // 1 in 2,000 by chance
  }
});
