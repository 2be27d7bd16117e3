import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { StaticCache } from "../../src/cache/mod.ts";
import { AbortError, type TensaurError, ValueError } from "../../src/errors.ts";
import { compile, type CompileOptions, generate, stream } from "../../src/generation/mod.ts";
import { loadModel, type Model } from "../../src/models/mod.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { randn, testDevice } from "../helpers.ts";
import { TINY_ENCODER_DECODERS, writeModel } from "../models/tiny_model.ts";
import { TemporaryFolder } from "../weights/fixture.ts";
import { embedded } from "./models.ts";

const device = await testDevice();
const load = () => loadModel(embedded("tensaur-draft"), { device, dtype: "float32" });
const tiny = await load();
const prompt = [2043, 510, 300, 257], other = [2043, 41, 7];
const greedy = { doSample: false, eosTokenId: null, maxNewTokens: 20 } as const;

/** What a replayed step must not make. */
function counts() {
  const { pipelines, bindGroups } = device.kernels.counters;
  return { pipelines, bindGroups, buffers: device.pool.stats.created, writes: device.stream.counters.writes };
}

/** Counts of the first step and of a later one. */
async function countsOver(model: Model, inputIds: number[][], options = {}) {
  const seen: ReturnType<typeof counts>[] = [];
  for await (const _ of stream(model, { inputIds }, { ...greedy, ...options })) seen.push(counts());
  return { first: seen[1]!, last: seen.at(-1)! };
}

Deno.test("compile() leaves nothing to compile, and its decode steps make and write nothing", async () => {
  const want = await generate(tiny, { inputIds: [prompt] }, greedy);
  const rows = [prompt, other, prompt], batch = await generate(tiny, { inputIds: rows }, greedy);
  using model = await load();
  await compile(model, { maxBatch: 3, maxLength: 64 });
  const { pipelines } = device.kernels.counters;
  for (let round = 0; round < 2; round++) {
    assertEquals((await generate(model, { inputIds: [prompt] }, greedy)).sequences, want.sequences);
    assertEquals((await generate(model, { inputIds: rows }, greedy)).sequences, batch.sequences);
  }
  for (const inputIds of [[prompt], rows]) {
    const { first, last } = await countsOver(model, inputIds);
    assertEquals(last, first);
  }
  assertEquals(device.kernels.counters.pipelines, pipelines);
});

/** How often `object` was asked for something, method by method, while `work` ran. */
async function callsOf(object: object, methods: readonly string[], work: () => Promise<void>) {
  const calls = Object.fromEntries(methods.map((name) => [name, 0]));
  for (const name of methods) {
    const own: (...args: unknown[]) => unknown = Reflect.get(object, name);
    const value = (...args: unknown[]) => (calls[name]!++, own.apply(object, args));
    Object.defineProperty(object, name, { value, configurable: true });
  }
  try {
    await work();
  } finally {
    for (const name of methods) Reflect.deleteProperty(object, name); // the prototype's shows again
  }
  return calls;
}

Deno.test("WebGPU itself is asked by replayed steps for encoders and submissions only", async () => {
  using model = await load();
  await compile(model, { maxLength: 64 });
  const made = ["createBuffer", "createBindGroup", "createComputePipeline", "createComputePipelineAsync"];
  const asked = [...made, "createShaderModule", "createPipelineLayout", "createCommandEncoder"];
  const run = async (maxNewTokens: number) => {
    const work = async () => void await generate(model, { inputIds: [prompt] }, { ...greedy, maxNewTokens });
    let device_ = {};
    const queue = await callsOf(device.gpu.queue, ["writeBuffer", "submit"], async () => {
      device_ = await callsOf(device.gpu, asked, work);
    });
    return { ...device_, ...queue } as Record<string, number>;
  };
  await run(4), await run(20); // the staging buffers of reads, once
  const few = await run(4), many = await run(20), more = (name: string) => many[name]! - few[name]!;
  for (const name of [...asked.slice(0, -1), "writeBuffer"]) assertEquals(more(name), 0, name);
  assert(more("createCommandEncoder") > 0 && more("submit") > 0);
});

Deno.test("generate() on a compiled model replays the recordings that compile() made", async () => {
  using model = await load();
  await compile(model, { maxBatch: 2, maxLength: 64 });
  const stats = { ...device.pool.stats };
  for (const inputIds of [[prompt], [prompt, other], [other]]) {
    await generate(model, { inputIds }, greedy);
    assertEquals(device.pool.stats.bytesInUse, stats.bytesInUse);
  }
});

Deno.test("generate() with the same static cache replays its recording in the next call", async () => {
  using cache = new StaticCache({ maxCacheLen: 128 });
  const first = await generate(tiny, { inputIds: [prompt, other] }, { ...greedy, cache });
  cache.reset();
  await generate(tiny, { inputIds: [prompt, other] }, { ...greedy, cache }); // bind groups of the prompts
  cache.reset();
  let captures = 0;
  const capture = device.stream.capture;
  device.stream.capture = function (fn) {
    captures++;
    return capture.call(this, fn);
  };
  try {
    const { pipelines, buffers } = counts();
    const again = await generate(tiny, { inputIds: [prompt, other] }, { ...greedy, cache });
    assertEquals(again.sequences, first.sequences);
    assertEquals(captures, 1); // the choice; the model's part is the first call's
    assertEquals([counts().pipelines, counts().buffers], [pipelines, buffers]);
  } finally {
    device.stream.capture = capture;
  }
});

Deno.test("generate() on a compiled model serves what does not fit, and two calls at once", async () => {
  using model = await load();
  await compile(model, { maxLength: 16 });
  const { sequences: [want] } = await generate(tiny, { inputIds: [prompt] }, greedy);
  for (const maxNewTokens of [12, 13, 20]) { // 16 tokens fit, 17 do not
    const { sequences } = await generate(model, { inputIds: [prompt] }, { ...greedy, maxNewTokens });
    assertEquals(sequences, [want!.slice(0, 4 + maxNewTokens)]);
  }
  const short = { ...greedy, maxNewTokens: 8 };
  const [a, b] = await Promise.all([prompt, other].map((row) => generate(model, { inputIds: [row] }, short)));
  assertEquals(a!.sequences[0], want!.slice(0, 12));
  assertEquals(b!.sequences, (await generate(tiny, { inputIds: [other] }, short)).sequences);
  assertEquals((await generate(model, { inputIds: [prompt, other] }, short)).sequences[0], want!.slice(0, 12));
});

Deno.test("compile() again replaces what there was, and the model's end returns all memory", async () => {
  const before = device.pool.stats.bytesInUse;
  {
    using model = await load();
    await compile(model, { maxLength: 256 });
    const large = device.pool.stats.bytesInUse;
    await compile(model, { maxLength: 32 });
    assert(device.pool.stats.bytesInUse < large);
    for await (const _ of stream(model, { inputIds: [prompt] }, greedy)) break; // left in the middle
    await generate(model, { inputIds: [prompt] }, greedy);
  }
  assertEquals(device.pool.stats.bytesInUse, before);
});

Deno.test("loadModel() with warmUp compiles what a prompt and greedy steps need while it loads", async () => {
  await using device = await testDevice();
  const path = embedded("tensaur-draft"), { counters } = device.kernels;
  using model = await loadModel(path, { device, warmUp: [prompt.length] });
  const { pipelines } = counters, compiled: string[] = [];
  device.kernels.onCompile = (name) => compiled.push(name.split(" ")[0]!);
  const { sequences } = await generate(model, { inputIds: [prompt] }, greedy);
  assertEquals(compiled, []);
  assert(pipelines > 5);
  using cold = await loadModel(path, { device });
  assertEquals((await generate(cold, { inputIds: [prompt] }, greedy)).sequences, sequences);
});

for (const kind of ["t5", "bart", "whisper"] as const) {
  Deno.test(`compile() of an encoder-decoder: recordings serve the next input of the same lengths: ${kind}`, async () => {
    using folder = new TemporaryFolder();
    await writeModel(folder, TINY_ENCODER_DECODERS[kind]);
    const speech = kind === "whisper";
    using features = tensor(device, randn(60, 1), [1, 5, 12]);
    using others = tensor(device, randn(60, 2), [1, 5, 12]);
    const inputs = [features, others].map((inputFeatures, i) =>
      speech ? { inputFeatures } : { inputIds: [i ? [33, 51, 17, 40] : [4, 5, 6, 7]] }
    );
    const options = { ...greedy, maxNewTokens: 12 }, before = device.pool.stats.bytesInUse;
    {
      using plain = await loadModel(folder.path, { device, dtype: "float32" });
      const want = [];
      for (const input of inputs) want.push((await generate(plain, input, options)).sequences);
      if (kind !== "bart") assertNotEquals(want[0], want[1]); // its tied weights repeat a token whatever is read
      using model = await loadModel(folder.path, { device, dtype: "float32" });
      await compile(model, { maxLength: 16 });
      const { pipelines } = device.kernels.counters;
      for (const i of [0, 1, 0]) assertEquals((await generate(model, inputs[i], options)).sequences, want[i]);
      assertEquals(device.kernels.counters.pipelines, pipelines);
      const { capture } = device.stream, seen: ReturnType<typeof counts>[] = [];
      let captures = 0;
      device.stream.capture = (fn) => (captures++, capture.call(device.stream, fn));
      for await (const _ of stream(model, inputs[1], options)) seen.push(counts());
      device.stream.capture = capture;
      assertEquals(seen.at(-1), seen[1]);
      assertEquals(captures, 1); // the choice; the model's part is that of the generation before
      if (!speech) { // other lengths: recorded anew
        const input = { inputIds: [[9, 10, 11, 12, 13, 14]] };
        assertEquals(
          (await generate(model, input, options)).sequences,
          (await generate(plain, input, options)).sequences,
        );
      }
    }
    await device.stream.settled();
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}

const wrong: [string, CompileOptions, typeof TensaurError][] = [
  ["maxBatch 0", { maxBatch: 0 }, ValueError],
  ["maxLength 1.5", { maxLength: 1.5 }, ValueError],
  ["an aborted signal", { signal: AbortSignal.abort() }, AbortError],
];
for (const [what, options, error] of wrong) {
  Deno.test(`compile() refuses ${what}`, async () => {
    await assertRejects(() => compile(tiny, options), error);
  });
}
