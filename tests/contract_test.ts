/** The public contract: each name of mod.ts that others program against, called as it is promised, with what it gives. */
import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import {
  type Device,
  type DeviceReport,
  embed,
  generate,
  loadModel,
  loadTokenizer,
  type Model,
  openDevice,
  stream,
  Tensor,
  tensor,
  type Tokenizer,
  type TypedArray,
} from "../mod.ts";
import * as mod from "../mod.ts";
import * as ops from "../src/ops/mod.ts";
import { testDevice } from "./helpers.ts";

const PATH = "models/tensaur-draft", PROMPTS = ["Once upon a time", "The old lighthouse by the sea"];
const device: Device = await testDevice();
const model: Model = await loadModel(PATH, { device, dtype: "float32", attnImplementation: "sdpa", task: "causal-lm" });
const tokenizer: Tokenizer = await loadTokenizer(PATH);
const shapeOf = (rows: readonly ArrayLike<unknown>[]) => [rows.length, ...new Set(rows.map((row) => row.length))];

Deno.test("openDevice(), device.explain() and `await using`", async () => {
  await using own: Device = await openDevice({ label: "contract", memoryBudget: 2 ** 28, tuningFile: null });
  const report: DeviceReport = own.explain();
  assert(report.features && report.limits && report.adapter && report.rungs.every(({ what, why }) => what && why));
});

Deno.test("tensor(), read(), shape and dtype", async () => {
  for (const dtype of ["float32", "float16", "bfloat16", "int32", "uint32"] as const) {
    using t: Tensor = tensor(device, [1, 2, 3, 4, 5, 6], [2, 3], dtype);
    assertInstanceOf(t, Tensor);
    assertEquals([[...t.shape], t.dtype], [[2, 3], dtype]);
    const numbers: TypedArray = await t.read();
    assertEquals([...numbers].map(Number), [1, 2, 3, 4, 5, 6]);
  }
});

Deno.test("loadModel() tells progress and takes a signal; model.config", async () => {
  const told: string[] = [], { signal } = new AbortController();
  using base = await loadModel(PATH, { device, task: "base", signal, onProgress: ({ phase }) => told.push(phase) });
  assert(told.includes("load"));
  assertEquals([base.config.model_type, base.task], ["llama", "base"]);
  assertEquals([model.task, model.dtype, model.attnImplementation], ["causal-lm", "float32", "sdpa"]);
});

Deno.test("model.forward() gives [B, S, V] logits, and what else it was asked for", async () => {
  const { hiddenSize, vocabSize, heads, attention } = model.sizes, layers = attention.length;
  const inputIds = [[1, 2, 3], [4, 5]], attentionMask = [[1, 1, 1], [1, 1, 0]];
  using cache = model.newCache();
  const padded = inputIds.map((row) => [...row, ...Array<number>(3 - row.length).fill(0)]);
  using output = await model.forward({ inputIds: padded, attentionMask }, {
    cache,
    outputHiddenStates: true,
    outputAttentions: true,
  });
  const { logits, lastHiddenState, hiddenStates, attentions } = output;
  assertEquals([logits?.shape, lastHiddenState?.shape], [[2, 3, vocabSize], [2, 3, hiddenSize]]);
  assertEquals(hiddenStates!.map(({ shape }) => [...shape]), Array(layers + 1).fill([2, 3, hiddenSize]));
  assertEquals(attentions!.map(({ shape }) => [...shape]), Array(layers).fill([2, heads, 3, 3]));
  assert(output.cache === cache);
  assertEquals([...cache.lengths], [3, 2]);
});

Deno.test("tokenizer(), decode(), batchDecode() and applyChatTemplate()", async () => {
  const one = tokenizer(PROMPTS[0]!, { addSpecialTokens: false });
  assertEquals(shapeOf(one.inputIds), shapeOf(one.attentionMask!));
  assertEquals(tokenizer.decode(one.inputIds[0]!), PROMPTS[0]);
  const two = tokenizer(PROMPTS, { padding: true, truncation: true, maxLength: 4 });
  assertEquals([shapeOf(two.inputIds), shapeOf(two.attentionMask!)], [[2, 4], [2, 4]]);
  assertEquals(tokenizer.batchDecode(tokenizer(PROMPTS).inputIds, { skipSpecialTokens: true }), PROMPTS);
  const chat = await tokenizer.applyChatTemplate([{ role: "user", content: "Hi" }], { addGenerationPrompt: true });
  assert(chat.length > 2 && typeof chat[0] === "number");
});

Deno.test("generate() gives sequences with the prompt, padded on the right, and what else it was asked for", async () => {
  const inputs = tokenizer(PROMPTS), options = { maxNewTokens: 3, doSample: false, eosTokenId: null } as const;
  using cache = model.newCache();
  const all = { ...options, cache, outputScores: true, outputLogits: true, returnDictInGenerate: true };
  const output = await generate(model, inputs, all);
  const longest = Math.max(...inputs.inputIds.map((row) => row.length));
  assertEquals(shapeOf(output.sequences), [2, longest + 3]);
  assertEquals([output.scores!.length, output.logits!.length, output.cache === cache], [3, 3, true]);
  const steps: number[][] = [];
  for await (const { tokens, text } of stream(model, inputs, options)) {
    assertEquals([tokens.length, text], [2, undefined]);
    steps.push(tokens);
  }
  assertEquals(steps.length, 3);
});

Deno.test("embed() gives a vector a text", async () => {
  using base = await loadModel(PATH, { device, task: "base" });
  for (const pooling of ["mean", "cls"] as const) {
    const vectors: number[][] = await embed(base, tokenizer, PROMPTS, { pooling, normalize: true });
    assertEquals(shapeOf(vectors), [2, base.sizes.hiddenSize]);
    for (const vector of vectors) assert(Math.abs(Math.hypot(...vector) - 1) < 1e-5);
  }
});

Deno.test("every named op and error is exported", () => {
  const named = "matmul linear embedding rmsNorm layerNorm add mul gelu silu relu swiglu softmax rotaryEmbedding " +
    "attention scaledDotProductAttention argmax sampleLogits repetitionPenalty";
  assertEquals(named.split(" ").filter((name) => typeof ops[name as keyof typeof ops] !== "function"), []);
  const caches = "DynamicCache StaticCache",
    errors = "TensaurError ShapeError DtypeError OutOfMemoryError " +
      "DeviceLostError GpuError NumericError ModelFormatError ModelPathError IntegrityError TokenizerError " +
      "TemplateError LimitError AbortError";
  const absent = `${caches} ${errors}`.split(" ").filter((name) => typeof mod[name as keyof typeof mod] !== "function");
  assertEquals(absent, []);
});
