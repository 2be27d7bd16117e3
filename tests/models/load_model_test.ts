/** From a folder to a model: which head, which dtype, which tensors. */
import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { NoCache, packBatch } from "../../src/cache/mod.ts";
import { LimitError, ModelFormatError, NotSupportedError, type TensaurError, ValueError } from "../../src/errors.ts";
import { openDevice } from "../../src/gpu/mod.ts";
import type { ConfigJson } from "../../src/models/config.ts";
import { loadModel, type LoadOptions, type Model, planModel, type PlanOptions } from "../../src/models/mod.ts";
import type { TensorToSave } from "../../src/weights/save.ts";
import { FaultyDevice } from "../gpu/faulty_device.ts";
import { testDevice } from "../helpers.ts";
import { TemporaryFolder } from "../weights/fixture.ts";
import { relativeError } from "./fixture.ts";
import { bytesOf, TINY_CONFIGS, writeModel, type WriteOptions } from "./tiny_model.ts";

type Kind = keyof typeof TINY_CONFIGS;
type Edit = NonNullable<WriteOptions["edit"]>;
const device = await testDevice();

/** Loads what `writeModel` writes, in float32. */
async function loaded(json: ConfigJson, edit?: Edit, options: LoadOptions = {}): Promise<Model> {
  using folder = new TemporaryFolder();
  await writeModel(folder, json, { edit });
  return await loadModel(folder.path, { device, dtype: "float32", ...options });
}

/** The plan of what `writeModel` writes for `json`, read with `read` as its config.json. */
async function planned(json: ConfigJson, read: ConfigJson, options: PlanOptions = {}, edit?: Edit) {
  using folder = new TemporaryFolder();
  await writeModel(folder, json, { edit });
  folder.write("config.json", read);
  return await planModel(folder.path, options);
}

async function logitsOf(model: Model): Promise<Float32Array> {
  using output = await model.forward({ inputIds: [[3, 60, 0, 17], [5]] });
  return await (output.logits ?? output.lastHiddenState)!.read() as Float32Array;
}

const renamed = (tensors: Map<string, TensorToSave>, name: (old: string) => string | undefined) => {
  for (const [old, tensor] of [...tensors]) {
    tensors.delete(old);
    const now = name(old);
    if (now !== undefined) tensors.set(now, { ...tensor, name: now });
  }
};
const added = (name: string, shape: number[], seed = 1): Edit => (tensors) => {
  const numbers = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(seed + i));
  tensors.set(name, { name, dtype: "F32", shape, data: bytesOf(numbers, "F32") });
};

/** `architectures` of config.json, the option `task`, and the task that comes of them, or the error. */
const tasks: [Kind, unknown, PlanOptions["task"], string | [new (m: string) => TensaurError, string]][] = [
  ["llama", ["LlamaForCausalLM"], undefined, "causal-lm"],
  ["llama", ["LlamaForCausalLM"], "base", "base"],
  ["llama", ["LlamaModel"], "causal-lm", "causal-lm"],
  ["llama", undefined, "causal-lm", "causal-lm"],
  ["llama", [], "causal-lm", "causal-lm"],
  ["llama", ["LlamaForCausalLM"], "masked-lm", [
    NotSupportedError,
    'one of causal-lm, base: current value is "masked-lm"',
  ]],
  ["llama", ["LlamaForSequenceClassification"], undefined, [NotSupportedError, "must be one of LlamaForCausalLM"]],
  ["llama", ["LlamaForSequenceClassification"], "causal-lm", "causal-lm"],
  ["llama", ["constructor"], undefined, [NotSupportedError, 'current value is "constructor"']],
  ["llama", ["MistralForCausalLM"], undefined, [NotSupportedError, "LlamaForCausalLM"]],
  ["llama", { 0: "LlamaForCausalLM" }, "causal-lm", "causal-lm"],
  ["gpt2", ["GPT2LMHeadModel"], undefined, "causal-lm"],
  ["bert", ["BertForMaskedLM"], undefined, "masked-lm"],
  ["bert", ["BertForMaskedLM"], "base", "base"],
  ["bert", ["BertForPreTraining"], undefined, [NotSupportedError, "BertForMaskedLM"]],
  ["bert", ["BertForPreTraining"], "masked-lm", "masked-lm"],
  ["bert", ["BertForMaskedLM"], "sequence-classification", [ModelFormatError, "classifier.weight [2, 24] is missing"]],
];
for (const [kind, architectures, task, want] of tasks) {
  const name = `planModel() of ${kind} with architectures ${JSON.stringify(architectures)} and task ${task}`;
  Deno.test(`${name} ${typeof want === "string" ? `is for ${want}` : "is refused"}`, async () => {
    const json = TINY_CONFIGS[kind];
    const plan = () => planned(json, { ...json, architectures }, { task });
    if (typeof want === "string") assertEquals((await plan()).task, want);
    else await assertRejects(plan, ...want);
  });
}

const heads: [string, string, number[]][] = [
  ["BertModel", "base", [2, 24]],
  ["BertForSequenceClassification", "sequence-classification", [2, 5]],
  ["BertForTokenClassification", "token-classification", [2, 4, 5]],
  ["BertForQuestionAnswering", "question-answering", [2, 4, 2]],
];
for (const [architecture, task, shape] of heads) {
  Deno.test(`loadModel() of a ${architecture} has the head of its task`, async () => {
    const labels = Object.fromEntries([..."abcde"].entries());
    using model = await loaded({ ...TINY_CONFIGS.bert, architectures: [architecture], id2label: labels });
    assertEquals(model.task, task);
    using output = await model.forward({ inputIds: [[3, 60, 0, 17], [5]] });
    assertEquals((task === "base" ? output.poolerOutput : output.logits)!.shape, shape);
    assertEquals(task === "base" ? output.logits : output.poolerOutput, undefined);
  });
}

Deno.test("loadModel() of a base model without a pooler gives hidden states, and no logits by name", async () => {
  const edit: Edit = (tensors) => renamed(tensors, (name) => name.includes("pooler") ? undefined : name);
  using model = await loaded({ ...TINY_CONFIGS.bert, architectures: ["BertModel"] }, edit);
  using output = await model.forward({ inputIds: [[1, 2]] });
  assertEquals(Object.keys(output).filter((key) => output[key as keyof typeof output]), ["lastHiddenState"]);
  using batch = packBatch(device, [1, 2], [0, 1], [2]);
  assertThrows(() => model.nextLogits(batch, new NoCache()), ValueError, 'its task is "base"');
});

for (const [kind, name] of [["llama", "lm_head"], ["gpt2", "lm_head"], ["bert", "cls.predictions.decoder"]] as const) {
  Deno.test(`loadModel() of ${kind} takes tie_word_embeddings at its word`, async () => {
    const embedding =
      { llama: "model.embed_tokens", gpt2: "transformer.wte", bert: "bert.embeddings.word_embeddings" }[kind];
    const head = (of: Edit): Edit => (tensors) => {
      tensors.delete(`${name}.weight`);
      of(tensors);
    };
    const copy: Edit = (t) => t.set(`${name}.weight`, { ...t.get(`${embedding}.weight`)!, name: `${name}.weight` });
    const other = added(`${name}.weight`, [61, 24]);
    const run = async (tie_word_embeddings: boolean, edit: Edit) => {
      using model = await loaded({ ...TINY_CONFIGS[kind], tie_word_embeddings }, head(edit));
      return await logitsOf(model);
    };
    const tied = await run(true, () => {});
    assertEquals(await run(true, other), tied, "a tied model reads no other output layer");
    assertEquals(relativeError(await run(false, copy), tied) < 1e-6, true, "the embedding as output layer");
    assertEquals(relativeError(await run(false, other), tied) > 0.1, true, "an output layer of its own");
    await assertRejects(() => run(false, () => {}), ModelFormatError, `${name}.weight [61, 24] is missing`);
  });
}

Deno.test("loadModel() names every missing, surplus and misshapen tensor in one error", async () => {
  const edit: Edit = (tensors) => {
    tensors.delete("model.norm.weight");
    tensors.delete("model.layers.1.self_attn.k_proj.weight");
    added("model.layers.0.mlp.down_proj.weight", [24, 36])(tensors);
    added("model.layers.2.mlp.down_proj.weight", [24, 37])(tensors);
    added("model.layers.0.self_attn.q_proj.bias", [24])(tensors);
  };
  const before = device.pool.stats;
  const error = await assertRejects(() => loaded(TINY_CONFIGS.llama, edit), ModelFormatError);
  assertEquals(
    error.message.split("\n  "),
    [
      "Cannot load the weights as LlamaForCausalLM must find exactly its own tensors:",
      "model.layers.0.mlp.down_proj.weight must be [24, 37]: it is [24, 36]",
      "model.layers.1.self_attn.k_proj.weight [12, 24] is missing",
      "model.norm.weight [24] is missing",
      "model.layers.2.mlp.down_proj.weight is there but has no use",
      "model.layers.0.self_attn.q_proj.bias is there but has no use",
    ].toSorted((a, b) => error.message.indexOf(a) - error.message.indexOf(b)),
  );
  assertEquals(device.pool.stats, before);
});

Deno.test("loadModel() shortens a long list of wrong tensors", async () => {
  const edit: Edit = (tensors) => renamed(tensors, (name) => `x.${name}`);
  const error = await assertRejects(() => loaded(TINY_CONFIGS.llama, edit), ModelFormatError);
  assertStringIncludes(error.message, "… and 30 more");
  assertEquals(error.message.split("\n").length, 14);
});

const prefixes: [Kind, string, string][] = [
  ["llama", "model.", "as saved from the base model"],
  ["qwen2", "model.", "as saved from the base model"],
  ["gpt2", "transformer.", "as OpenAI's files are"],
  ["bert", "bert.", "as sentence embedders are"],
];
for (const [kind, prefix, why] of prefixes) {
  Deno.test(`loadModel() of ${kind} finds tensors without "${prefix}", ${why}`, async () => {
    using model = await loaded(TINY_CONFIGS[kind]);
    const edit: Edit = (tensors) =>
      renamed(tensors, (name) => name.startsWith(prefix) ? name.slice(prefix.length) : name);
    using short = await loaded(TINY_CONFIGS[kind], edit);
    assertEquals(await logitsOf(short), await logitsOf(model));
  });
}

Deno.test("loadModel() leaves out buffers that old checkpoints hold", async () => {
  const buffers: [Kind, string[]][] = [
    ["llama", ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.1.self_attn.rotary_emb.cos_cached"]],
    ["gpt2", ["transformer.h.0.attn.bias", "h.1.attn.masked_bias"]],
    ["bert", ["bert.embeddings.position_ids", "cls.seq_relationship.weight", "bert.pooler.dense.weight"]],
  ];
  for (const [kind, names] of buffers) {
    using model = await loaded(TINY_CONFIGS[kind], (tensors) => names.forEach((name) => added(name, [3])(tensors)));
    assertEquals(model.config.model_type, kind);
  }
});

const dtypes: [ConfigJson, WriteOptions["dtype"], PlanOptions["dtype"], string][] = [
  [{ dtype: "bfloat16" }, "F32", undefined, "bfloat16"],
  [{ torch_dtype: "float16" }, "F32", "auto", "float16"],
  [{ dtype: "float32", torch_dtype: "float16" }, "F16", "auto", "float32"],
  [{}, "F16", "auto", "float16"],
  [{}, "BF16", undefined, "bfloat16"],
  [{}, "F64", undefined, "float32"],
  [{ dtype: null, torch_dtype: "float64" }, "F32", undefined, "float32"],
  [{ dtype: "float16" }, "F16", "bfloat16", "bfloat16"],
];
for (const [change, dtype, option, want] of dtypes) {
  Deno.test(`planModel() keeps ${dtype} with ${JSON.stringify(change)} and dtype ${option} as ${want}`, async () => {
    using folder = new TemporaryFolder();
    await writeModel(folder, { ...TINY_CONFIGS.llama, ...change }, { dtype });
    assertEquals((await planModel(folder.path, { dtype: option })).dtype, want);
  });
}

Deno.test("planModel() refuses a dtype that does not exist", async () => {
  const dtype = "float8" as "float16";
  const plan = () => planned(TINY_CONFIGS.llama, TINY_CONFIGS.llama, { dtype });
  await assertRejects(plan, ValueError, 'dtype must be auto, float32, float16, bfloat16: current value is "float8"');
});

Deno.test("planModel() tells sizes, bytes and the cache's bytes a token", async () => {
  const plan = await planned(TINY_CONFIGS.llama, TINY_CONFIGS.llama, { dtype: "float16" });
  assertEquals([plan.modelType, plan.dtype, plan.sizes.headDim, plan.cacheBytesPerToken], [
    "llama",
    "float16",
    6,
    2 * 2 * 2 * 6 * 2,
  ]);
  assertEquals(plan.weights[0], {
    name: "model.embed_tokens",
    shape: [61, 24],
    stored: "F32",
    scheme: "float16",
    bufferBytes: 2928,
    byteLength: 3184,
    table: true,
  });
  assertEquals(plan.weights.reduce((sum, w) => sum + w.byteLength, 0), plan.byteLength);
});

Deno.test("loadModel() refuses a weight of which four outputs are beyond the GPU's largest binding before it allocates", async () => {
  await using base = await openDevice();
  const { gpu } = new FaultyDevice(base.gpu, undefined, { maxStorageBufferBindingSize: 256 });
  await using small = await openDevice({ device: gpu });
  const load = () => loaded(TINY_CONFIGS.llama, undefined, { device: small });
  await assertRejects(load, LimitError, "at most 256 B: model.embed_tokens takes 384 B");
  assertEquals(small.pool.stats.created, 0);
});
