/** 4-bit weights, flash attention and BetterTransformer at once, as the documents combine them, beside each by itself. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ValueError } from "../../src/errors.ts";
import { generate } from "../../src/generation/mod.ts";
import { loadModel, type LoadOptions, type Model, toBetterTransformer } from "../../src/models/mod.ts";
import { sdpaKernel } from "../../src/ops/mod.ts";
import { CODE_BOOKS, dequantizeBlocks, quantizeBlocks } from "../../src/quantization/code_books.ts";
import { BitsAndBytesConfig } from "../../src/quantization/mod.ts";
import { testDevice } from "../helpers.ts";
import { relativeError } from "../models/fixture.ts";
import { bytesOf, TINY_CONFIGS, writeModel } from "../models/tiny_model.ts";
import { TemporaryFolder } from "../weights/fixture.ts";

const device = await testDevice();
const quantizationConfig = new BitsAndBytesConfig({ loadIn4bit: true, bnb4bitQuantType: "nf4" });
const inputs = { inputIds: [[3, 60, 0, 17, 5], [8, 2, 44, 9, 31]] };
const TOLERANCE = 5e-3; // float16 keys and values

/** Weights that NF4 can tell exactly, so that a 4-bit model and a 16-bit one are the same function but for rounding. */
async function write(folder: TemporaryFolder, kind: "llama" | "gpt2" | "opt"): Promise<void> {
  await writeModel(folder, TINY_CONFIGS[kind], {
    edit(tensors) {
      for (const [name, tensor] of tensors) {
        if (tensor.shape.length < 2) continue;
        const x = new Float32Array((tensor.data as Uint8Array).slice().buffer);
        const [rows = 0, cols = 0] = tensor.shape, turned = kind === "gpt2" && /\.(attn|mlp)\./.test(name);
        const at = (i: number) => turned ? i % rows * cols + Math.floor(i / rows) : i; // blocks go along the inputs
        const line = Float32Array.from(x, (_, i) => x[at(i)]!);
        const near = dequantizeBlocks(quantizeBlocks(line, "nf4", 64), CODE_BOOKS.nf4, 64);
        for (const [i, v] of near.entries()) x[at(i)] = v;
        tensors.set(name, { ...tensor, data: bytesOf(x, "F32") });
      }
    },
  });
}

interface Outcome {
  logits: Float32Array;
  sequences: number[][];
}

async function run(model: Model): Promise<Outcome> {
  using output = await model.forward(inputs);
  const { sequences } = await generate(model, inputs, { doSample: false, eosTokenId: null, maxNewTokens: 8 });
  return { logits: await output.logits!.read() as Float32Array, sequences: sequences.map((row) => [...row]) };
}

type Form = [what: string, options: LoadOptions, convert?: (model: Model) => Model];

async function compare(kind: "llama" | "gpt2" | "opt", single: readonly Form[], together: Form): Promise<void> {
  using folder = new TemporaryFolder();
  await write(folder, kind);
  const outcome = async ([, options, convert = (model) => model]: Form) => {
    using model = convert(await loadModel(folder.path, { device, dtype: "float16", ...options }));
    return await run(model);
  };
  const all = await outcome(together);
  for (const form of single) {
    const one = await outcome(form), error = relativeError(all.logits, one.logits);
    assert(error < TOLERANCE, `${form[0]}: ${error}`);
    assertEquals(all.sequences, one.sequences, form[0]);
  }
}

Deno.test("4-bit weights and flash attention generate on a Llama what each does; its BetterTransformer is built in", async () => {
  await compare("llama", [
    ["neither", { attnImplementation: "eager" }],
    ["4 bits", { quantizationConfig, attnImplementation: "eager" }],
    ["flash attention", { attnImplementation: "flash_attention_2" }],
  ], [
    "all",
    { quantizationConfig, attnImplementation: "flash_attention_2" },
    (model) => {
      assertThrows(() => toBetterTransformer(model), ValueError, "natively BetterTransformer");
      return model;
    },
  ]);
});

for (const kind of ["opt", "gpt2"] as const) {
  Deno.test(`4-bit weights, flash attention and BetterTransformer generate on ${kind} what each does`, async () => {
    await compare(kind, [
      ["none", { attnImplementation: "eager" }],
      ["4 bits", { quantizationConfig, attnImplementation: "eager" }],
      ["BetterTransformer", { attnImplementation: "eager" }, toBetterTransformer],
      ["flash attention", { attnImplementation: "flash_attention_2" }],
    ], ["all", { quantizationConfig, attnImplementation: "flash_attention_2" }, (model) => {
      toBetterTransformer(model);
      assertEquals(sdpaKernel("flash", () => model.explain()).layers[0]!.prompt.kernel, "flash");
      return model;
    }]);
  });
}
