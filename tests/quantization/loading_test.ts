/** Quantizing while loading: every family, what stays as it is, what it takes, what is refused. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { ModelFormatError, type TensaurError, ValueError } from "../../src/errors.ts";
import { loadModel, type LoadOptions, type Model, planModel, quantizationErrors } from "../../src/models/mod.ts";
import {
  CODE_BOOKS,
  dequantizeAbsmax,
  dequantizeBlocks,
  quantizeAbsmax,
  quantizeBlocks,
} from "../../src/quantization/code_books.ts";
import { BitsAndBytesConfig, type BitsAndBytesOptions } from "../../src/quantization/mod.ts";
import { setWarningHook } from "../../src/warn.ts";
import type { TensorToSave } from "../../src/weights/save.ts";
import { testDevice } from "../helpers.ts";
import { relativeError } from "../models/fixture.ts";
import { bytesOf, TINY_CONFIGS, writeModel } from "../models/tiny_model.ts";
import { TemporaryFolder } from "../weights/fixture.ts";

const device = await testDevice();
const NF4 = { loadIn4bit: true, bnb4bitQuantType: "nf4", bnb4bitUseDoubleQuant: true } as const;

async function logitsOf(model: Model): Promise<Float32Array> {
  using output = await model.forward({ inputIds: [[3, 60, 0, 17], [5]] });
  return await (output.logits ?? output.lastHiddenState)!.read() as Float32Array;
}

async function loaded(path: string, options: BitsAndBytesOptions = {}, more: LoadOptions = {}): Promise<Model> {
  const quantizationConfig = new BitsAndBytesConfig(options);
  return await loadModel(path, { device, dtype: "float32", quantizationConfig, ...more });
}

/** Replaces each weight that will be quantized by what its codes stand for. */
function dequantized(tensors: Map<string, TensorToSave>, quantized: (name: string) => boolean, turned: boolean): void {
  for (const [name, tensor] of tensors) {
    if (!name.endsWith(".weight") || !quantized(name.slice(0, -".weight".length))) continue;
    const [rows = 0, cols = 0] = tensor.shape, x = new Float32Array((tensor.data as Uint8Array).slice().buffer);
    const turn = (v: Float32Array, n: number, m: number) =>
      Float32Array.from(v, (_, i) => v[(i % n) * m + Math.floor(i / n)]!);
    const flat = turned ? turn(x, rows, cols) : x;
    const { codes, absmax } = quantizeBlocks(flat, "nf4", 64);
    const y = dequantizeBlocks({ codes, absmax: dequantizeAbsmax(quantizeAbsmax(absmax)) }, CODE_BOOKS.nf4, 64);
    tensors.set(name, { ...tensor, data: bytesOf(turned ? turn(y, cols, rows) : y, "F32") });
  }
}

for (const [kind, config] of Object.entries(TINY_CONFIGS)) {
  Deno.test(`loadModel() quantizes ${kind}: logits are those of the dequantized weights`, async () => {
    using original = new TemporaryFolder();
    using replaced = new TemporaryFolder();
    await writeModel(original, config);
    const quantizationConfig = new BitsAndBytesConfig(NF4);
    const { weights } = await planModel(original.path, { dtype: "float32", quantizationConfig });
    const names = new Set(weights.filter((w) => w.scheme.startsWith("nf4")).flatMap((w) => w.name.split(" + ")));
    assert(names.size >= 8, [...names].join());
    assert(![...names].some((name) => /lm_head|embed|wte|predictions\.decoder/.test(name)), [...names].join());
    const turned = kind === "gpt2";
    await writeModel(replaced, config, { edit: (tensors) => dequantized(tensors, (name) => names.has(name), turned) });
    using model = await loaded(original.path, NF4), same = await loadModel(replaced.path, { device, dtype: "float32" });
    const got = await logitsOf(model), want = await logitsOf(same);
    assert(relativeError(got, want) < 1e-4, `${relativeError(got, want)}`);
    using int8 = await loaded(original.path, { loadIn8bit: true });
    using plain = await loadModel(original.path, { device, dtype: "float32" });
    const error = relativeError(await logitsOf(int8), await logitsOf(plain));
    assert(error > 0 && error < 0.1, `int8: ${error}`);
  });
}

const SIZED = { ...TINY_CONFIGS.llama, hidden_size: 512, intermediate_size: 1024, num_hidden_layers: 4 };

const theory: [options: BitsAndBytesOptions, bits: number][] = [
  [{ loadIn8bit: true }, 8],
  [{ loadIn4bit: true }, 4 + 32 / 64],
  [NF4, 4 + 8 / 64 + 32 / 64 / 256],
  [{ loadIn4bit: true, bnb4bitBlocksize: 256 }, 4 + 32 / 256],
];

Deno.test("quantized weights take their bits and 3 % more; loading never holds the full model; plans say how much", async () => {
  using folder = new TemporaryFolder();
  await writeModel(folder, SIZED);
  const full = (await planModel(folder.path, { dtype: "float32" })).byteLength;
  for (const [options, bits] of theory) {
    const on = await testDevice(), quantizationConfig = new BitsAndBytesConfig(options);
    const plan = await planModel(folder.path, { dtype: "float32", quantizationConfig });
    for (const { name, shape: [n = 0, k = 0], scheme, byteLength } of plan.weights) {
      if (scheme === "float32") continue;
      assert(byteLength <= 1.03 * n * k * bits / 8 + 256, `${name}: ${byteLength} for ${n * k * bits / 8}`);
    }
    const before = on.pool.stats.bytesInUse;
    using model = await loadModel(folder.path, { device: on, dtype: "float32", quantizationConfig });
    const { peakBytes, bytesInUse } = on.pool.stats;
    assertEquals(model.getMemoryFootprint(), plan.byteLength);
    assert(Math.abs(bytesInUse - before - plan.byteLength) < 4096, `${bytesInUse - before} of ${plan.byteLength}`);
    assert(peakBytes < 0.6 * full, `peak ${peakBytes}, full ${full}`);
    assert(peakBytes - before < plan.byteLength + 3 * 2 ** 20, `peak ${peakBytes - before}, model ${plan.byteLength}`);
    on.close();
  }
});

Deno.test("quantizationErrors() tells each layer's error: int8 below nf4 below fp4, weights in either order", async () => {
  for (const kind of ["llama", "gpt2"] as const) {
    using folder = new TemporaryFolder();
    await writeModel(folder, TINY_CONFIGS[kind]);
    const errors = async (options: BitsAndBytesOptions) => {
      const quantizationConfig = new BitsAndBytesConfig(options);
      return (await quantizationErrors(folder.path, { device, quantizationConfig })).map((e) => e.relativeRms);
    };
    const int8 = await errors({ loadIn8bit: true }), nf4 = await errors({ loadIn4bit: true, bnb4bitQuantType: "nf4" });
    const fp4 = await errors({ loadIn4bit: true });
    assertEquals([int8.length, nf4.length, fp4.length], [8, 8, 8]);
    for (const [i, error] of int8.entries()) {
      const seen = `${kind} ${i}: int8 ${error}, nf4 ${nf4[i]}, fp4 ${fp4[i]}`;
      assert(error > 0.002 && error < 0.012 && nf4[i]! > 0.05 && nf4[i]! < 0.11 && fp4[i]! > nf4[i]!, seen);
    }
  }
});

Deno.test("a weight that is NaN or infinite does not vanish in a code", async () => {
  for (const K of [24, 64]) { // blocks that end within a row, and blocks that fill rows
    for (const bad of [NaN, -Infinity]) {
      using folder = new TemporaryFolder();
      const config = { ...TINY_CONFIGS.llama, hidden_size: K };
      await writeModel(folder, config, {
        edit: (tensors) => {
          const { data } = tensors.get("model.layers.0.self_attn.o_proj.weight")!;
          new Float32Array((data as Uint8Array).buffer)[3] = bad;
        },
      });
      for (const options of [NF4, { loadIn4bit: true }, { loadIn8bit: true }]) {
        using model = await loaded(folder.path, options);
        const logits = await logitsOf(model);
        assert(!logits.every((v) => Number.isFinite(v)), `${K} ${bad} ${JSON.stringify(options)}`);
      }
    }
  }
});

Deno.test("llmInt8SkipModules replaces the default: the output layer must then be named", async () => {
  using folder = new TemporaryFolder();
  await writeModel(folder, TINY_CONFIGS.llama);
  const schemes = async (llmInt8SkipModules: string[] | null) => {
    const quantizationConfig = new BitsAndBytesConfig({ loadIn8bit: true, llmInt8SkipModules });
    const { weights } = await planModel(folder.path, { dtype: "float32", quantizationConfig });
    return Object.fromEntries(weights.map(({ name, scheme }) => [name, scheme]));
  };
  const down = "model.layers.1.mlp.down_proj", first = "model.layers.0.mlp.down_proj";
  const byDefault = await schemes(null);
  assertEquals([byDefault.lm_head, byDefault[down], byDefault["model.embed_tokens"]], ["float32", "int8", "float32"]);
  const named = await schemes([down]);
  assertEquals([named.lm_head, named[down], named[first]], ["int8", "float32", "int8"]);
  const layer = await schemes(["layers.0", "lm_head"]);
  assertEquals([layer.lm_head, layer[down], layer[first]], ["float32", "int8", "float32"]);
});

Deno.test("loadIn8bit and loadIn4bit warn, and do not come with a config; quantized checkpoints stay as they are", async () => {
  using folder = new TemporaryFolder();
  await writeModel(folder, TINY_CONFIGS.llama);
  const heard: string[] = [], before = setWarningHook((category, message) => heard.push(`${category}: ${message}`));
  try {
    using model = await loadModel(folder.path, { device, loadIn8bit: true });
    assertEquals(model.quantization, { method: "bitsandbytes", bits: 8 });
    assertStringIncludes(heard.join(), "FutureWarning: The `loadIn4bit` and `loadIn8bit` arguments are deprecated");
  } finally {
    setWarningHook(before);
  }
  const both = { device, loadIn4bit: true, quantizationConfig: new BitsAndBytesConfig(NF4) };
  await assertRejects(() => loadModel(folder.path, both), ValueError, "must not come with quantizationConfig");
});

type Tensors = Map<string, TensorToSave>;
const gptqConfig = { quant_method: "gptq", bits: 4, group_size: 8, desc_act: false };
const down = "model.layers.0.mlp.down_proj";

/** Makes the linear layers of a tiny Llama with groups of 16 inputs GPTQ's, all zeros. */
function asGptq(tensors: Tensors): void {
  for (const [name, { shape: [N = 0, K = 0] }] of [...tensors]) {
    if (!/_proj\.weight$/.test(name)) continue;
    const at = name.slice(0, -".weight".length);
    tensors.delete(name);
    const put = (part: string, dtype: "I32" | "F16", shape: number[]) => {
      const data = new Uint8Array(shape.reduce((a, b) => a * b, dtype === "I32" ? 4 : 2));
      tensors.set(`${at}.${part}`, { name: `${at}.${part}`, dtype, shape, data });
    };
    put("qweight", "I32", [K / 8, N]);
    put("qzeros", "I32", [K / 16, N / 8]);
    put("scales", "F16", [K / 16, N]);
  }
}

const LLAMA = { ...TINY_CONFIGS.llama, hidden_size: 32, intermediate_size: 48 };

const refused: [name: string, stored: unknown, edit: (t: Tensors) => void, error: string, message: string][] = [
  [
    "an unknown method",
    { quant_method: "aqlm" },
    () => {},
    "NotSupportedError",
    'bitsandbytes, gptq, awq: current value is "aqlm"',
  ],
  ["a method of Object", { quant_method: "toString" }, () => {}, "NotSupportedError", "toString"],
  ["no method", {}, () => {}, "NotSupportedError", "quant_method"],
  ["no object", "gptq", () => {}, "ModelFormatError", "quantization_config in config.json must be an object"],
  [
    "5 bits",
    { ...gptqConfig, bits: 5 },
    asGptq,
    "NotSupportedError",
    "bits of its quantization_config must be 2, 3, 4 or 8",
  ],
  ["a group of 0", { ...gptqConfig, group_size: 0 }, asGptq, "NotSupportedError", "group_size"],
  ["Marlin's order", { ...gptqConfig, checkpoint_format: "marlin" }, asGptq, "NotSupportedError", "checkpoint_format"],
  ["AWQ's gemv order", { quant_method: "awq", bits: 4, version: "gemv" }, () => {}, "NotSupportedError", "version"],
  [
    "wrong qzeros",
    { ...gptqConfig, group_size: 32 },
    asGptq,
    "ModelFormatError",
    "qzeros must be [1, 4]: it is [2, 4]",
  ],
  [
    "scales that are NaN",
    { ...gptqConfig, group_size: 16 },
    (tensors) => {
      asGptq(tensors);
      new Uint16Array((tensors.get(`${down}.scales`)!.data as Uint8Array).buffer).fill(0x7e00, 3, 4);
    },
    "ModelFormatError",
    `Cannot load ${down}.scales as scales must be finite numbers: number 3 is NaN`,
  ],
  [
    "scales that are missing",
    { ...gptqConfig, group_size: 16 },
    (tensors) => {
      asGptq(tensors);
      tensors.delete(`${down}.scales`);
    },
    "ModelFormatError",
    `${down}.scales [3, 32] is missing`,
  ],
  [
    "a fused layer of which one part is quantized",
    { ...gptqConfig, group_size: 16 },
    (tensors) => {
      asGptq(tensors);
      tensors.delete("model.layers.0.self_attn.q_proj.qweight");
    },
    "NotSupportedError",
    "all or none of them must be quantized",
  ],
];

for (const [name, stored, edit, error, message] of refused) {
  Deno.test(`loadModel() refuses ${name} before it allocates`, async () => {
    using folder = new TemporaryFolder();
    await writeModel(folder, LLAMA, { edit });
    folder.write("config.json", { ...LLAMA, quantization_config: stored });
    const made = device.pool.stats.created;
    const thrown = await loadModel(folder.path, { device }).catch((error: TensaurError) => error) as TensaurError;
    assertEquals(thrown.name, error);
    assertStringIncludes(thrown.message, message);
    assertEquals(device.pool.stats.created, made);
  });
}

Deno.test("loadModel() refuses to quantize what is quantized, and takes a g_idx with uneven groups for damage", async () => {
  using folder = new TemporaryFolder();
  await writeModel(folder, LLAMA, {
    edit(tensors) {
      asGptq(tensors);
      const data = new Uint8Array(4 * 48);
      tensors.set(`${down}.g_idx`, { name: `${down}.g_idx`, dtype: "I32", shape: [48], data });
    },
  });
  folder.write("config.json", { ...LLAMA, quantization_config: { ...gptqConfig, group_size: 16 } });
  await assertRejects(() => loaded(folder.path, NF4), ValueError, 'its quant_method is "gptq"');
  await assertRejects(() => loadModel(folder.path, { device }), ModelFormatError, "each group must have 16 inputs");
});
