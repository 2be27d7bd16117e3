/** a weight that is not finite raises NumericError; it never becomes a token. */
import { assertRejects } from "@std/assert";
import { NumericError } from "../../src/errors.ts";
import { generate } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { openCheckpoint } from "../../src/weights/checkpoint.ts";
import { writeSafetensors } from "../../src/weights/save.ts";
import { testDevice } from "../helpers.ts";
import { embedded } from "./models.ts";

const device = await testDevice();
const source = embedded("tensaur-draft");
const NAN = 0x7e00, INFINITY = 0x7c00; // as float16

/** Writes the draft model into `dir` with one element of `name` replaced. */
async function poisoned(dir: string, name: string, bits: number): Promise<void> {
  for (const file of ["config.json", "generation_config.json"]) {
    await Deno.copyFile(`${source}/${file}`, `${dir}/${file}`);
  }
  using checkpoint = await openCheckpoint(source);
  const tensors = [];
  for (const info of checkpoint.tensors.values()) {
    const data = (await checkpoint.read(info.name)).slice();
    if (info.name === name) new Uint16Array(data.buffer)[3] = bits;
    tensors.push({ ...info, data });
  }
  await writeSafetensors(`${dir}/model.safetensors`, tensors);
}

const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";

const gatePlaces = [
  "model.layers.0.input_layernorm.weight",
  "model.layers.0.self_attn.v_proj.weight",
  "model.layers.1.self_attn.o_proj.weight",
  "model.layers.1.mlp.down_proj.weight",
  "model.norm.weight",
];

// Not q_proj or k_proj: a score can become -infinity there, which only leaves its key out of the softmax.
const everyPlace = [0, 1].flatMap((layer) =>
  ["input_layernorm", "self_attn.v_proj", "self_attn.o_proj", "post_attention_layernorm", "mlp.down_proj"].map((
    place,
  ) => `model.layers.${layer}.${place}.weight`)
);
const places = FULL ? [...everyPlace, "model.norm.weight"] : gatePlaces;

for (const name of places) {
  for (const [what, bits] of [["NaN", NAN], ["infinity", INFINITY]] as const) {
    Deno.test(`a ${what} in ${name} raises NumericError, greedy and sampled`, async () => {
      const dir = await Deno.makeTempDir();
      try {
        await poisoned(dir, name, bits);
        using model = await loadModel(dir, { device });
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
}
