import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DynamicCache, NoCache, packBatch } from "../../src/cache/mod.ts";
import { NotImplementedError, RuntimeError, ShapeError, ValueError } from "../../src/errors.ts";
import {
  type AttnImplementation,
  isBetterTransformer,
  type LoadOptions,
  type Model,
  reverseBetterTransformer,
  saveModel,
  supportsFlashAttn2,
  supportsSdpa,
  toBetterTransformer,
} from "../../src/models/mod.ts";
import { resolveAttention } from "../../src/models/attention_implementation.ts";
import { sdpaKernel } from "../../src/ops/mod.ts";
import { setWarningHook } from "../../src/warn.ts";
import { assertClose, testDevice } from "../helpers.ts";
import { assertWithin, chunked } from "./fixture.ts";
import { tinyModel } from "./tiny_model.ts";

const device = await testDevice();
const inputs = { inputIds: [[3, 1, 4, 1, 5, 9, 2], [6, 5, 3]] };

/** What `fn` returns, and the warnings meanwhile. */
async function hearing<T>(fn: () => T | Promise<T>): Promise<{ result: T; heard: string[] }> {
  const heard: string[] = [];
  const before = setWarningHook((category, message) => heard.push(`${category}: ${message}`));
  try {
    return { result: await fn(), heard };
  } finally {
    setWarningHook(before);
  }
}

async function logitsOf(model: Model): Promise<Float32Array> {
  using output = await model.forward(inputs);
  return await output.logits!.read() as Float32Array;
}

const config = (model_type: string) => ({ model_type, architectures: [`${model_type}ForCausalLM`] });

Deno.test("resolveAttention() takes what is asked for, or the default of the architecture", () => {
  const cases: [type: string, options: LoadOptions, want: AttnImplementation][] = [
    ["llama", {}, "sdpa"],
    ["bloom", {}, "eager"],
    ["llama", { attnImplementation: "eager" }, "eager"],
    ["bloom", { attnImplementation: "eager" }, "eager"],
    ["gpt2", { attnImplementation: "flash_attention_2" }, "flash_attention_2"],
  ];
  for (const [type, options, want] of cases) assertEquals(resolveAttention(config(type), options), want);
});

Deno.test("resolveAttention() refuses what Transformers refuses, in its words", () => {
  const cases: [type: string, options: LoadOptions, says: string][] = [
    [
      "llama",
      { attnImplementation: "flash" as "eager" },
      'Specified `attnImplementation="flash"` is not supported. The only possible arguments are `attnImplementation="eager"`',
    ],
    [
      "bloom",
      { attnImplementation: "sdpa" },
      "bloomForCausalLM does not support an attention implementation through torch.nn.functional." +
      "scaled_dot_product_attention yet.",
    ],
    ["t5", { attnImplementation: "flash_attention_2" }, "does not support Flash Attention 2.0 yet."],
    [
      "llama",
      { attnImplementation: "sdpa", useFlashAttention2: true },
      'Both attnImplementation="sdpa" and `useFlashAttention2=true` were used when loading the model, which are not compatible.',
    ],
  ];
  for (const [type, options, says] of cases) {
    assertThrows(() => resolveAttention(config(type), options), ValueError, says);
  }
  assertEquals([supportsSdpa("t5"), supportsSdpa("gptj"), supportsFlashAttn2("t5")], [true, false, false]);
});

Deno.test("useFlashAttention2 means flash_attention_2, and warns", async () => {
  const { result, heard } = await hearing(() => resolveAttention(config("llama"), { useFlashAttention2: true }));
  assertEquals(result, "flash_attention_2");
  assertEquals(heard.length, 1);
  assert(heard[0]!.startsWith("FutureWarning: The model was loaded with useFlashAttention2=true, which is deprecated"));
});

for (const kind of ["llama", "bert"] as const) {
  Deno.test(`Model.forward() gives the same eagerly and by sdpa: ${kind}`, async () => {
    using eager = await tinyModel(device, kind, { attnImplementation: "eager" });
    using sdpa = await tinyModel(device, kind);
    assertEquals([eager.attnImplementation, sdpa.attnImplementation], ["eager", "sdpa"]);
    assertWithin("logits", await logitsOf(eager), await logitsOf(sdpa), 1e-5);
  });

  Deno.test(`flash_attention_2 in float16 is near sdpa in float32, with padding and cache: ${kind}`, async () => {
    const dtype = "float16", attnImplementation = "flash_attention_2";
    const { result: model, heard } = await hearing(() => tinyModel(device, kind, { dtype, attnImplementation }));
    using flash = model, sdpa = await tinyModel(device, kind, { dtype });
    assertEquals(heard, []);
    const want = await logitsOf(sdpa);
    assertWithin("logits", await logitsOf(flash), want, 4e-3);
    if (kind === "bert") return;
    using cache = flash.newCache();
    using output = await flash.forward(inputs, { cache });
    assertWithin("logits with a cache", await output.logits!.read(), want, 4e-3);
  });
}

Deno.test("flash_attention_2 takes position ids that begin anew, without a mask, for sequences of their own", async () => {
  using model = await tinyModel(device, "llama", { dtype: "float16", attnImplementation: "flash_attention_2" });
  const [a, b] = inputs.inputIds as [number[], number[]];
  const joined = { inputIds: [[...a, ...b], [1, 2]], positionIds: [[0, 1, 2, 3, 4, 5, 6, 0, 1, 2], [0, 1]] };
  using output = await model.forward(joined);
  assertEquals(output.logits!.shape, [2, 10, 61]);
  const rows = chunked(await output.logits!.read(), 61), want = chunked(await logitsOf(model), 61); // [2 · 7][61]
  assertClose("the first", rows.slice(0, 7).flat(), want.slice(0, 7).flat(), { atol: 1e-4 });
  assertClose("the second", rows.slice(7, 10).flat(), want.slice(7, 10).flat(), { atol: 1e-4 });
  model.setAttnImplementation("sdpa");
  using whole = await model.forward(joined);
  assert(chunked(await whole.logits!.read(), 61)[9]!.some((x, i) => Math.abs(x - rows[9]![i]!) > 1e-3), "one sequence");
  model.setAttnImplementation("flash_attention_2");
  const short = { ...joined, positionIds: [[0, 1, 2, 3, 4, 5, 6, 0, 1], [0, 1]] };
  await assertRejects(() => model.forward(short), ShapeError, "positionIds must have the shape of inputIds");
});

Deno.test("flash_attention_2 warns of float32 and of no dtype while loading, and refuses to run", async () => {
  const attnImplementation = "flash_attention_2";
  for (const [dtype, warnings] of [["float32", 1], [undefined, 2]] as const) {
    const { result, heard } = await hearing(() => tinyModel(device, "llama", { dtype, attnImplementation }));
    using model = result;
    assertEquals(heard.length, warnings);
    assert(heard.at(-1)!.startsWith(
      "UserWarning: Flash Attention 2.0 only supports torch.float16 and torch.bfloat16 dtypes, but the current dype in " +
        "LlamaForCausalLM is float32",
    ));
    const before = { ...device.stream.counters, bytes: device.pool.stats.bytesInUse };
    await assertRejects(
      () => model.forward(inputs),
      RuntimeError,
      "FlashAttention only support fp16 and bf16 data type",
    );
    assertEquals(device.stream.counters.dispatches, before.dispatches);
    assertEquals(device.pool.stats.bytesInUse, before.bytes);
  }
});

Deno.test("sdpaKernel() restricts a model that attends by sdpa, and only such", async () => {
  using model = await tinyModel(device, "llama");
  const error = await assertRejects(
    () => sdpaKernel("flash", () => model.forward(inputs)),
    RuntimeError,
    "No available",
  );
  assert(error.message.includes("Got float32"), error.message);
  const want = await logitsOf(model);
  assertWithin("math", await sdpaKernel("math", () => logitsOf(model)), want, 1e-5);
  model.setAttnImplementation("eager");
  assertWithin("eager", await sdpaKernel("flash", () => logitsOf(model)), want, 1e-5);
  using half = await tinyModel(device, "bert", { dtype: "float16" });
  const near = await logitsOf(half);
  assertWithin("flash", await sdpaKernel("flash", () => logitsOf(half)), near, 4e-3); // keys are rounded for it
});

Deno.test("outputAttentions under sdpa warns once and gives the eager numbers", async () => {
  using model = await tinyModel(device, "llama");
  using eager = await tinyModel(device, "llama", { attnImplementation: "eager" });
  const { heard } = await hearing(async () => {
    for (let i = 0; i < 2; i++) {
      using output = await model.forward(inputs, { outputAttentions: true });
      using want = await eager.forward(inputs, { outputAttentions: true });
      assertEquals(await output.logits!.read(), await want.logits!.read());
      assertEquals(await output.attentions![1]!.read(), await want.attentions![1]!.read());
    }
  });
  assertEquals(heard.length, 1);
  assert(heard[0]!.startsWith(
    "UserWarning: LlamaModel is using LlamaSdpaAttention, but `torch.nn.functional.scaled_dot_product_attention` does not " +
      "support `outputAttentions=true`. Falling back to the manual attention implementation,",
  ));
});

for (const kind of ["llama", "bert", "gpt2"] as const) {
  Deno.test(`headMask multiplies the probabilities of each head: ${kind}`, async () => {
    using model = await tinyModel(device, kind, { attnImplementation: "eager" });
    const { heads } = model.sizes;
    const logits = async (headMask?: number[] | number[][]) => {
      using output = await model.forward(inputs, { headMask, outputAttentions: true });
      return { logits: await output.logits!.read(), p: await output.attentions![0]!.read() };
    };
    const plain = await logits(),
      ones = await logits([1, 1, 1, 1]),
      half = await logits([[0.5, 0, 1, 2], [1, 1, 1, 1]]);
    assertEquals(ones, plain);
    const perHead = (p: ArrayLike<number>) => chunked(Array.from(p), p.length / 2 / heads);
    for (const [i, row] of perHead(half.p).entries()) {
      const factor = [0.5, 0, 1, 2][i % heads]!;
      assertClose(`head ${i}`, row, perHead(plain.p)[i]!.map((x) => factor * x));
    }
    assert(half.logits.some((x, i) => Math.abs(x - plain.logits[i]!) > 1e-3), "the logits move");
  });
}

Deno.test("headMask of zeros in a layer leaves nothing of its attention", async () => {
  using model = await tinyModel(device, "gpt2", { attnImplementation: "eager" });
  const one = async (id: number) => {
    using output = await model.forward({ inputIds: [[id, 7]] }, { headMask: [[0, 0, 0, 0], [0, 0, 0, 0]] });
    return chunked(await output.logits!.read(), 61)[1];
  };
  assertEquals(await one(3), await one(50)); // the second token does not see the first
});

Deno.test("headMask must fit, and warns once under sdpa", async () => {
  using model = await tinyModel(device, "llama");
  for (const headMask of [[1, 1], [[1, 1, 1, 1]], [[1, 1, 1, 1], [1]]]) {
    await assertRejects(() => model.forward(inputs, { headMask }), ShapeError, "headMask must be [4] or [2, 4]");
  }
  await assertRejects(() => model.forward(inputs, { headMask: [1, NaN, 1, 1] }), ValueError, "finite");
  const { heard } = await hearing(async () => {
    for (let i = 0; i < 2; i++) (await model.forward(inputs, { headMask: [1, 1, 1, 1] }))[Symbol.dispose]();
  });
  assertEquals(heard.length, 1);
  assert(heard[0]!.includes("does not support `headMask`"));
});

Deno.test("a cache that keeps float32 refuses flash attention before its tokens count", async () => {
  using model = await tinyModel(device, "llama", { dtype: "float16", attnImplementation: "flash_attention_2" });
  using cache = new DynamicCache({ dtype: "float32" });
  await assertRejects(() => model.forward(inputs, { cache }), RuntimeError, "No available kernel");
  assertEquals(cache.lengths, [0, 0]);
});

Deno.test("Model.hidden() attends by the implementation too", async () => {
  using model = await tinyModel(device, "bert", { dtype: "float16", attnImplementation: "eager" });
  using batch = packBatch(device, [1, 2, 3], [0, 1, 2], [3]);
  using eager = model.hidden(batch, new NoCache());
  model.setAttnImplementation("sdpa");
  using sdpa = model.hidden(batch, new NoCache());
  assertClose("hidden", await eager.read(), await sdpa.read(), { atol: 1e-5 });
});

Deno.test("toBetterTransformer() and back: the same numbers, the documented states and errors", async () => {
  using bert = await tinyModel(device, "bert", { attnImplementation: "eager" });
  const want = await logitsOf(bert);
  assertEquals(toBetterTransformer(bert), bert);
  assertEquals([isBetterTransformer(bert), bert.attnImplementation], [true, "sdpa"]);
  assertWithin("logits", await logitsOf(bert), want, 1e-5);
  assertThrows(() => toBetterTransformer(bert), RuntimeError, "must not be converted yet");
  assertThrows(() => bert.setAttnImplementation("flash_attention_2"), ValueError, "must not be a BetterTransformer");
  const saving = () => saveModel(bert, "not-written");
  await assertRejects(saving, ValueError, "Cannot save the model as it must not be converted");
  assertEquals(reverseBetterTransformer(bert), bert);
  assertEquals([isBetterTransformer(bert), bert.attnImplementation], [false, "eager"]);
  assertEquals(await logitsOf(bert), want); // bit for bit
  assertThrows(() => reverseBetterTransformer(bert), ValueError, "must be a BetterTransformer");
});

Deno.test("toBetterTransformer() converts a model that nobody asked to attend by sdpa, and gives zeros at pads", async () => {
  using gpt2 = await tinyModel(device, "gpt2");
  assertEquals(reverseBetterTransformer(toBetterTransformer(gpt2)).attnImplementation, "sdpa");
  using bert = toBetterTransformer(await tinyModel(device, "bert"));
  using output = await bert.forward(inputs);
  const rows = chunked(await output.lastHiddenState!.read(), 24);
  assert(rows.slice(7 + 3).every((row) => row.every((x) => x === 0)), "pad rows are exactly 0");
});

Deno.test("toBetterTransformer() refuses what BetterTransformer refuses", async () => {
  using llama = await tinyModel(device, "llama", { attnImplementation: "eager" });
  assertThrows(
    () => toBetterTransformer(llama),
    ValueError,
    "Transformers now supports natively BetterTransformer optimizations " +
      "(torch.nn.functional.scaled_dot_product_attention) for the model type llama.",
  );
  using asked = await tinyModel(device, "bert", { attnImplementation: "sdpa" });
  assertThrows(
    () => toBetterTransformer(asked),
    ValueError,
    "This model already uses BetterTransformer optimizations from Transformers",
  );
  using qwen3 = await tinyModel(device, "qwen3");
  assertThrows(() => toBetterTransformer(qwen3), NotImplementedError, 'current value is "qwen3"');
  const like = (config: object, sizes: object = {}) =>
    // a bert that says it is something else
    new Proxy(asked, {
      get: (model, name) => {
        if (name === "config") return { ...model.config, ...config };
        if (name === "sizes") return { ...model.sizes, ...sizes };
        return name === "attnImplementationGiven" ? false : Reflect.get(model, name, model);
      },
    });
  for (const model_type of ["falcon", "gpt_bigcode", "whisper"]) {
    assertThrows(() => toBetterTransformer(like({ model_type })), ValueError, `for the model type ${model_type}.`);
  }
  for (const model_type of ["deberta-v2", "glpn"]) {
    assertThrows(() => toBetterTransformer(like({ model_type })), ValueError, `that of ${model_type} is not`);
  }
  assertThrows(() => toBetterTransformer(like({}, { heads: 3 })), ValueError, "an even number of heads: it has 3");
});
