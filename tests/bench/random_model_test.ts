import { assertEquals } from "@std/assert";
import { SHAPES, writeRandomModel } from "../../bench/random_model.ts";
import { generate, loadModel } from "../../mod.ts";
import { TemporaryFolder } from "../weights/fixture.ts";

Deno.test("writeRandomModel() writes a model that loads and generates finite logits", async () => {
  using folder = new TemporaryFolder();
  const bytes = await writeRandomModel(`${folder.path}/tiny`, SHAPES.tiny);
  using model = await loadModel(`${folder.path}/tiny`, { dtype: "float16" });
  assertEquals(model.sizes.vocabSize, SHAPES.tiny.vocab_size);
  assertEquals(bytes > 2 * 1024 * 256, true);
  const inputs = { inputIds: [[1, 2, 3]] }, o = { doSample: false, eosTokenId: null, maxNewTokens: 4 } as const;
  using output = await model.forward(inputs);
  assertEquals((await output.logits!.read()).every((x) => Number.isFinite(x)), true);
  assertEquals((await generate(model, inputs, o)).sequences[0]?.length, 7);
});
