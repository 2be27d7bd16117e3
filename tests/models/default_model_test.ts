/** The models that come with the repository, against transformers: these cases need no other data. */
import { assertEquals } from "@std/assert";
import { loadModel } from "../../src/models/mod.ts";
import recorded from "../../models/goldens.json" with { type: "json" };
import { testDevice } from "../helpers.ts";
import { argmaxOf, assertWithin, chunked } from "./fixture.ts";

interface Golden {
  sha256: string;
  input_ids: number[][];
  float32: Logits;
  bfloat16: Logits;
}

interface Logits {
  largest: number;
  top: number[];
  logits: number[][][];
}

const root = new URL("../../", import.meta.url);
const device = await testDevice();
const { stride, models }: { stride: number; models: Record<string, Golden> } = JSON.parse(
  await Deno.readTextFile(new URL("tests/data/default_models.json", root)),
);

for (const [name, golden] of Object.entries(models)) {
  const path = new URL(`models/${name}`, root).pathname;

  Deno.test(`tests/data/default_models.json belongs to models/${name}`, async () => {
    const file = await Deno.readFile(`${path}/model.safetensors`);
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", file)).toHex();
    assertEquals(hash, golden.sha256, "the model has changed: run tools/make_test_goldens.py");
  });

  // float16 is the file's own dtype, so float16 and float32 hold the same weights.
  for (const dtype of ["float32", "float16", "bfloat16"] as const) {
    Deno.test(`Model.forward() gives transformers' logits: models/${name} in ${dtype}`, async () => {
      const rounds = device.features.subgroupMatrix && dtype !== "float32"; // activations, to float16
      const want = dtype === "bfloat16" ? golden.bfloat16 : golden.float32;
      using model = await loadModel(path, { device, dtype });
      using output = await model.forward({ inputIds: golden.input_ids });
      const [, S = 0, V = 0] = output.logits!.shape;
      const all = chunked(await output.logits!.read(), V);
      for (const [b, ids] of golden.input_ids.entries()) {
        const rows = all.slice(b * S, b * S + ids.length);
        assertEquals(argmaxOf(rows.at(-1)!), want.top[b]);
        const got = rows.flatMap((row) => row.filter((_, v) => v % stride === 0));
        const golden = [...want.logits[b]!.flat(), want.largest];
        assertWithin(`row ${b}`, [...got, want.largest], golden, rounds ? 5e-3 : 1e-4);
      }
    });
  }

  Deno.test(`Model.forward() gives the first five logits of models/${name}`, async () => {
    using model = await loadModel(path, { device, dtype: "float32" });
    for (const { text, ids, first_top5: want } of recorded[name as "tensaur-tiny" | "tensaur-draft"].greedy) {
      using output = await model.forward({ inputIds: [ids] });
      const last = chunked(await output.logits!.read(), model.sizes.vocabSize).at(-1)!;
      const top = [...last.keys()].sort((a, b) => last[b]! - last[a]!).slice(0, 5);
      assertEquals(top, want.map(([id]) => id), text);
      assertWithin(text, top.map((id) => last[id]!), want.map(([, logit]) => logit!), 1e-4);
    }
  });
}
