/** over load and generate: a GPU fault gives the right tokens or one typed error, never other text. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { DeviceLostError } from "../../src/errors.ts";
import { generate, stream } from "../../src/generation/mod.ts";
import type { Device } from "../../src/gpu/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { countCalls, failEach } from "../gpu/fail_each.ts";
import type { FaultyDevice } from "../gpu/faulty_device.ts";
import { providers } from "../gpu/providers.ts";
import { residentBytes, testDevice } from "../helpers.ts";
import { embedded } from "./models.ts";

const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const LOSSES = FULL ? 20 : 1; // of each kind
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

for (const provider of FULL ? providers : ["deno" as const]) { // with the faults of real_faults_test.ts 30 on each
  for (const at of [0, 1, 2, 3, 5, 8, 13, 21, 30, 39]) {
    Deno.test(`losing the device at token ${at} of a generate gives DeviceLostError within a second (${provider})`, async () => {
      const device = await testDevice(provider === "dawn" ? { provider, gpuTimeout: 300_000 } : {});
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
      await device[Symbol.asyncDispose]();
      assertEquals(device.pool.stats.bytesInUse, 0);
    });
  }
}

/** Where the device is lost: what runs then, and must end with DeviceLostError. */
const phases: Record<string, (device: Device, round: number) => Promise<unknown>> = {
  load: async (device, round) => {
    const loading = loadModel(embedded("tensaur-draft"), { device });
    await later(round);
    device.gpu.destroy();
    (await loading).dispose(); // it was faster than the loss: only the next use can tell
    await device.synchronize();
  },
  prefill: async (device, round) => {
    using model = await loadModel(embedded("tensaur-draft"), { device });
    const inputIds = [Array.from({ length: 600 }, (_, i) => prompt[i % prompt.length]!)];
    const first = generate(model, { inputIds }, { ...options, maxNewTokens: 1, prefillChunkSize: 8 }); // 75 chunks
    await later(round);
    device.gpu.destroy();
    await first;
  },
  decode: async (device, round) => {
    using model = await loadModel(embedded("tensaur-draft"), { device });
    let tokens = 0;
    for await (const _ of stream(model, { inputIds: [prompt] }, { ...options, maxNewTokens: 400 })) {
      if (tokens++ === 2 * round) device.gpu.destroy();
    }
  },
  idle: async (device) => {
    using model = await loadModel(embedded("tensaur-draft"), { device });
    await generate(model, { inputIds: [prompt] }, options);
    device.gpu.destroy();
    await generate(model, { inputIds: [prompt] }, options);
  },
};

/** Waits a few milliseconds, or for none: another moment each round. */
async function later(round: number): Promise<void> {
  for (let i = 0; i < round % 5; i++) await Promise.resolve();
  if (round >= 5) await new Promise((resolve) => setTimeout(resolve, (round - 5) / 2));
}

/** Runs a phase, then sees that the loss is told of, in time, and that nothing is kept. */
async function lose(phase: string, round: number, seen: WeakRef<object>[] = []): Promise<void> {
  const device = await testDevice();
  seen.push(new WeakRef(device), new WeakRef(device.gpu));
  const lost = device.gpu.lost.then(() => performance.now());
  await assertRejects(() => phases[phase]!(device, round), DeviceLostError);
  const late = performance.now() - await lost;
  assert(late < 1000, `${phase}, round ${round}: it took ${late} ms`);
  device.close();
  assertEquals(device.pool.stats.bytesInUse, 0);
}

/** A new device gives the right tokens. */
async function recover(seen: WeakRef<object>[] = []): Promise<void> {
  await using device = await testDevice();
  seen.push(new WeakRef(device), new WeakRef(device.gpu));
  using model = await loadModel(embedded("tensaur-draft"), { device });
  const { sequences } = await generate(model, { inputIds: [prompt] }, options);
  assertEquals(sequences[0]!.slice(prompt.length), want);
}

for (const phase of Object.keys(phases).filter((phase) => FULL || phase !== "decode")) { // decode is above
  Deno.test(`losing the device during ${phase} gives DeviceLostError within a second, and a new device works (${LOSSES}x)`, async () => {
    for (let round = 0; round < LOSSES; round++) await lose(phase, round);
    await recover();
  });
}

Deno.test({
  name: `losing the device twice in a row, at any two moments, leaves the next one right (${LOSSES}x)`,
  ignore: !FULL,
  fn: async () => {
    const names = Object.keys(phases);
    for (let round = 0; round < LOSSES; round++) {
      await lose(names[round % 4]!, round);
      await lose(names[(round >> 2) % 4]!, round);
      await recover();
    }
  },
});

const WARM_UP = 20, DEVICES = 100; // two a cycle: the lost one, and the next

/** By how many bytes a process grows that opens and destroys as many GPUDevices, and does nothing else. */
async function bareGrowth(): Promise<number> {
  const child = fromFileUrl(import.meta.resolve("./bare_devices_child.ts"));
  const args = ["run", "--allow-all", "--no-check", child, `${WARM_UP}`, `${DEVICES}`];
  const { code, stdout } = await new Deno.Command(Deno.execPath(), { args, stderr: "inherit" }).output();
  assertEquals(code, 0);
  return Number(new TextDecoder().decode(stdout));
}

// wgpu and the driver keep memory of every device that was open, without Tensaur too: the process's growth proves nothing.
Deno.test({
  name:
    `${
      DEVICES / 2
    } losses, each with a new device after it, keep nothing of ours: no byte of a pool, no GPUDevice or ` +
    "Device alive, and a JS heap within 5 % (the process's own growth is only told, beside that of bare GPUDevices)",
  ignore: !FULL,
  fn: async () => {
    const seen: WeakRef<object>[] = [];
    const cycles = async (count: number) => {
      for (let round = 0; round < count; round++) {
        await lose("decode", round % 20, seen); // which sees that the pool is empty
        await recover(seen);
      }
    };
    await cycles(WARM_UP / 2);
    seen.length = 0;
    const before = residentBytes(), { heapUsed } = Deno.memoryUsage();
    await cycles(DEVICES / 2);
    await new Promise((resolve) => setTimeout(resolve)); // what a WeakRef has shown lives until the task ends
    const grown = residentBytes() - before, heap = Deno.memoryUsage().heapUsed - heapUsed;
    const alive = seen.filter((ref) => ref.deref()).length;
    const mb = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
    const found = `${alive} of ${seen.length} objects alive; the heap grew by ${mb(heap)} from ${mb(heapUsed)}, the ` +
      `process by ${mb(grown)} from ${mb(before)}; without Tensaur by ${mb(await bareGrowth())}`;
    console.log(found);
    assertEquals(seen.length, 2 * DEVICES);
    assert(alive <= 2 && heap < 0.05 * heapUsed, found); // the last device may lie on the stack still
  },
});
