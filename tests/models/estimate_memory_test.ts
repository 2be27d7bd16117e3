import { assert, assertEquals, assertRejects } from "@std/assert";
import { NotSupportedError, ValueError } from "../../src/errors.ts";
import { estimateMemory, loadModel } from "../../src/models/mod.ts";
import { BitsAndBytesConfig } from "../../src/quantization/mod.ts";
import { testDevice } from "../helpers.ts";

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
    using _model = await loadModel(TINY, { device, dtype, quantizationConfig: quantization });
    await device.synchronize();
    const took = device.pool.stats.bytesInUse - before;
    const { loaded } = await estimateMemory(config, { dtype, quantization });
    assertEquals(loaded, took);
  });
}

Deno.test("estimateMemory() refuses what is no size, and models that are not known", async () => {
  for (const options of [{ batch: 0 }, { contextLength: 1.5 }, { dtype: "int8" as never }]) {
    await assertRejects(() => estimateMemory(MISTRAL, options), ValueError, "Cannot estimate memory");
  }
  await assertRejects(() => estimateMemory({ model_type: "whale" }), NotSupportedError);
});
