import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { RuntimeError, ValueError } from "../../src/errors.ts";
import { scaledDotProductAttention } from "../../src/ops/scaled_dot_product_attention.ts";
import { chooseBackend } from "../../src/ops/sdpa_choice.ts";
import { enabledBackends, sdpaKernel, SDPBackend, type SdpBackends, sdpKernel } from "../../src/ops/sdpa_kernel.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { setWarningHook } from "../../src/warn.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";

const device = await testDevice();
const ALL = ["flash", "efficient", "math"] as const;
const wait = () => new Promise((done) => setTimeout(done, 1));

const names: [given: SdpBackends, means: readonly string[]][] = [
  ["flash", ["flash"]],
  ["FLASH_ATTENTION", ["flash"]],
  [SDPBackend.EFFICIENT_ATTENTION, ["efficient"]],
  [["math", "flash"], ["flash", "math"]],
  [["MATH", "math", SDPBackend.MATH], ["math"]],
  [SDPBackend.CUDNN_ATTENTION, []],
  [[], []],
  [{}, ALL],
  [{ enableFlash: true, enableMath: false, enableMemEfficient: false }, ["flash"]],
  [{ enableFlash: false, enableCudnn: true }, ["efficient", "math"]],
];
for (const [given, means] of names) {
  Deno.test(`sdpaKernel() leaves ${means.join(", ") || "none"} of ${JSON.stringify(given)}`, () => {
    assertEquals(sdpaKernel(given, enabledBackends), means as typeof ALL);
    assertEquals(enabledBackends(), ALL);
  });
}

Deno.test("sdpaKernel() refuses other names, switches and values", () => {
  const wrong = ["flsh", "ERROR", ["math", 3], { enableFlsh: true }, { enableMath: 1 }];
  for (const given of wrong) {
    assertThrows(() => sdpaKernel(given as SdpBackends), ValueError, "Cannot choose attention");
  }
});

Deno.test("sdpaKernel() nests, and ends however the function or block ends", () => {
  sdpaKernel(["flash", "math"], () => {
    assertEquals(sdpaKernel("efficient", enabledBackends), ["efficient"]); // the innermost counts, as in PyTorch
    assertThrows(() => sdpaKernel("math", () => assert(false)));
    assertEquals(enabledBackends(), ["flash", "math"]);
    {
      using _ = sdpaKernel("math");
      assertEquals(enabledBackends(), ["math"]);
    }
    assertEquals(enabledBackends(), ["flash", "math"]);
  });
  assertEquals(enabledBackends(), ALL);
});

Deno.test("sdpaKernel() holds in what its function awaits, and two at once do not mix", async () => {
  const seen = (name: "flash" | "math") =>
    sdpaKernel(name, async () => {
      const found = [enabledBackends()];
      for (let i = 0; i < 3; i++) {
        await wait();
        found.push(enabledBackends());
      }
      return found;
    });
  const [flash, math] = await Promise.all([seen("flash"), seen("math")]);
  assertEquals(flash, Array(4).fill(["flash"]));
  assertEquals(math, Array(4).fill(["math"]));
  assertEquals(enabledBackends(), ALL);
});

Deno.test("using sdpaKernel() holds over awaits of its block, and nobody sees it once the block ends", async () => {
  const inside = (async () => {
    using _ = sdpaKernel("math");
    await wait();
    const found = enabledBackends();
    return found;
  })();
  assertEquals(await inside, ["math"]);
  assertEquals(enabledBackends(), ALL);
  async function* steps() {
    for (let i = 0; i < 2; i++) {
      await wait();
      yield enabledBackends();
    }
  }
  {
    using _ = sdpaKernel("efficient");
    for await (const found of steps()) assertEquals(found, ["efficient"]);
  }
  await wait();
  assertEquals(enabledBackends(), ALL);
});

Deno.test("sdpKernel() is the older name and warns once", () => {
  const heard: string[] = [];
  const before = setWarningHook((category) => heard.push(category));
  try {
    assertEquals(sdpKernel({ enableMath: false }, enabledBackends), ["flash", "efficient"]);
    using _ = sdpKernel({ enableFlash: false, enableMemEfficient: false });
    assertEquals(enabledBackends(), ["math"]);
  } finally {
    setWarningHook(before);
  }
  assertEquals(heard, ["FutureWarning"]);
});

const traits = { dtype: "float16", headDim: 64, bias: false } as const;
Deno.test("chooseBackend() takes the first that may run and can", () => {
  const choices = [
    [traits, ALL, "flash"],
    [{ ...traits, dtype: "bfloat16" }, ALL, "flash"],
    [{ ...traits, dtype: "float32" }, ALL, "efficient"],
    [{ ...traits, bias: true }, ALL, "efficient"],
    [traits, ["math", "efficient"], "efficient"],
    [{ ...traits, valueDim: 512 }, ALL, "math"],
    [traits, ["math"], "math"],
  ] as const;
  for (const [given, enabled, want] of choices) assertEquals(chooseBackend(given, enabled).backend, want);
  assertMatch(chooseBackend({ ...traits, bias: true }).why, /^not flash: .*attn_mask/);
});

Deno.test("chooseBackend() with none left says why each was refused", () => {
  const error = assertThrows(() => chooseBackend({ ...traits, dtype: "float32", bias: true }, ["flash"]), RuntimeError);
  assertEquals(error.name, "RuntimeError");
  assertEquals(error.message.split("\n"), [
    "No available kernel. Aborting execution.",
    "  Flash attention kernel not used because: Expected query, key and value to all be of dtype: {Half, BFloat16}. Got " +
    "float32. Flash Attention does not support non-null attn_mask.",
    "  Memory efficient kernel not used because: It has been runtime disabled.",
    "  Math kernel not used because: It has been runtime disabled.",
  ]);
});

Deno.test("scaledDotProductAttention() gives the same by each kernel, and none in float32 by flash", async () => {
  const data = randn(2 * 5 * 16),
    f16 = tensor(device, data, [2, 5, 16], "float16"),
    f32 = tensor(device, data, [2, 5, 16]);
  const want = await scaledDotProductAttention(f32, f32, f32).read();
  for (const name of ALL) {
    using y = sdpaKernel(name, () => scaledDotProductAttention(f16, f16, f16));
    assertClose(name, await y.read(), want, { atol: 4e-3 });
  }
  for (const name of ["efficient", "math"] as const) {
    using y = sdpaKernel(name, () => scaledDotProductAttention(f32, f32, f32));
    assertClose(name, await y.read(), want, { atol: 2e-6 });
  }
  const before = { ...device.stream.counters, bytes: device.pool.stats.bytesInUse };
  const error = await assertRejects(
    () =>
      sdpaKernel("flash", async () => {
        await wait();
        scaledDotProductAttention(f32, f32, f32);
      }),
    RuntimeError,
    "No available kernel. Aborting execution.",
  );
  assertStringIncludes(error.message, "Got float32");
  assertEquals({ ...device.stream.counters, bytes: device.pool.stats.bytesInUse }, before);
});
