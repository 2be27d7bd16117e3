/** OPT beside Transformers, on tiny models that tests/data/make_opt.py makes: norms before and behind, projections. */
import { assertEquals } from "@std/assert";
import { StaticCache } from "../../src/cache/mod.ts";
import { generate } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { testDevice } from "../helpers.ts";
import { assertWithin } from "./fixture.ts";

interface Goldens {
  rows: { ids: number[]; logits: number[]; hidden_states: number[][] }[];
  prompt: number[];
  greedy: number[];
}

const BOUND = 1e-4;
const device = await testDevice();

for (const name of ["opt", "opt-proj"]) {
  const folder = new URL(`../data/${name}`, import.meta.url).pathname;
  const goldens: Goldens = JSON.parse(await Deno.readTextFile(`${folder}/goldens.json`));

  Deno.test(`Model.forward() gives transformers' values: tiny ${name}`, async () => {
    using model = await loadModel(folder, { device, dtype: "float32" });
    for (const { ids, logits, hidden_states: states } of goldens.rows) {
      using output = await model.forward({ inputIds: [ids] }, { outputHiddenStates: true });
      assertEquals(output.hiddenStates!.length, states.length);
      for (const [i, want] of states.entries()) {
        assertWithin(`hidden state ${i}`, await output.hiddenStates![i]!.read(), want, BOUND);
      }
      assertWithin("logits", await output.logits!.read(), logits, BOUND);
    }
  });

  Deno.test(`Model.forward() gives them for padded rows and in pieces: tiny ${name}`, async () => {
    using model = await loadModel(folder, { device, dtype: "float32" });
    const rows = goldens.rows.map(({ ids }) => ids), width = Math.max(...rows.map((row) => row.length));
    const left = <T>(row: T[], pad: T) => [...Array<T>(width - row.length).fill(pad), ...row];
    using output = await model.forward({
      inputIds: rows.map((row) => left(row, 1)),
      attentionMask: rows.map((row) => left(row.map(() => 1), 0)),
    });
    const all = await output.logits!.read(), [, , V = 0] = output.logits!.shape;
    for (const [b, { ids, logits }] of goldens.rows.entries()) {
      const first = (b + 1) * width - ids.length;
      assertWithin(`row ${b}`, all.slice(first * V, (b + 1) * width * V), logits, BOUND);
    }
    using cache = new StaticCache({ maxCacheLen: width });
    const [{ ids, logits }] = goldens.rows as [Goldens["rows"][number]], got: number[] = [];
    for (const [start, end] of [[0, 4], [4, 5], [5, ids.length]] as const) {
      using piece = await model.forward({ inputIds: [ids.slice(start, end)] }, { cache });
      got.push(...await piece.logits!.read());
    }
    assertWithin("in pieces", got, logits, BOUND);
  });

  Deno.test(`generate() gives transformers' greedy tokens: tiny ${name}`, async () => {
    using model = await loadModel(folder, { device, dtype: "float32" });
    const { prompt, greedy } = goldens, maxNewTokens = greedy.length - prompt.length;
    const options = { doSample: false, eosTokenId: null, maxNewTokens } as const;
    const { sequences } = await generate(model, { inputIds: [prompt] }, options);
    assertEquals(sequences.map((row) => [...row]), [greedy]);
  });
}
