import { assert, assertEquals, assertRejects } from "@std/assert";
import { estimateMemory as estimatePlan } from "../../src/cli/estimate.ts";
import { NotSupportedError, ValueError } from "../../src/errors.ts";
import { generate } from "../../src/generation/mod.ts";
import { estimateMemory, loadModel, planModel } from "../../src/models/mod.ts";
import { BitsAndBytesConfig } from "../../src/quantization/mod.ts";
import { assertClose, testDevice } from "../helpers.ts";
import { TemporaryFolder } from "../weights/fixture.ts";
import { TINY_CONFIGS, writeModel } from "./tiny_model.ts";

const device = await testDevice();
const GIB = 2 ** 30;
const TINY = "models/tensaur-tiny";

/** Mistral-7B-v0.1's. */
const MISTRAL = {
  ...{ architectures: ["MistralForCausalLM"], model_type: "mistral", hidden_act: "silu", hidden_size: 4096 },
  ...{ intermediate_size: 14336, max_position_embeddings: 32768, num_attention_heads: 32, num_hidden_layers: 32 },
  ...{ num_key_value_heads: 8, rms_norm_eps: 1e-5, rope_theta: 10000, sliding_window: 4096, vocab_size: 32000 },
  tie_word_embeddings: false,
};

/** Of a layer that takes more than its activations once it is unpacked. */
const WIDE = { hidden_size: 512, intermediate_size: 1024, num_attention_heads: 8, head_dim: 64, num_hidden_layers: 1 };

const int8 = new BitsAndBytesConfig({ loadIn8bit: true });
const nf4 = new BitsAndBytesConfig({ loadIn4bit: true, bnb4bitQuantType: "nf4" });

Deno.test("estimateMemory() gives the documents' sizes of Mistral-7B: 13.74 GB, and 6.87 GB in 8 bits", async () => {
  const plain = await estimateMemory(MISTRAL, { dtype: "bfloat16", contextLength: 4096 });
  const eight = await estimateMemory(MISTRAL, { dtype: "bfloat16", contextLength: 4096, quantization: int8 });
  assertEquals(plain.parameters, 7_241_732_096);
  assertEquals(eight.parameters, plain.parameters);
  assert(Math.abs(eight.weights / plain.weights - 0.5) <= 0.01);
  for (const [{ weights }, want] of [[plain, 13.74], [eight, 6.87]] as const) {
    assert(Math.abs(weights / GIB / want - 1) < 0.06, `${weights / GIB}`);
  }
  assert(eight.loaded > eight.weights && eight.loaded < 0.54 * plain.loaded, `${eight.loaded / plain.loaded}`);
  assertEquals(plain.cache, 4096 * 2 * 32 * 8 * 128 * 2);
  assertEquals(plain.total, plain.loaded + plain.cache + plain.working);
  const short = await estimateMemory(MISTRAL, { dtype: "bfloat16", contextLength: 1 });
  assertEquals([plain.loading, short.loading], [short.loading, plain.loaded + 2 * 2 ** 20 + 256]); // a piece of 2 MiB
  assertEquals(
    (await estimateMemory(MISTRAL, { dtype: "bfloat16", contextLength: 4096, batch: 3 })).cache,
    3 * plain.cache,
  );
  const four = await estimateMemory(MISTRAL, { quantization: nf4 });
  assertEquals(four.weights, plain.weights / 4);
});

const settings: [string, { dtype?: "float32" | "float16"; quantization?: BitsAndBytesConfig }][] = [
  ["float32", { dtype: "float32" }],
  ["float16", { dtype: "float16" }],
  ["int8", { dtype: "float16", quantization: int8 }],
  ["nf4", { dtype: "float16", quantization: nf4 }],
];

for (const [what, { dtype, quantization }] of settings) {
  Deno.test(`estimateMemory() says what a loaded model takes: ${what}`, async () => {
    const config = JSON.parse(await Deno.readTextFile(`${TINY}/config.json`));
    const before = device.pool.stats.bytesInUse;
    device.pool.resetPeak();
    using _model = await loadModel(TINY, { device, dtype, quantizationConfig: quantization });
    await device.synchronize();
    const took = device.pool.stats.bytesInUse - before;
    const { loaded, loading } = await estimateMemory(config, { dtype, quantization });
    assertEquals(loaded, took);
    assertClose("peak while loading", [device.pool.stats.peakBytes - before], [loading], { rtol: 0.05 });
  });
}

for (const path of [TINY, "models/tensaur-draft"]) {
  for (const dtype of ["float16", "float32"] as const) {
    Deno.test(`estimateMemory() is within 5 % of what loading and a prompt take: ${path} in ${dtype}`, async () => {
      const plan = await planModel(path, { dtype }), before = device.pool.stats.bytesInUse;
      device.pool.resetPeak();
      using model = await loadModel(path, { device, dtype });
      const loading = device.pool.stats.peakBytes;
      for (const tokens of [10, 100, 500]) {
        device.pool.resetPeak();
        const inputs = { inputIds: [Array<number>(tokens).fill(7)] };
        await generate(model, inputs, { maxNewTokens: 2, eosTokenId: null, doSample: false });
        const took = Math.max(loading, device.pool.stats.peakBytes) - before;
        const { total } = await estimateMemory(plan.json, { dtype, contextLength: tokens + 2 });
        assertClose(`total for ${tokens} tokens`, [total], [took], { rtol: 0.05 });
        assertEquals((await estimatePlan(plan, tokens + 2)).total, total);
      }
      await device.stream.settled();
    });
  }
}

for (const [what, quantization] of [["nf4", nf4], ["int8", int8]] as const) {
  Deno.test(`estimateMemory() is within 10 % of what a prompt takes whose weights are unpacked: ${what}`, async () => {
    const config = { ...TINY_CONFIGS.llama, ...WIDE, torch_dtype: "float16" } as const,
      before = device.pool.stats.bytesInUse;
    using folder = new TemporaryFolder();
    await writeModel(folder, config, { dtype: "F16" });
    using model = await loadModel(folder.path, { device, dtype: "float16", quantizationConfig: quantization });
    for (const tokens of [100, 400]) {
      device.pool.resetPeak();
      const inputs = { inputIds: [Array<number>(tokens).fill(7)] };
      await generate(model, inputs, { maxNewTokens: 2, eosTokenId: null, doSample: false });
      const took = device.pool.stats.peakBytes - before;
      const { loaded, cache, working } = await estimateMemory(config, { quantization, contextLength: tokens + 2 });
      assertClose(`${tokens} tokens`, [loaded + cache + working], [took], { rtol: 0.1 });
    }
    await device.stream.settled();
  });
}

const SIZES = {
  ...{ hidden_size: 128, n_embd: 128, word_embed_proj_dim: 128, intermediate_size: 384, ffn_dim: 384, vocab_size: 600 },
  ...{ head_dim: 32, max_position_embeddings: 512, n_positions: 512 },
};

for (const kind of ["gpt2", "opt", "gemma2", "mamba", "bert"] as const) {
  Deno.test(`estimateMemory() is within 5 % of what loading and a prompt take: ${kind}`, async () => {
    const config: Record<string, unknown> = { ...TINY_CONFIGS[kind] }, dtype = "float16";
    for (const [key, value] of Object.entries(SIZES)) if (key in config) config[key] = value;
    using folder = new TemporaryFolder();
    await writeModel(folder, config, { dtype: "F16" });
    const before = device.pool.stats.bytesInUse, inputs = { inputIds: [Array<number>(200).fill(7)] };
    device.pool.resetPeak();
    using model = await loadModel(folder.path, { device, dtype });
    if (kind === "bert") (await model.forward(inputs))[Symbol.dispose]();
    else await generate(model, inputs, { maxNewTokens: 2, eosTokenId: null, doSample: false });
    const took = device.pool.stats.peakBytes - before;
    const { total } = await estimateMemory({ ...config, torch_dtype: dtype }, { dtype, contextLength: 202 });
    assertClose("total", [total], [took], { rtol: 0.05 });
    await device.stream.settled();
  });
}

Deno.test("estimateMemory() refuses what is no size, and models that are not known", async () => {
  for (const options of [{ batch: 0 }, { contextLength: 1.5 }, { dtype: "int8" as never }]) {
    await assertRejects(() => estimateMemory(MISTRAL, options), ValueError, "Cannot estimate memory");
  }
  await assertRejects(() => estimateMemory({ model_type: "whale" }), NotSupportedError);
});
