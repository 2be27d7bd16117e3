/** over load and generate: a GPU fault gives the right tokens or one typed error, never other text. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { DeviceLostError } from "../../src/errors.ts";
import { generate, stream } from "../../src/generation/mod.ts";
import type { Device } from "../../src/gpu/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { countCalls, failEach } from "../gpu/fail_each.ts";
import type { FaultyDevice } from "../gpu/faulty_device.ts";
import { testDevice } from "../helpers.ts";
import { embedded } from "./models.ts";

const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const prompt = [2043, 510, 300, 257];
const options = { doSample: false, eosTokenId: null, maxNewTokens: 8 } as const;

const healthy = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device: healthy });
const want = (await generate(model, { inputIds: [prompt] }, options)).sequences[0]!.slice(prompt.length);

/** Loads, then streams 8 tokens; none may come after the fault. */
async function loadAndStream(device: Device, faulty: FaultyDevice): Promise<number[]> {
  using model = await loadModel(embedded("tensaur-draft"), { device });
  const tokens: number[] = [];
  for await (const step of stream(model, { inputIds: [prompt] }, options)) {
    assertEquals(step.tokens[0], want[tokens.length], "a wrong token was emitted");
    tokens.push(...step.tokens);
  }
  assert(!faulty.fired || tokens.length === want.length);
  return tokens;
}

Deno.test("load and generate survive any GPU call failing: right tokens or one typed error", async () => {
  const counts = await countCalls(loadAndStream);
  const calls = Object.values(counts).reduce((sum, n) => sum + n, 0);
  const { runs, errors } = await failEach(loadAndStream, {
    check: (tokens) => assertEquals(tokens, want),
    stride: Math.ceil(calls / (FULL ? 80 : 8)),
    options: { gpuTimeout: 2000 },
  });
  assert(runs > 60 && errors > runs / 2, `${errors} of ${runs} runs saw their fault`);
});

for (const at of [0, 1, 2, 3, 5, 8, 13, 21, 30, 39]) {
  Deno.test(`losing the device at token ${at} of a generate gives DeviceLostError within a second`, async () => {
    const device = await testDevice();
    const model = await loadModel(embedded("tensaur-draft"), { device });
    let tokens = 0, lostAt = 0;
    if (at === 0) device.gpu.destroy();
    await assertRejects(async () => {
      for await (const _ of stream(model, { inputIds: [prompt] }, { ...options, maxNewTokens: 400 })) {
        if (++tokens !== at) continue;
        device.gpu.destroy();
        lostAt = performance.now();
      }
    }, DeviceLostError);
    if (at > 0) assert(performance.now() - lostAt < 1000, "it took over a second");
    await assertRejects(() => generate(model, { inputIds: [prompt] }, options), DeviceLostError);
    model.dispose();
    device.close();
    assertEquals(device.pool.stats.bytesInUse, 0);
  });
}

Deno.test("1,000 generate calls leak nothing", async () => {
  const run = () => generate(model, { inputIds: [prompt] }, { ...options, maxNewTokens: 2 });
  await run();
  const { bytesInUse, buffersInUse, created } = healthy.pool.stats;
  for (let i = 0; i < 1000; i++) await run();
  const after = healthy.pool.stats;
  assertEquals([after.bytesInUse, after.buffersInUse], [bytesInUse, buffersInUse]);
  assert(after.created - created < 50, `${after.created - created} new buffers`);
});
