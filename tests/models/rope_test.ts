import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { ModelFormatError, NotSupportedError, type TensaurError } from "../../src/errors.ts";
import { ropeConfig, ropeFrequencies, RopeTable } from "../../src/models/rope.ts";
import { tidy } from "../../src/tensor/mod.ts";
import { assertClose, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor, hasReference, referencePath } from "../reference.ts";

const device = await testDevice();
type Json = Record<string, unknown>;

interface Vector {
  head_dim: number;
  max_position_embeddings: number;
  rope_parameters: Json;
  seq_len: number | null;
  inv_freq: number[];
  attention_factor: number;
}

const vectors = "../design/semantics_vectors.json";
if (hasReference(vectors)) {
  const { rope } = JSON.parse(await Deno.readTextFile(referencePath(vectors))) as { rope: Record<string, Vector> };
  for (const [name, want] of Object.entries(rope)) {
    Deno.test(`ropeFrequencies() gives transformers' ${name} from either form of config.json`, () => {
      const { rope_theta, ...scaling } = want.rope_parameters;
      const lengths = { max_position_embeddings: want.max_position_embeddings };
      const forms = [{ ...lengths, rope_parameters: want.rope_parameters }, {
        ...lengths,
        rope_theta,
        rope_scaling: scaling,
      }];
      for (const config of forms) {
        const got = ropeFrequencies(ropeConfig(config, want.head_dim), want.seq_len ?? 1);
        assertClose("invFreq", got.invFreq, want.inv_freq, { rtol: 1e-6, atol: 0 });
        assertClose("attentionFactor", [got.attentionFactor], [want.attention_factor], { rtol: 1e-6, atol: 0 });
      }
    });
  }
} else Deno.test({ name: `skipped: ${vectors} is not there`, ignore: true, fn() {} });

interface RopeCase {
  params: Json & { head_dim: number; max_position_embeddings: number; seq_len: number | null };
  inputs: { position_ids: number[][] };
  outputs: { inv_freq: GoldenTensor; cos: GoldenTensor; sin: GoldenTensor };
}

for (const { name, params, inputs, outputs } of await goldenCases<RopeCase>("data/ops/rope", "rope")) {
  Deno.test(`RopeTable holds the cosines and sines of golden ${name}`, async () => {
    const { head_dim, max_position_embeddings, seq_len, ...rope_parameters } = params;
    const config = ropeConfig({ max_position_embeddings, rope_parameters }, head_dim);
    const { invFreq } = ropeFrequencies(config, seq_len ?? 1);
    assertClose("invFreq", invFreq, outputs.inv_freq.data as Float32Array, { rtol: 1e-6, atol: 0 });
    using rope = new RopeTable(device, config);
    // the goldens use one set of frequencies for all positions, so take the table that was made for seq_len
    const table = rope.table(seq_len ?? 251);
    const rows = await table.read(), half = config.rotaryDim / 2;
    for (const [i, position] of inputs.position_ids.flat().entries()) {
      if (position >= table.shape[0]!) continue;
      for (const [part, want] of [outputs.cos, outputs.sin].entries()) {
        const got = rows.subarray((2 * position + part) * half, (2 * position + part + 1) * half);
        const row = (want.data as Float32Array).subarray(i * half, (i + 1) * half);
        assertClose(`position ${position}`, got as Float32Array, row, { rtol: 3e-5, atol: 3e-5 });
      }
    }
  });
}

const configs: [name: string, config: Json, headDim: number, want: Json][] = [
  ["nothing", {}, 64, { ropeType: "default", ropeTheta: 10_000, rotaryDim: 64, maxPositionEmbeddings: Infinity }],
  ["rope_scaling null", { rope_theta: 5e5, rope_scaling: null, partial_rotary_factor: null }, 8, { ropeTheta: 5e5 }],
  ["GPT-NeoX's names", { rotary_pct: 0.25, rotary_emb_base: 2e4 }, 64, { rotaryDim: 16, ropeTheta: 2e4 }],
  ["GPT-J's rotary_dim", { rotary_dim: 64 }, 256, { rotaryDim: 64 }],
  ["the old key type", { rope_scaling: { type: "linear", factor: 4 } }, 64, { ropeType: "linear", factor: 4 }],
  [
    "a yarn factor of null",
    {
      max_position_embeddings: 640,
      rope_parameters: { rope_type: "yarn", factor: null, original_max_position_embeddings: 64 },
    },
    16,
    { factor: 10, attentionFactor: 0.1 * Math.log(10) + 1, betaFast: 32, betaSlow: 1, truncate: true },
  ],
  [
    "Phi-3's lengths beside the scaling, and its first name",
    {
      max_position_embeddings: 128,
      original_max_position_embeddings: 32,
      rope_scaling: { type: "su", short_factor: [1, 1], long_factor: [1, 2] },
    },
    4,
    {
      ropeType: "longrope",
      originalMaxPositionEmbeddings: 32,
      attentionFactor: Math.sqrt(1 + Math.log(4) / Math.log(32)),
    },
  ],
];
for (const [name, config, headDim, want] of configs) {
  Deno.test(`ropeConfig() reads ${name}`, () => {
    const got: Json = { ...ropeConfig(config, headDim) };
    for (const key in want) assertEquals(got[key], want[key], key);
  });
}

Deno.test("ropeConfig() reads settings that differ between layers, in both forms", () => {
  const five = {
    rope_parameters: {
      full_attention: { rope_type: "linear", factor: 8, rope_theta: 1e6 },
      sliding_attention: { rope_type: "default", rope_theta: 1e4 },
    },
  };
  const four = { rope_theta: 1e6, rope_local_base_freq: 1e4, rope_scaling: { rope_type: "linear", factor: 8 } };
  for (const layerType of ["full_attention", "sliding_attention"]) {
    assertEquals(ropeConfig(four, 16, layerType), ropeConfig(five, 16, layerType));
  }
  assertEquals(ropeConfig(five, 16, "sliding_attention").ropeType, "default");
  assertThrows(() => ropeConfig(five, 16), ModelFormatError, "one of full_attention, sliding_attention");
});

const refused: [config: Json, error: new (message: string) => TensaurError, part: string][] = [
  [{ rope_scaling: { type: "mystery" } }, NotSupportedError, "default, linear, dynamic, yarn, longrope, llama3"],
  [{ rope_scaling: { type: "llama3", factor: 8 } }, ModelFormatError, "lacks low_freq_factor, high_freq_factor, orig"],
  [{ rope_scaling: { type: "linear" } }, ModelFormatError, "it lacks factor"],
  [
    { rope_scaling: { type: "linear", factor: "4" } },
    ModelFormatError,
    'factor must be a positive number: current value is "4"',
  ],
  [{ rope_scaling: [] }, ModelFormatError, "must be an object"],
  [{ rope_theta: 0 }, ModelFormatError, "rope_theta"],
  [{ partial_rotary_factor: 0.2 }, ModelFormatError, "even number from 2 to 16: current value is 3"],
  [
    {
      max_position_embeddings: 64,
      rope_scaling: { type: "longrope", factor: 2, short_factor: [1], long_factor: [1] },
    },
    ModelFormatError,
    "short_factor must be 8 positive numbers: current value is [1]",
  ],
];
for (const [config, error, part] of refused) {
  Deno.test(`ropeConfig() refuses ${JSON.stringify(config)}`, () => {
    assertThrows(() => ropeConfig(config, 16), error, part);
  });
}

Deno.test("RopeTable grows by doubling, keeps what it handed out, and outlives a tidy()", async () => {
  using rope = new RopeTable(device, ropeConfig({ max_position_embeddings: 1000 }, 8));
  const first = tidy(device, () => void rope.table(1)) ?? rope.table(1);
  assertEquals(first.shape, [256, 2, 4]);
  assertStrictEquals(rope.table(256), first);
  assertEquals(rope.table(257).shape, [512, 2, 4]);
  assertEquals(rope.table(513).shape, [1000, 2, 4], "no further than the model reaches");
  assertEquals(rope.table(1001).shape, [1001, 2, 4], "unless asked");
  const before = await first.read(), after = await rope.table(2).read();
  assertEquals(after.subarray(0, before.length), before);
});

Deno.test("RopeTable holds exact angles where f32 has lost them", async () => {
  using rope = new RopeTable(device, ropeConfig({ max_position_embeddings: 1 }, 4));
  const rows = await rope.table(100_001).read();
  const want = [1, 0.01].map((f) => 100_000 * f);
  assertClose("row", rows.subarray(-4) as Float32Array, [...want.map(Math.cos), ...want.map(Math.sin)], { rtol: 1e-6 });
});

Deno.test("RopeTable: dynamic scaling changes with each length beyond the model's, and goes back", async () => {
  const scaling = { rope_type: "dynamic", factor: 2 };
  using rope = new RopeTable(device, ropeConfig({ max_position_embeddings: 300, rope_scaling: scaling }, 8));
  const lengths = [10, 400, 401, 300];
  const rows = [];
  for (const length of lengths) rows.push((await rope.table(length).read()).slice(8, 16));
  for (const [i, length] of lengths.entries()) {
    const { invFreq } = ropeFrequencies(rope.rope, length);
    assertClose(`length ${length}`, rows[i]!, [...invFreq.map(Math.cos), ...invFreq.map(Math.sin)]);
  }
  assertEquals(rows[0], rows[3]);
  assertEquals([rope.stable(300), rope.stable(301), rope.stable(400, 400)], [true, false, false]);
});

Deno.test("RopeTable: longrope has one table up to the original length and one beyond", async () => {
  const rope_scaling = { type: "longrope", factor: 4, short_factor: [1, 1], long_factor: [2, 4] };
  const config = { max_position_embeddings: 128, original_max_position_embeddings: 32, rope_scaling };
  using rope = new RopeTable(device, ropeConfig(config, 4));
  const [short, long] = [rope.table(32), rope.table(33)];
  assertStrictEquals(rope.table(31), short);
  assertStrictEquals(rope.table(100), long);
  const scale = rope.rope.attentionFactor;
  assertClose("short", (await short.read()).subarray(4, 6) as Float32Array, [
    Math.cos(1) * scale,
    Math.cos(0.01) * scale,
  ]);
  assertClose("long", (await long.read()).subarray(4, 6) as Float32Array, [
    Math.cos(0.5) * scale,
    Math.cos(0.0025) * scale,
  ]);
  assertEquals([rope.stable(32), rope.stable(33), rope.stable(128, 33)], [true, false, true]);
});
