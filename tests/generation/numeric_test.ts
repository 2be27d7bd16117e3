/** a weight that is not finite raises NumericError; it never becomes a token. */
import { assertRejects } from "@std/assert";
import { NumericError } from "../../src/errors.ts";
import { generate } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { openCheckpoint } from "../../src/weights/checkpoint.ts";
import { writeSafetensors } from "../../src/weights/save.ts";
import { testDevice } from "../helpers.ts";
import { embedded } from "./models.ts";

const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";

const device = await testDevice();
const source = embedded("tensaur-draft");

/** What stands in the place of one number, in a tensor of float32: 65,520 is the least that float16 does not hold. */
const POISONS = { NaN, infinity: Infinity, "a number over float16's largest": 65_520 };
type Poison = keyof typeof POISONS;

/** Writes the draft model into `dir` with one element of `name` replaced. */
async function poisoned(dir: string, name: string, poison: Poison): Promise<void> {
  for (const file of ["config.json", "generation_config.json"]) {
    await Deno.copyFile(`${source}/${file}`, `${dir}/${file}`);
  }
  using checkpoint = await openCheckpoint(source);
  const tensors = [];
  for (const info of checkpoint.tensors.values()) {
    const data = (await checkpoint.read(info.name)).slice();
    if (info.name !== name) {
      tensors.push({ ...info, data });
      continue;
    }
    const numbers = Float32Array.from(new Float16Array(data.buffer));
    numbers[3] = POISONS[poison];
    tensors.push({ ...info, dtype: "F32" as const, data: new Uint8Array(numbers.buffer) });
  }
  await writeSafetensors(`${dir}/model.safetensors`, tensors);
}

const matrices = ["self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"]; // kept as float16
const inLayers = (places: readonly string[]) =>
  [0, 1].flatMap((layer) => places.map((place) => `model.layers.${layer}.${place}.weight`));

// Not q_proj or k_proj: a score can become -infinity there, which only leaves its key out of the softmax.
const everyPlace = [...inLayers(["input_layernorm", "post_attention_layernorm", ...matrices]), "model.norm.weight"];
const all: [Poison, string][] = [
  ...everyPlace.map((name): [Poison, string] => ["NaN", name]),
  ...everyPlace.map((name): [Poison, string] => ["infinity", name]),
  ...inLayers(matrices).map((name): [Poison, string] => ["a number over float16's largest", name]),
];
const cases = FULL ? all : all.filter((_, i) => i % 3 === 0);

for (const [poison, name] of cases) {
  Deno.test(`${poison} in ${name} raises NumericError, greedy and sampled`, async () => {
    const dir = await Deno.makeTempDir();
    try {
      await poisoned(dir, name, poison);
      using model = await loadModel(dir, { device, dtype: "float16" });
      for (const doSample of [false, true]) {
        await assertRejects(
          () => generate(model, { inputIds: [[2043, 510, 300]] }, { maxNewTokens: 3, doSample, seed: 1 }),
          NumericError,
          "Cannot choose token 1 of row 0 as its logits must be finite",
        );
      }
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  });
}

Deno.test("a NaN raises NumericError in beam search, contrastive search and lookup too", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await poisoned(dir, "model.norm.weight", "NaN");
    using model = await loadModel(dir, { device });
    const strategies = [{ numBeams: 2 }, { penaltyAlpha: 0.6, topK: 4 }, { promptLookupNumTokens: 3 }];
    for (const strategy of strategies) {
      const options = { maxNewTokens: 3, doSample: false, ...strategy };
      await assertRejects(() => generate(model, { inputIds: [[2043, 510, 300]] }, options), NumericError);
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
