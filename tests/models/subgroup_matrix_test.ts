/** The embedded model by subgroup matrices, where Dawn has them, beside the same without. */
import { assert, assertEquals } from "@std/assert";
import { loadModel } from "../../src/models/mod.ts";
import { matrixDevice, testDevice } from "../helpers.ts";
import { assertWithin } from "./fixture.ts";

const path = new URL("../../models/tensaur-tiny", import.meta.url).pathname;
const device = await matrixDevice();

if (!device) Deno.test("skipped: subgroup matrices, as Dawn finds none here", () => {});

for (const dtype of device ? ["float16", "bfloat16"] as const : []) {
  Deno.test(`tensaur-tiny in ${dtype} has the logits by subgroup matrices that it has without`, async () => {
    await using plain = await testDevice({ provider: "dawn", features: { subgroupMatrix: false } });
    const inputIds = [5, 7].map((step) => Array.from({ length: 41 }, (_, i) => 3 + step * i % 500));
    const attentionMask = [0, 34].map((padded) => inputIds[0]!.map((_, i) => i < padded ? 0 : 1));
    const kernels = new Set<string>();
    device!.kernels.onCompile = (name) => kernels.add(name.split(" ")[0]!);
    const [got, want] = await Promise.all([device!, plain].map(async (on) => {
      using model = await loadModel(path, { device: on, dtype });
      using output = await model.forward({ inputIds, attentionMask });
      return await output.logits!.read() as Float32Array;
    }));
    assert(kernels.has("matmul_subgroup_matrix"));
    assertEquals(got!.length, want!.length);
    assertWithin("logits", got!, want!, 5e-3);
  });
}
