/** The models that come with the repository, against transformers: these cases need no other data. */
import { assertEquals } from "@std/assert";
import { loadModel } from "../../src/models/mod.ts";
import { testDevice } from "../helpers.ts";
import { hasReference, referencePath } from "../reference.ts";
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
      const want = dtype === "bfloat16" ? golden.bfloat16 : golden.float32;
      using model = await loadModel(path, { device, dtype });
      using output = await model.forward({ inputIds: golden.input_ids });
      const [, S = 0, V = 0] = output.logits!.shape;
      const all = chunked(await output.logits!.read(), V);
      for (const [b, ids] of golden.input_ids.entries()) {
        const rows = all.slice(b * S, b * S + ids.length);
        assertEquals(argmaxOf(rows.at(-1)!), want.top[b]);
        const got = rows.flatMap((row) => row.filter((_, v) => v % stride === 0));
        assertWithin(`row ${b}`, [...got, want.largest], [...want.logits[b]!.flat(), want.largest], 1e-4);
      }
    });
  }

  const goldens = "../default_model/goldens.json";
  if (!hasReference(goldens)) continue;
  const reference = JSON.parse(await Deno.readTextFile(referencePath(goldens)))[name] as {
    greedy: { text: string; ids: number[]; first_top5: [id: number, logit: number][] }[];
  };
  const sameModel = await sameFile(
    `${path}/model.safetensors`,
    referencePath(`../default_model/${name}/model.safetensors`),
  );

  Deno.test({
    name: `${
      sameModel ? "" : "skipped: another version: "
    }Model.forward() gives the first five logits of models/${name}`,
    ignore: !sameModel,
    async fn() {
      using model = await loadModel(path, { device, dtype: "float32" });
      for (const { text, ids, first_top5: want } of reference.greedy) {
        using output = await model.forward({ inputIds: [ids] });
        const last = chunked(await output.logits!.read(), model.sizes.vocabSize).at(-1)!;
        const top = [...last.keys()].sort((a, b) => last[b]! - last[a]!).slice(0, 5);
        assertEquals(top, want.map(([id]) => id), text);
        assertWithin(text, top.map((id) => last[id]!), want.map(([, logit]) => logit), 1e-4);
      }
    },
  });
}

async function sameFile(a: string, b: string): Promise<boolean> {
  try {
    const [x, y] = await Promise.all([Deno.readFile(a), Deno.readFile(b)]);
    return x.length === y.length && x.every((byte, i) => byte === y[i]);
  } catch {
    return false;
  }
}
