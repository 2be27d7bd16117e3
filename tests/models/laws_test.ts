/** What must hold for any model, whatever its weights: padding, batching, caching and failed passes change nothing. */
import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { type Cache, DynamicCache, type ModelInputs, StaticCache } from "../../src/cache/mod.ts";
import { LimitError, OutOfMemoryError, ShapeError, TensaurError, ValueError } from "../../src/errors.ts";
import { loadModel, type Model } from "../../src/models/mod.ts";
import { random, testDevice } from "../helpers.ts";
import { assertWithin, chunked } from "./fixture.ts";
import { TINY_CONFIGS, tinyModel, writeModel } from "./tiny_model.ts";
import { TemporaryFolder } from "../weights/fixture.ts";

const device = await testDevice();
const kinds = ["llama", "mistral", "qwen2", "qwen3", "gpt2", "bert"] as const;
const decoders = kinds.filter((kind) => kind !== "bert");
const next = random(7);
const ids = (n: number) => Array.from({ length: n }, () => Math.floor(next() * 61));
const rows = [ids(9), ids(3), ids(17), ids(1)];
const PAD = -100; // no token: what stands at a padded place must not matter

/** `rows` in a rectangle, with `before(b)` pads before row b and the rest behind it. */
function padded(rows: number[][], before: (short: number) => number): ModelInputs {
  const width = Math.max(...rows.map((row) => row.length));
  const fill = (row: number[], pad: number, of: (id: number) => number) => {
    const left = before(width - row.length);
    return [...Array(left).fill(pad), ...row.map(of), ...Array(width - row.length - left).fill(pad)];
  };
  return {
    inputIds: rows.map((row) => fill(row, PAD, (id) => id)),
    attentionMask: rows.map((row) => fill(row, 0, () => 1)),
  };
}

/** The logits of each row's real tokens. */
async function logitsOf(model: Model, inputs: ModelInputs, cache?: Cache): Promise<number[][]> {
  using output = await model.forward(inputs, { cache });
  const [, S = 0, V = 0] = output.logits!.shape;
  const all = chunked(await output.logits!.read(), V);
  return inputs.inputIds.map((row, b) => {
    const real = row.keys().filter((s) => inputs.attentionMask?.[b]?.[s] !== 0);
    return real.flatMap((s) => all[b * S + s]!).toArray();
  });
}

for (const kind of kinds) {
  Deno.test(`Model.forward() gives the same to left, right, split and no padding: ${kind}`, async () => {
    using model = await tinyModel(device, kind);
    const want = await logitsOf(model, { inputIds: rows });
    for (const before of [(n: number) => n, () => 0, (n: number) => n >> 1]) {
      assertEquals(await logitsOf(model, padded(rows, before)), want); // the packed batch is the same, bit for bit
    }
  });

  Deno.test(`Model.forward() gives a row alone what it gives it in a batch: ${kind}`, async () => {
    using model = await tinyModel(device, kind);
    using batch = await model.forward({ inputIds: rows }, { outputAttentions: true });
    const [, H = 0, width = 0] = batch.attentions![0]!.shape;
    const lines = chunked(await batch.attentions![0]!.read(), width); // [B · H · S][S]
    const want = await logitsOf(model, { inputIds: rows });
    for (const [b, row] of rows.entries()) {
      using alone = await model.forward({ inputIds: [row] }, { outputAttentions: true });
      assertWithin(`row ${b}`, await alone.logits!.read(), want[b]!, 1e-5);
      const heads = chunked(await alone.attentions![0]!.read(), row.length ** 2);
      for (const [h, got] of heads.entries()) {
        const first = (b * H + h) * width;
        const expected = lines.slice(first, first + row.length);
        assertWithin(`attentions ${b}, ${h}`, got, expected.flatMap((p) => p.slice(0, row.length)), 1e-5);
      }
    }
  });
}

Deno.test("Model.forward() gives attentions where the tokens stand: left padding moves rows and columns", async () => {
  using model = await tinyModel(device, kinds[0]!);
  const row = rows[0]!, pads = 3;
  const inputIds = [[...Array(pads).fill(0), ...row]], attentionMask = [[...Array(pads).fill(0), ...row.map(() => 1)]];
  using alone = await model.forward({ inputIds: [row] }, { outputAttentions: true });
  using padded = await model.forward({ inputIds, attentionMask }, { outputAttentions: true });
  const [, H = 0, width = 0] = padded.attentions![0]!.shape;
  const want = await alone.attentions![0]!.read(), got = await padded.attentions![0]!.read();
  const n = row.length;
  const shifted = Float32Array.from({ length: H * width * width }, (_, at) => {
    const h = Math.floor(at / width ** 2), i = Math.floor(at / width) % width - pads, j = at % width - pads;
    return i < 0 || j < 0 ? 0 : want[(h * n + i) * n + j]!;
  });
  assertWithin("attentions", got, shifted, 1e-6);
});

Deno.test("Model.forward() after a past gives attentions over the keys in order, whatever the padding", async () => {
  using model = await tinyModel(device, "llama");
  using cache = model.newCache() as DynamicCache;
  const first = { inputIds: [ids(3), ids(2)] }, mask = [[0, 0, 0, 1, 1], [0, 1, 1, 1, 1]];
  await logitsOf(model, first, cache);
  cache.crop([3, 0]); // the second row has no past, and there are as many keys as columns of the input
  const inputIds = mask.map((row) => ids(row.length));
  using output = await model.forward({ inputIds, attentionMask: mask }, { cache, outputAttentions: true });
  assertEquals(output.attentions![0]!.shape, [2, 4, 5, 5]);
  const seen = chunked(await output.attentions![0]!.read(), 5).map((row) => row.filter((p) => p > 0).length);
  const zero = chunked(await output.attentions![0]!.read(), 5).map((row) => row.findIndex((p) => p > 0));
  assertEquals(chunked(seen, 5).map((s) => s.join()), [...Array(4).fill("0,0,0,4,5"), ...Array(4).fill("0,1,2,3,4")]);
  assert(zero.every((at) => at <= 0), "keys begin at column 0");
});

const caches: Record<string, () => DynamicCache | StaticCache> = {
  DynamicCache: () => new DynamicCache(),
  StaticCache: () => new StaticCache({ maxCacheLen: 21 }),
  "DynamicCache in float16": () => new DynamicCache({ dtype: "float16" }),
};
for (const kind of decoders) {
  for (const [name, make] of Object.entries(caches)) {
    Deno.test(`Model.forward() in chunks with a ${name} equals one pass: ${kind}`, async () => {
      using model = await tinyModel(device, kind);
      const long = [ids(20), ids(5), ids(11)];
      const want = await logitsOf(model, { inputIds: long });
      using cache = make();
      const cuts = [[7, 1, 4], [8, 3, 9], [20, 5, 11]]; // ends of the chunks of each row
      const got: number[][] = [[], [], []];
      for (const [i, ends] of cuts.entries()) {
        const chunk = long.map((row, b) => row.slice(cuts[i - 1]?.[b] ?? 0, ends[b]));
        const part = await logitsOf(model, padded(chunk, (n) => i === 1 ? n : 0), cache);
        part.forEach((values, b) => got[b]!.push(...values));
        assertEquals(cache.lengths, ends);
      }
      for (const [b, values] of got.entries()) {
        assertWithin(`row ${b}`, values, want[b]!, name.includes("16") ? 5e-3 : 1e-5);
      }
    });
  }
}

Deno.test("Model.forward() of 70 single steps equals one pass, while the cache grows and the rotary table is reused", async () => {
  using model = await tinyModel(device, "llama");
  const row = ids(70);
  const [want] = await logitsOf(model, { inputIds: [row] });
  using cache = model.newCache() as DynamicCache;
  const got: number[] = [];
  for (const id of row) got.push(...(await logitsOf(model, { inputIds: [[id]] }, cache))[0]!);
  assertWithin("logits", got, want!, 1e-5);
  assertEquals(cache.capacity, 128);
});

const wrong: [string, ModelInputs, new (...args: never[]) => TensaurError, string][] = [
  ["no row", { inputIds: [] }, ShapeError, "at least one row"],
  ["an empty row", { inputIds: [[]] }, ValueError, "each row must have a token"],
  ["one empty row of two", { inputIds: [[1], []] }, ValueError, "1,0 real tokens"],
  ["a row of pads", { inputIds: [[1], [1]], attentionMask: [[1], [0]] }, ValueError, "each row must have a token"],
  [
    "an id beyond the vocabulary",
    { inputIds: [[60, 61]] },
    ValueError,
    "from 0 to 60: current value is 61 at row 0, column 1",
  ],
  ["a negative id", { inputIds: [[-1]] }, ValueError, "inputIds"],
  ["half an id", { inputIds: [[1.5]] }, ValueError, "inputIds"],
  ["NaN", { inputIds: [[NaN]] }, ValueError, "inputIds"],
  [
    "a mask of another width",
    { inputIds: [[1, 2]], attentionMask: [[1]] },
    ShapeError,
    "attentionMask must have the shape",
  ],
  ["a mask of fewer rows", { inputIds: [[1], [2]], attentionMask: [[1]] }, ShapeError, "attentionMask"],
  ["types of another width", { inputIds: [[1]], tokenTypeIds: [[0, 0]] }, ShapeError, "tokenTypeIds"],
  [
    "a segment that BERT has not",
    { inputIds: [[1]], tokenTypeIds: [[2]] },
    ValueError,
    "tokenTypeIds must be whole numbers from 0 to 1",
  ],
  ["a negative position", { inputIds: [[1]], positionIds: [[-1]] }, ValueError, "positionIds"],
  ["a position of NaN", { inputIds: [[1]], positionIds: [[NaN]] }, ValueError, "positionIds"],
  ["a position beyond the table", { inputIds: [[1]], positionIds: [[96]] }, LimitError, "at most 96 tokens: it has 97"],
  ["more tokens than positions", { inputIds: [ids(97)] }, LimitError, "at most 96 tokens"],
];
Deno.test("Model.forward() refuses wrong inputs by name, and runs the next ones", async (t) => {
  using model = await tinyModel(device, "bert");
  const want = await logitsOf(model, { inputIds: rows });
  const before = device.pool.stats.bytesInUse;
  for (const [name, inputs, type, text] of wrong) {
    await t.step(name, async () => {
      const error = await assertRejects(() => model.forward(inputs), TensaurError, text);
      assertEquals(error.constructor, type);
      assertEquals(device.pool.stats.bytesInUse, before);
    });
  }
  assertEquals(await logitsOf(model, { inputIds: rows }), want);
});

/** Runs `work` once for each GPU allocation that it makes, with that allocation failing; `after` runs with none failing. */
async function failEachAllocation(work: () => Promise<unknown>, after: () => Promise<void> | void): Promise<number> {
  const { pool } = device;
  const acquire = pool.acquire.bind(pool);
  for (let failing = 1;; failing++) {
    let calls = 0;
    pool.acquire = (...args) => {
      if (++calls === failing) throw new OutOfMemoryError("Cannot allocate as the test lets it fail");
      return acquire(...args);
    };
    const before = pool.stats.bytesInUse;
    const error = await work().then(() => undefined, (error) => error).finally(() => pool.acquire = acquire);
    if (calls < failing) return failing - 1;
    assertInstanceOf(error, OutOfMemoryError, `allocation ${failing}: ${error}`);
    await after();
    assertEquals(pool.stats.bytesInUse, before, `bytes in use after allocation ${failing} failed`);
  }
}

Deno.test("Model.forward() whose Nth allocation fails leaves the cache as it was", async () => {
  using model = await tinyModel(device, "llama");
  const first = { inputIds: [ids(60), ids(50)] }, second = { inputIds: [ids(6), ids(7)] }; // the second grows the cache
  using cache = model.newCache() as DynamicCache;
  await logitsOf(model, first, cache);
  using copy = cache.fork();
  const want = await logitsOf(model, second, copy);
  assertEquals([cache.capacity, copy.capacity], [64, 128]);

  const run = async () => {
    using fork = cache.fork();
    let failed = true;
    try {
      const got = await logitsOf(model, second, fork);
      failed = false;
      assertEquals(got, want);
    } finally {
      if (failed) assertEquals(fork.lengths, [60, 50]);
    }
  };
  const failures = await failEachAllocation(run, run);
  assert(failures > 20, `only ${failures} allocations`);

  // The same cache after each failure: what the failed pass stored or counted must not show.
  let used = cache.fork();
  await failEachAllocation(() => logitsOf(model, second, used), async () => {
    const got = await logitsOf(model, second, used);
    assertEquals(got, want);
    used.dispose();
    used = cache.fork();
  });
  used.dispose();
});

Deno.test("loadModel() whose Nth allocation fails leaves nothing behind", async () => {
  using folder = new TemporaryFolder();
  await writeModel(folder, TINY_CONFIGS.qwen2);
  const load = async () => (await loadModel(folder.path, { device, dtype: "float16" })).dispose();
  const failures = await failEachAllocation(load, () => {});
  assert(failures > 20, `only ${failures} allocations`);
});
