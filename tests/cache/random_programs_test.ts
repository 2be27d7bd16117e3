/** Random programs of cache calls, on the GPU and on plain arrays: every attention output must be the same. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { DynamicCache, type KvCache, StaticCache } from "../../src/cache/mod.ts";
import { LimitError } from "../../src/errors.ts";
import { assertClose, testDevice } from "../helpers.ts";
import { seed } from "../weights/fixture.ts";
import { ArrayCache, type Attended, step } from "./array_cache.ts";

const device = await testDevice();
const RUNS = Deno.env.get("TENSAUR_TEST_FULL") === "1" ? 1000 : 200;
const MAX_CACHE_LEN = 40;

interface Op {
  kind: "step" | "crop" | "reorder" | "fork" | "reset";
  /** Which of the caches that are alive. */
  on: number;
  /** One number from 0 to 999 for each sequence. */
  numbers: number[];
}

const op: fc.Arbitrary<Op> = fc.record({
  kind: fc.constantFrom("step", "step", "step", "step", "crop", "reorder", "fork", "fork", "reset"),
  on: fc.nat(9),
  numbers: fc.array(fc.nat(999), { minLength: 4, maxLength: 4 }),
});
const program = fc.record({
  rows: fc.integer({ min: 1, max: 4 }),
  heads: fc.constantFrom([1, 1] as const, [4, 2] as const, [3, 1] as const),
  fixed: fc.boolean(),
  dtype: fc.constantFrom("float32", "float16"),
  window: fc.constantFrom(undefined, 3),
  ops: fc.array(op, { minLength: 3, maxLength: 10 }),
});
type Program = typeof program extends fc.Arbitrary<infer T> ? T : never;

/** Runs one program; returns how many of its caches outgrew their first buffers. */
async function run({ rows, heads: [heads, kvHeads], fixed, dtype, window, ops }: Program): Promise<number> {
  const before = device.pool.stats.bytesInUse;
  using owned = new DisposableStack(); // a run that fails must not disturb the next, smaller one
  const make = (): KvCache =>
    fixed ? new StaticCache({ maxCacheLen: MAX_CACHE_LEN, dtype }) : new DynamicCache({ dtype });
  const geometry = { layers: 2, heads, kvHeads, dim: 6, scale: 0.4, window };
  const round = dtype === "float16" ? (x: number) => new Float16Array([x])[0]! : Math.fround;
  const alive = [{ cache: owned.use(make()), model: new ArrayCache(geometry, round, rows), used: false }];
  const results: Attended[] = [];
  for (const [i, { kind, on, numbers }] of ops.entries()) {
    const entry = alive[on % alive.length]!;
    const { cache, model } = entry;
    const each = numbers.slice(0, rows);
    if (kind === "step") {
      const lengths = each.map((n, b) => b === 0 ? 1 + n % (fixed ? 20 : 60) : n % 9); // some have no new token
      const full = model.lengths.some((n, b) => n + lengths[b]! > MAX_CACHE_LEN);
      if (fixed && full) assertThrows(() => step(device, cache, model, lengths, i), LimitError, "capacity is 40");
      else results.push(step(device, cache, model, lengths, 100 * i));
      entry.used ||= !(fixed && full);
    } else if (entry.used) {
      const lengths = model.lengths;
      if (kind === "crop") apply(entry, "crop", lengths.map((n, b) => each[b]! % (n + 1)));
      if (kind === "reset") (cache.reset(), model.crop(lengths.map(() => 0)));
      if (kind === "reorder") apply(entry, "reorder", each.map((n) => n % rows));
      if (kind === "fork" && alive.length < 4) {
        alive.push({ cache: owned.use(cache.fork()), model: model.fork(), used: true });
      }
    }
    if (entry.used) assertEquals(cache.lengths, model.lengths);
  }
  for (const { got, want } of results) {
    for (const [layer, values] of got.entries()) {
      assertClose(`layer ${layer}`, await values, want[layer]!, { rtol: 1e-4, atol: 1e-5 });
    }
  }
  const grown = alive.filter(({ cache }) => cache.capacity > 64).length;
  for (const { cache, used } of alive) {
    const bytes = 2 * 2 * rows * kvHeads * cache.capacity * 6 * (dtype === "float16" ? 2 : 4);
    if (used) assertEquals(cache.byteLength, bytes);
    cache.dispose();
    assertEquals([cache.byteLength, cache.capacity, cache.lengths], [0, 0, []]);
  }
  assertEquals(device.pool.stats.bytesInUse, before);
  return grown;
}

function apply({ cache, model }: { cache: KvCache; model: ArrayCache }, kind: "crop" | "reorder", by: number[]): void {
  cache[kind](by);
  model[kind](by);
}

Deno.test(`caches equal plain arrays over ${RUNS} random programs (seed ${seed})`, async () => {
  let grown = 0;
  await fc.assert(fc.asyncProperty(program, async (p) => void (grown += await run(p))), { numRuns: RUNS, seed });
  assert(grown > RUNS / 10, `only ${grown} caches grew: the programs are too short`);
});
