/** Loading a model: bounded, abortable, and nothing left behind. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { AbortError, LimitError, ModelFormatError } from "../../src/errors.ts";
import { type Device, openDevice } from "../../src/gpu/mod.ts";
import { loadModel, planModel } from "../../src/models/mod.ts";
import type { Progress } from "../../src/progress.ts";
import { testDevice } from "../helpers.ts";
import { type StoredDtype, TINY_CONFIGS, writeModel } from "../models/tiny_model.ts";
import { TemporaryFolder } from "./fixture.ts";

const device = await testDevice();

Deno.test("loadModel() refuses dtypes that are no floats by the tensor's name", async () => {
  for (const [dtype, width] of [["F8_E4M3", 1], ["I8", 1], ["U8", 1], ["BOOL", 1], ["I32", 4], ["I64", 8]] as const) {
    using folder = new TemporaryFolder();
    const name = "model.layers.1.mlp.up_proj.weight";
    await writeModel(folder, TINY_CONFIGS.llama, {
      edit: (tensors) => tensors.set(name, { ...tensors.get(name)!, dtype, data: new Uint8Array(37 * 24 * width) }),
    });
    const text = `${name} must be a float of 16, 32 or 64 bits: it is ${dtype}`;
    await assertRejects(() => loadModel(folder.path, { device }), ModelFormatError, text);
  }
});

/** A folder with a tiny model and its plan. */
async function tinyFolder(dtype: StoredDtype = "F32"): Promise<TemporaryFolder> {
  const folder = new TemporaryFolder();
  await writeModel(folder, TINY_CONFIGS.qwen3, { dtype });
  return folder;
}

Deno.test("loadModel() reports progress that only grows and ends at the total", async () => {
  for (const kind of ["llama", "gpt2", "bert"] as const) {
    using folder = new TemporaryFolder();
    await writeModel(folder, TINY_CONFIGS[kind], {
      edit(tensors) { // a buffer that nothing reads
        const name = { llama: "model.layers.0.rotary_emb.inv_freq", gpt2: "h.0.attn.bias", bert: "cls.x" }[kind];
        tensors.set(name, { name, dtype: "F32", shape: [2], data: new Uint8Array(8) });
      },
    });
    const reports: Progress[] = [];
    (await loadModel(folder.path, { device, onProgress: (report) => reports.push(report) })).dispose();
    const total = reports[0]!.total;
    assert(
      reports.every((r, i) => r.phase === "load" && r.total === total && r.loaded > (reports[i - 1]?.loaded ?? 0)),
    );
    assertEquals(reports.at(-1)!.loaded, total, kind);
  }
});

Deno.test("loadModel() stops when its signal fires, with no byte left in use", async () => {
  using folder = await tinyFolder();
  const before = device.pool.stats.bytesInUse;
  const aborted = AbortSignal.abort("enough");
  await assertRejects(() => loadModel(folder.path, { device, signal: aborted }), AbortError);
  let reports = 0;
  (await loadModel(folder.path, { device, onProgress: () => reports++ })).dispose();
  for (let stop = 1; stop <= reports; stop++) {
    const controller = new AbortController();
    let count = 0;
    const onProgress = () => {
      if (++count === stop) controller.abort(`after ${stop}`);
    };
    const load = () => loadModel(folder.path, { device, onProgress, signal: controller.signal });
    if (stop === reports) (await load()).dispose(); // everything was read already
    else assertEquals((await assertRejects(load, AbortError)).cause, `after ${stop}`);
    assertEquals(device.pool.stats.bytesInUse, before);
  }
});

Deno.test("loadModel() of a file that is cut short while it is read leaves no byte in use", async () => {
  using folder = await tinyFolder();
  const before = device.pool.stats.bytesInUse;
  const path = `${folder.path}/model.safetensors`, { size } = await Deno.stat(path);
  const onProgress = ({ loaded }: Progress) => loaded > size / 3 && Deno.truncateSync(path, size / 2);
  const error = await assertRejects(() => loadModel(folder.path, { device, onProgress }), ModelFormatError);
  assert(error.message.includes("model.safetensors"), error.message);
  assertEquals(device.pool.stats.bytesInUse, before);
});

Deno.test("loadModel() within a memory budget fits it, or refuses before anything is allocated", async () => {
  await using base = await openDevice();
  using folder = await tinyFolder();
  const { byteLength } = await planModel(folder.path);
  const outcomes = { loaded: 0, refused: 0 };
  for (let budget = 1000; budget < 2 * byteLength; budget = Math.ceil(budget * 1.05)) {
    await using small = await openDevice({ device: base.gpu, memoryBudget: budget });
    try {
      using _model = await loadModel(folder.path, { device: small });
      assertEquals(small.pool.stats.bytesInUse, byteLength);
      assert(small.pool.stats.peakBytes <= budget);
      outcomes.loaded++;
    } catch (error) {
      assert(error instanceof LimitError, `${budget}: ${error}`);
      assertEquals(small.pool.stats.created, 0);
      assert(budget < 1.4 * byteLength, `${budget} is enough for ${byteLength}`);
      outcomes.refused++;
    }
  }
  assert(outcomes.loaded > 5 && outcomes.refused > 50, JSON.stringify(outcomes));
});

Deno.test("loadModel() takes exactly the bytes that planModel() tells, and dispose() returns them all", async () => {
  const before = device.pool.stats.bytesInUse;
  for (const kind of Object.keys(TINY_CONFIGS) as (keyof typeof TINY_CONFIGS)[]) {
    for (const dtype of ["float32", "float16", "bfloat16"] as const) {
      using folder = new TemporaryFolder();
      await writeModel(folder, TINY_CONFIGS[kind]);
      const plan = await planModel(folder.path, { dtype });
      using model = await loadModel(folder.path, { device, dtype });
      assertEquals(device.pool.stats.bytesInUse - before, plan.byteLength, `${kind} in ${dtype}`);
      (await model.forward({ inputIds: [[1, 2, 3]] }))[Symbol.dispose]();
      model.dispose();
      model.dispose(); // twice is once
      assertEquals(device.pool.stats.bytesInUse, before, `${kind} in ${dtype}`);
    }
  }
});

Deno.test("loadModel() and dispose() again and again neither leak nor grow", async () => {
  using folder = await tinyFolder("F16");
  const cycle = async (on: Device) => {
    using model = await loadModel(folder.path, { device: on });
    using cache = model.newCache();
    (await model.forward({ inputIds: [[1, 2, 3], [4]] }, { cache }))[Symbol.dispose]();
  };
  const before = device.pool.stats.bytesInUse;
  await cycle(device);
  await cycle(device);
  const { created, bytesCached } = device.pool.stats;
  for (let i = 0; i < 20; i++) await cycle(device);
  const after = device.pool.stats;
  assertEquals([after.bytesInUse, after.created, after.bytesCached], [before, created, bytesCached]);
});

Deno.test("loadModel() without a device opens one, and closes it with the model or when loading fails", async () => {
  using folder = await tinyFolder();
  const model = await loadModel(folder.path);
  const own = model.device;
  assert(own !== device);
  model.dispose();
  assertEquals(own.pool.stats.buffersInUse, 0);
  await assertRejects(() => own.synchronize());
  await assertRejects(
    () => loadModel(folder.path, { onProgress: () => Deno.truncateSync(`${folder.path}/model.safetensors`, 64) }),
    ModelFormatError,
  );
});
