/** What loading a large checkpoint costs in memory: measured in a process of its own, where nothing else has run. */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";
import type { ConfigJson } from "../../src/models/config.ts";
import { writeSafetensors } from "../../src/weights/save.ts";
import { randn } from "../helpers.ts";
import { bytesOf, type StoredDtype, tensorShapes, TINY_CONFIGS, writeModel } from "../models/tiny_model.ts";
import { TemporaryFolder } from "./fixture.ts";
import type { Cost } from "./load_memory_child.ts";

const full = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const MB = 1e6;
const cases: [megabytes: number, dtype: StoredDtype][] = full ? [[500, "F32"], [500, "F16"]] : [[120, "F32"]];

for (const [megabytes, dtype] of cases) {
  Deno.test({
    name:
      `loadModel() of ${megabytes} MB in ${dtype} raises peak memory by 1.3 times that, the JS heap by 64 MB, at most`,
    ignore: Deno.build.os !== "linux",
    async fn() {
      using small = new TemporaryFolder();
      using large = new TemporaryFolder();
      await writeModel(small, TINY_CONFIGS.llama, { dtype });
      const size = await writeLargeModel(large, megabytes, dtype);
      const { peak, heap, weights, load, read } = await costOf(small.path, large.path);
      const rate = (ms: number) => `${(size / MB / ms * 1000).toFixed(0)} MB/s`;
      console.log(
        `${(size / MB).toFixed(0)} MB: peak memory +${(peak / size).toFixed(2)} times that, JS heap +${
          (heap / MB).toFixed(1)
        } MB, loaded at ${rate(load)}, plain read ${rate(read)}`,
      );
      assert(Math.abs(size - megabytes * MB) < 0.2 * megabytes * MB, `${size} bytes were written`);
      assert(weights > size && weights < 1.01 * size, `${weights} bytes on the GPU`); // so the GPU has all of it
      assert(peak < 1.3 * size, `peak memory rose by ${peak} for ${size}`);
      assert(heap < 64 * MB, `the JS heap rose by ${heap}`);
    },
  });
}

/** Writes a Llama of about that size, chunk by chunk; returns the file's bytes. */
async function writeLargeModel(folder: TemporaryFolder, megabytes: number, dtype: StoredDtype): Promise<number> {
  const bytes = dtype === "F32" ? 4 : 2, D = 768;
  const json: ConfigJson = {
    model_type: "llama",
    architectures: ["LlamaForCausalLM"],
    vocab_size: 2048,
    hidden_size: D,
    intermediate_size: 4 * D,
    num_hidden_layers: Math.round((megabytes * MB / bytes - 2 * 2048 * D) / (16 * D * D)),
    num_attention_heads: 12,
  };
  folder.write("config.json", json);
  const block = bytesOf(randn(2 ** 18), dtype);
  async function* chunks(length: number): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < length; at += block.length) yield block.subarray(0, Math.min(block.length, length - at));
  }
  const tensors = [...await tensorShapes(json)].map(([name, shape]) => ({
    name,
    dtype,
    shape,
    data: chunks(bytes * shape.reduce((product, n) => product * n, 1)),
  }));
  await writeSafetensors(`${folder.path}/model.safetensors`, tensors);
  return (await Deno.stat(`${folder.path}/model.safetensors`)).size;
}

async function costOf(small: string, large: string): Promise<Cost> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--allow-all",
      "--no-check",
      fromFileUrl(import.meta.resolve("./load_memory_child.ts")),
      small,
      large,
    ],
    stdout: "piped",
    stderr: "inherit",
  });
  const { code, stdout } = await child.output();
  assertEquals(code, 0);
  return JSON.parse(new TextDecoder().decode(stdout));
}
