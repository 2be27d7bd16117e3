/** How many kernels a layer takes: each costs a driver on the CPU tens of microseconds, and any host some. */
import { assert, assertEquals } from "@std/assert";
import { StaticCache } from "../../src/cache/mod.ts";
import type { ConfigJson } from "../../src/models/config.ts";
import { loadModel } from "../../src/models/mod.ts";
import { FAMILIES, familyOf } from "../../src/models/registry.ts";
import { BitsAndBytesConfig, type BitsAndBytesOptions } from "../../src/quantization/mod.ts";
import type { Device } from "../../src/gpu/mod.ts";
import { testDevice } from "../helpers.ts";
import { TemporaryFolder } from "../weights/fixture.ts";
import { TINY_CONFIGS, writeModel } from "./tiny_model.ts";

const device = await testDevice(), plain = await testDevice({ features: { subgroups: false } });
// widths that a model has: heads of 16, halves of the MLP that divide by 4
const WIDTHS: Readonly<Record<string, number>> = {
  ...{ hidden_size: 64, n_embd: 64, word_embed_proj_dim: 64, intermediate_size: 96, n_inner: 96, ffn_dim: 96 },
  ...{ num_attention_heads: 4, n_head: 4, num_key_value_heads: 2, head_dim: 16 },
};
const MOST = { decoder: 9, encoder: 7 };
const GOAL: Readonly<Record<string, number>> = {
  llama: 5,
  mistral: 5,
  qwen2: 5,
  qwen3: 6,
  gpt2: 7,
  opt: 7,
  bert: 7,
  gemma2: 7,
  mamba: 7,
};

/** Kernels of a forward pass of each of `runs` tokens, one after the other through one cache. */
async function kernels(
  kind: keyof typeof TINY_CONFIGS,
  layers: number,
  runs: readonly number[],
  { quantization, widths = WIDTHS, on = device }: {
    quantization?: BitsAndBytesOptions;
    widths?: Readonly<Record<string, number>>;
    on?: Device;
  } = {},
): Promise<number[]> {
  using folder = new TemporaryFolder();
  const tiny: ConfigJson = TINY_CONFIGS[kind];
  const wide = Object.entries(tiny).map(([key, value]) => [key, widths[key] ?? value]);
  await writeModel(folder, { ...Object.fromEntries(wide), num_hidden_layers: layers, n_layer: layers });
  const quantizationConfig = quantization && new BitsAndBytesConfig(quantization);
  using model = await loadModel(folder.path, { device: on, dtype: "float16", quantizationConfig });
  using cache = kind === "mamba" ? model.newCache() : new StaticCache({ maxCacheLen: 32, dtype: "float16" });
  const counts: number[] = [];
  for (const tokens of runs) {
    const before = on.stream.counters.dispatches;
    const inputs = { inputIds: [Array.from({ length: tokens }, (_, i) => i + 1)] };
    using _ = await model.forward(inputs, kind === "bert" ? {} : { cache });
    counts.push(on.stream.counters.dispatches - before);
  }
  return counts;
}

for (const kind of Object.keys(TINY_CONFIGS) as (keyof typeof TINY_CONFIGS)[]) {
  const encoder = kind === "bert", most = encoder ? MOST.encoder : MOST.decoder;
  Deno.test(`a layer of ${kind} takes at most ${most} kernels`, async () => {
    // a prompt of few rows, whose norms are in the linear kernels, then single tokens; an encoder has no such norms
    const runs = encoder ? [8, 1] : [4, 1, 1];
    const two = await kernels(kind, 2, runs), four = await kernels(kind, 4, runs);
    const each = four.map((n, i) => (n - two[i]!) / 2);
    assert(each.every((n) => n > 3 && n <= most), `kernels a layer: ${each}`);
    if (GOAL[kind]) assertEquals(each.at(-1), GOAL[kind]);
  });
}

const NF4 = { loadIn4bit: true, bnb4bitQuantType: "nf4" } as const, INT8 = { loadIn8bit: true } as const;

const eights = device.isCpu && device.features.subgroups ? [["llama", INT8, 8] as const] : []; // others quantize x apart
for (const [kind, quantization, bits] of [["llama", NF4, 4], ["gpt2", NF4, 4], ...eights] as const) {
  Deno.test(`a layer of ${kind} takes no more kernels in ${bits} bits`, async () => {
    const runs = [4, 1, 1];
    const two = await kernels(kind, 2, runs, { quantization }), four = await kernels(kind, 4, runs, { quantization });
    assertEquals(four.at(-1)! - two.at(-1)!, 2 * GOAL[kind]!);
    assert(four[0]! - two[0]! <= 2 * MOST.decoder, `${four[0]! - two[0]!} kernels of two layers`);
  });
}

// as wide as bert-base
const BASE = { ...WIDTHS, hidden_size: 768, intermediate_size: 3072, num_attention_heads: 12, num_key_value_heads: 12 };
const wide: [kind: "bert" | "llama", on: Device, rows: number, each: number][] = [
  ["bert", device, 8, 7],
  ["bert", plain, 8, 7],
  ["llama", device, 1, 5],
  ["llama", device, 5, 8], // the norms of more than four rows are kernels
  ["llama", plain, 1, 5],
  ["llama", plain, 8, 8],
];

for (const [kind, on, rows, each] of wide) {
  Deno.test({
    name: `a layer of ${kind} of 768 and 3,072 numbers takes ${each} kernels, ${rows} rows${
      on === plain ? ", plain" : ""
    }`,
    // writes large models and compiles for both rungs: a minute
    ignore: Deno.env.get("TENSAUR_TEST_FULL") !== "1" || (on === device && !device.features.subgroups),
    async fn() {
      const options = { widths: { ...BASE, head_dim: 64 }, on };
      const one = await kernels(kind, 1, [rows], options), two = await kernels(kind, 2, [rows], options);
      assertEquals(two[0]! - one[0]!, each);
    },
  });
}

Deno.test("every family of one stack is counted", () => {
  const counted = new Set(Object.values<ConfigJson>(TINY_CONFIGS).map(familyOf));
  assertEquals(
    FAMILIES.filter((family) => !family.encoder && !counted.has(family)).map(({ modelTypes }) => modelTypes),
    [],
  );
});
