import { assertEquals, assertRejects } from "@std/assert";
import { StaticCache } from "../../src/cache/mod.ts";
import { RuntimeError } from "../../src/errors.ts";
import { generate } from "../../src/generation/mod.ts";
import { sdpaKernel } from "../../src/ops/mod.ts";
import { testDevice } from "../helpers.ts";
import { tinyModel } from "../models/tiny_model.ts";

const device = await testDevice();
const inputs = { inputIds: [[3, 1, 4, 1, 5]] };
const options = { maxNewTokens: 12, doSample: false, eosTokenId: [] };

Deno.test("generate() runs with flash alone where weights are float16, and refuses float32 with the reasons", async () => {
  using half = await tinyModel(device, "llama", { dtype: "float16" });
  const want = (await generate(half, inputs, options)).sequences;
  const flash = { enableFlash: true, enableMath: false, enableMemEfficient: false };
  assertEquals((await sdpaKernel(flash, () => generate(half, inputs, options))).sequences, want);
  {
    using _ = sdpaKernel("FLASH_ATTENTION");
    assertEquals((await generate(half, inputs, options)).sequences, want);
  }
  using full = await tinyModel(device, "llama", { dtype: "float32" });
  await generate(full, inputs, options); // makes the rotary table
  const before = device.pool.stats.bytesInUse;
  await assertRejects(
    () => sdpaKernel("flash", () => generate(full, inputs, options)),
    RuntimeError,
    "No available kernel",
  );
  assertEquals(device.pool.stats.bytesInUse, before);
});

Deno.test("generate() does not replay with sdpaKernel() what was recorded without, and gives the same", async () => {
  using model = await tinyModel(device, "llama", { dtype: "float32" });
  const dispatched: string[] = [];
  const record = device.stream.record.bind(device.stream);
  device.stream.record = (command) => {
    if (command.kind === "dispatch") dispatched.push(command.name);
    record(command);
  };
  try {
    using cache = new StaticCache({ maxCacheLen: 64 });
    const run = async (restrict: boolean) => {
      dispatched.length = 0;
      cache.reset();
      const go = () => generate(model, inputs, { ...options, cache });
      const { sequences } = await (restrict ? sdpaKernel("math", go) : go());
      return { sequences, kernels: new Set(dispatched.filter((name) => name.startsWith("attention"))) };
    };
    const first = await run(false), again = await run(false), math = await run(true);
    assertEquals([again.sequences, math.sequences], [first.sequences, first.sequences]);
    assertEquals(math.kernels.size > 0, true, "the step was recorded anew");
    assertEquals(math.kernels.isSubsetOf(first.kernels), false, "with other kernels");
  } finally {
    delete (device.stream as { record?: unknown }).record;
  }
});

Deno.test("generate() twice at the same time, each with a kernel of its own", async () => {
  using model = await tinyModel(device, "llama", { dtype: "float16" });
  const want = (await generate(model, inputs, options)).sequences;
  const both = await Promise.all([
    sdpaKernel("efficient", () => generate(model, inputs, options)),
    sdpaKernel("flash", () => generate(model, inputs, options)),
  ]);
  assertEquals(both.map(({ sequences }) => sequences), [want, want]);
});
