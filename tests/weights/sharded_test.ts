/** Matrices beyond the largest binding are split behind Linear and Embedding: a device with a small limit shows it. */
import { assert, assertEquals } from "@std/assert";
import type { Device } from "../../src/gpu/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { argmax } from "../../src/ops/argmax.ts";
import { zeros } from "../../src/ops/zeros.ts";
import { shardsOf } from "../../src/quantization/bytes.ts";
import { DenseLinear, packOutputs } from "../../src/quantization/dense.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";
import { TINY_CONFIGS, writeModel } from "../models/tiny_model.ts";
import { TemporaryFolder } from "./fixture.ts";

const device = await testDevice();
const limits = { ...device.limits, maxStorageBufferBindingSize: 3000 };
const small: Device = Object.create(device, { limits: { value: limits } }); // what the loader looks at

async function run(on: Device, path: string, dtype: "float32" | "float16") {
  using model = await loadModel(path, { device: on, dtype });
  const before = device.stream.counters.dispatches;
  using output = await model.forward({ inputIds: [[3, 60, 0, 41, 17], [59, 7, 20, 39, 1]] });
  return { logits: await output.logits!.read(), kernels: device.stream.counters.dispatches - before };
}

for (const kind of ["llama", "qwen2", "gpt2", "bert"] as const) { // untied and tied, [out, in] and [in, out], biases
  for (const dtype of ["float32", "float16"] as const) {
    Deno.test(`${kind} ${dtype} gives the same logits with weights in several buffers`, async () => {
      using folder = new TemporaryFolder();
      await writeModel(folder, { ...TINY_CONFIGS[kind], vocab_size: 131 });
      const whole = await run(device, folder.path, dtype);
      const before = device.pool.stats.bytesInUse;
      const split = await run(small, folder.path, dtype);
      assertClose("logits", split.logits, whole.logits, { rtol: 1e-4, atol: 1e-5 });
      assert(split.kernels > whole.kernels + 2, `${split.kernels} kernels, whole ${whole.kernels}`);
      assertEquals(device.pool.stats.bytesInUse, before); // each part was given back
    });
  }
}

Deno.test({
  name: "a head of 151,936 x 896 float16 runs where a binding is at most 128 MiB, and its rows are embeddings",
  ignore: Deno.env.get("TENSAUR_TEST_FULL") !== "1", // 272 MB
  async fn() {
    const [V, D] = [151_936, 896], token = 140_003;
    const on: Device = Object.create(device, {
      limits: { value: { ...limits, maxStorageBufferBindingSize: 128 * 2 ** 20 } },
    });
    const parts = shardsOf(V, D, "float16", on.limits.maxStorageBufferBindingSize).map((shard) => ({
      ...shard,
      w: zeros(device, [D, shard.count], "float16"),
    }));
    using row = tensor(device, randn(D).map((x) => Math.round(64 * x) / 64), [1, D]);
    packOutputs(row, parts, { transpose: true, output: token });
    using head = new DenseLinear(parts, D, V);
    using y = head.forward(row);
    using best = argmax(y);
    assertEquals([...await best.read()], [token]);
    using embedded = head.embed(tensor(device, [token, 5], [2], "uint32"));
    assertClose("embedding", await embedded.read(), [...await row.read(), ...Array(D).fill(0)]);
  },
});

Deno.test("shardsOf() covers all outputs in parts of whole vec4s that fit", () => {
  const MiB = 2 ** 20;
  for (
    const [n, width, dtype, limit, parts] of [
      [151936, 896, "float32", 128 * MiB, 5],
      [151936, 896, "float16", 128 * MiB, 3],
      [151936, 896, "float16", 2 ** 31 - 4, 1],
      [7, 3, "float32", 1000, 1],
      [7, 3, "float32", 7 * 3 * 4, 2], // its padded columns do not fit
      [1, 1, "float16", 4, 1],
    ] as const
  ) {
    const shards = shardsOf(n, width, dtype, limit);
    assertEquals(shards.length, parts);
    let next = 0;
    for (const { first, count } of shards) {
      assert(first === next && first % 4 === 0 && count > 0);
      assert(Math.ceil(count / 4) * 4 * width * (dtype === "float16" ? 2 : 4) <= limit || count <= 4);
      next += count;
    }
    assertEquals(next, n);
  }
});
