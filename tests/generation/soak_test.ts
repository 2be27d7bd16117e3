/** many short generates keep no memory. */
import { assert, assertEquals } from "@std/assert";
import { StaticCache } from "../../src/cache/mod.ts";
import { compile, generate, type GenerationOptions } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { residentBytes, testDevice } from "../helpers.ts";
import { embedded } from "./models.ts";

const full = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const CALLS = full ? 2000 : 200;
const WARM_UP = full ? 500 : 20; // the first 250 make the process grow by 30 MB
const SAMPLE = 50; // generates between two readings
const MB = 1e6, MAX_GROWTH = 1; // MB in 1,000 generates

const device = await testDevice();
const short = { doSample: false, eosTokenId: null, maxNewTokens: 2 } as const;

/** Growth per generate of `bytes`, read every {@linkcode SAMPLE} of them: the slope of the least squares line. */
function slope(bytes: readonly number[]): number {
  const x = (bytes.length - 1) / 2, y = bytes.reduce((sum, b) => sum + b, 0) / bytes.length;
  const over = bytes.reduce((sum, b, i) => sum + (i - x) * (b - y), 0);
  return over / bytes.reduce((sum, _, i) => sum + (i - x) ** 2, 0) / SAMPLE;
}

Deno.test(`${CALLS} generate calls leave the GPU's bytes in use as they were${full ? ", and the process's" : ""}`, async () => {
  using model = await loadModel(embedded("tensaur-draft"), { device });
  const run = (options: GenerationOptions = {}) =>
    generate(model, { inputIds: [[2043, 510, 300, 257]] }, { ...short, ...options });
  for (let i = 0; i < WARM_UP; i++) await run();
  const { bytesInUse, buffersInUse, created } = device.pool.stats, rss: number[] = [];
  for (let i = 0; i < CALLS; i++) {
    if (full && i % SAMPLE === 0) rss.push(residentBytes());
    await run();
  }
  const after = device.pool.stats;
  assertEquals([after.bytesInUse, after.buffersInUse, after.created], [bytesInUse, buffersInUse, created]);
  if (!full) return;
  const growth = slope(rss) * 1000 / MB,
    seen = `${growth.toFixed(2)} MB per 1,000 (RSS ${rss.map((b) => Math.round(b / MB))})`;
  assert(growth < MAX_GROWTH, seen);
  console.log(`${bytesInUse} bytes in use; ${seen}`);
});

Deno.test("generate with a static cache, and on a compiled model, holds the same bytes call after call", async () => {
  using model = await loadModel(embedded("tensaur-draft"), { device });
  await compile(model, { maxLength: 64 });
  using cache = new StaticCache({ maxCacheLen: 64 });
  const seen = new Set<number>();
  for (let i = 0; i < CALLS / 10; i++) {
    cache.reset();
    for (const options of [{}, { cache }]) {
      await generate(model, { inputIds: [[2043, 510, 300]] }, { ...short, ...options });
    }
    if (i > 0) seen.add(device.pool.stats.bytesInUse);
  }
  assertEquals(seen.size, 1);
});
