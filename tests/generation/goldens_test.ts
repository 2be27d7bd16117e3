/** The embedded models against PyTorch: 60 greedy tokens after 12 prompts (`models/recipe/goldens.py` wrote them). */
import { assertEquals } from "@std/assert";
import { generate } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import goldens from "../../models/goldens.json" with { type: "json" };
import { testDevice } from "../helpers.ts";
import { embedded } from "./models.ts";

const device = await testDevice();

for (const name of ["tensaur-tiny", "tensaur-draft"] as const) {
  Deno.test(`${name} in float32 gives its ${goldens[name].greedy.length} goldens`, async () => {
    using model = await loadModel(embedded(name), { device, dtype: "float32" });
    for (const { text, ids, continuation_ids } of goldens[name].greedy) {
      const options = { maxNewTokens: continuation_ids.length, doSample: false, eosTokenId: null };
      const { sequences } = await generate(model, { inputIds: [ids] }, options);
      assertEquals(sequences[0], [...ids, ...continuation_ids], text);
    }
  });
}
