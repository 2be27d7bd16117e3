import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { sdpaKernel } from "../../src/ops/mod.ts";
import { testDevice } from "../helpers.ts";
import { BitsAndBytesConfig } from "../../src/quantization/mod.ts";
import { loadModel, quantizationErrors } from "../../src/models/mod.ts";
import { TemporaryFolder } from "../weights/fixture.ts";
import { TINY_CONFIGS, tinyModel, writeModel } from "./tiny_model.ts";

const device = await testDevice();

Deno.test("Model.explain() tells the kernel of each layer and why, by implementation, dtype and sdpaKernel()", async () => {
  const cases = [
    ["llama", { dtype: "float32" }, "efficient", /^not flash: .*Half, BFloat16/],
    ["llama", { dtype: "float16" }, "flash", /^keys are float16/],
    ["llama", { dtype: "float16", attnImplementation: "eager" }, "math", /^not flash: It has been runtime disabled/],
    ["llama", { dtype: "float16", attnImplementation: "flash_attention_2" }, "flash", /^keys are float16/],
    ["bert", { dtype: "float16" }, "efficient", /Got float32/],
  ] as const;
  for (const [kind, options, kernel, why] of cases) {
    using model = await tinyModel(device, kind, options);
    const { layers, attnImplementation, dtype } = model.explain();
    assertEquals([layers.length, attnImplementation, dtype], [2, model.attnImplementation, options.dtype]);
    for (const { prompt, step } of layers) {
      assertEquals([prompt.kernel, step?.kernel], [kernel, kind === "bert" ? undefined : kernel]);
      assertMatch(prompt.why, why);
    }
  }
  using model = await tinyModel(device, "llama");
  assertEquals(sdpaKernel("math", () => model.explain()).layers[0]!.prompt.kernel, "math");
  const { kernel, why } = sdpaKernel("flash", () => model.explain()).layers[0]!.prompt;
  assertEquals(kernel, "none");
  assertStringIncludes(why, "No available kernel. Aborting execution.");
});

Deno.test("Model.explain() as text puts layers together that are alike, and names matrices and windows", async () => {
  using model = await tinyModel(device, "mistral", { dtype: "float16" });
  const text = `${model.explain()}`;
  assertMatch(
    text,
    /^attention: sdpa; matrices kept as float16\n {2}layers 0–1\n {4}window {2}the last 5 tokens\n {4}prompt {2}flash/,
  );
  assertStringIncludes(text, "    token   flash (keys are float16");
  assertStringIncludes(text, "    linear  qkv 24 → 48, float16, 2.25 KiB");
  assertEquals(text.match(/layers/g)!.length, 1);
});

Deno.test("Model.explain() tells bytes, scheme and error of each matrix that was quantized while loading", async () => {
  using folder = new TemporaryFolder();
  await writeModel(folder, { ...TINY_CONFIGS.llama, hidden_size: 64, intermediate_size: 128 });
  const quantizationConfig = new BitsAndBytesConfig({ loadIn4bit: true, bnb4bitQuantType: "nf4" });
  const exact = await quantizationErrors(folder.path, { device, quantizationConfig });
  using model = await loadModel(folder.path, { device, quantizationConfig });
  const found = model.explain(), linears = found.layers.flatMap((l) => l.linears);
  assertEquals(linears.length, exact.length);
  for (const [i, { name, scheme, byteLength, relativeError, inFeatures, outFeatures }] of linears.entries()) {
    const want = exact[i]!.relativeRms;
    assertEquals([scheme, byteLength < 0.6 * inFeatures * outFeatures + 600], ["nf4", true], name);
    assertEquals(Math.abs(relativeError! / want - 1) < 0.05, true, `${name}: ${relativeError}, exactly ${want}`);
  }
  assertMatch(`${found}`, /linear {2}gateUp 64 → 256, nf4, [\d.]+ KiB, RMS error [789](\.\d)?(–[\d.]+)? %/);
});
