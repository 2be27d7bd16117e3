/**
 * Every search on the reference models against transformers: token ids, and scores to 1e-4. The models' own goldens are
 * of release 5; what 4.44 gives instead is in legacy-crosscheck, and the searches that 5 has no more are 4.44's.
 */
import { assertEquals } from "@std/assert";
import { generate } from "../../../src/generation/mod.ts";
import { loadModel } from "../../../src/models/mod.ts";
import { assertClose, testDevice } from "../../helpers.ts";
import { hasReference, loadGoldens, referencePath } from "../../reference.ts";
import { DECODERS } from "../models.ts";
import { optionsOf, type SearchCase } from "./options.ts";

const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const device = await testDevice();

/** Cases of 4.44 in which padding counts: its ids are penalised, its hidden states looked at. Here it is not there. */
const PADDING_COUNTS = ["contrastive_left_padded", "beam3_constrained in 4.44"];

interface Crosscheck {
  models: Record<string, {
    same?: string[];
    other_sequences?: Record<string, { sequences: number[][]; sequences_scores?: number[] }>;
  }>;
}

const crosscheck: Crosscheck | undefined = hasReference("data/generate/legacy-crosscheck.json")
  ? JSON.parse(await Deno.readTextFile(referencePath("data/generate/legacy-crosscheck.json")))
  : undefined;

/** The searches among the cases of a golden pair. */
async function searchesOf(path: string): Promise<SearchCase[]> {
  const goldens = await loadGoldens<SearchCase>(path);
  return (goldens?.cases ?? []).filter(({ kind, generation: g }) =>
    kind === "generate" && g &&
    (Number(g.num_beams ?? 1) > 1 || g.penalty_alpha !== undefined || g.dola_layers !== undefined)
  );
}

interface Variant {
  name: string;
  case: SearchCase;
  profile: "hf4" | "hf5";
  want: { sequences: number[][]; scores?: ArrayLike<number> };
}

/** The cases of a model, those of release 5 also as 4.44 has them. */
async function variantsOf(name: string): Promise<Variant[]> {
  const own = await searchesOf(`data/models/${name}/goldens`);
  const { same = [], other_sequences: others = {} } = crosscheck?.models[name] ?? {};
  const legacy = [`data/generate/legacy-searches-${name}`, `data/generate/processors-${name}`];
  const wanted = ({ outputs }: SearchCase) => ({
    sequences: outputs.sequences,
    scores: outputs.sequences_scores?.data,
  });
  return [
    ...own.map((c) => ({ name: c.name, case: c, profile: "hf5" as const, want: wanted(c) })),
    ...own.filter(({ name }) => same.includes(name) || others[name]).map((c) => {
      const other = others[c.name];
      const want = other ? { sequences: other.sequences, scores: other.sequences_scores } : wanted(c);
      return { name: `${c.name} in 4.44`, case: c, profile: "hf4" as const, want };
    }),
    ...(await Promise.all(legacy.map(searchesOf))).flat().map((c) => ({
      name: c.name,
      case: c,
      profile: "hf4" as const,
      want: wanted(c),
    })),
  ];
}

/** The rows that came without padding. */
function unpaddedRows(c: SearchCase, rows: number[][]): number[][] {
  return rows.filter((_, b) => !c.inputs.attention_mask?.[b]?.includes(0));
}

for (const name of FULL ? DECODERS : ["llama"] as const) {
  const path = `data/models/${name}`, variants = await variantsOf(name);
  if (!hasReference(path) || variants.length === 0) {
    Deno.test(`skipped: searches on ${name} (no reference data)`, () => {});
    continue;
  }
  Deno.test(`generate() searches as transformers does on ${name}`, async (t) => {
    using model = await loadModel(referencePath(path), { device, dtype: "float32" });
    for (const { name, case: c, profile, want } of variants) {
      await t.step(name, async () => {
        const inputs = { inputIds: c.inputs.input_ids, attentionMask: c.inputs.attention_mask };
        const allowed = c.name.startsWith("prefix_allowed") && {
          prefixAllowedTokensFn: (_: number, ids: readonly number[]) =>
            Array.from({ length: model.sizes.vocabSize }, (_, t) => t).filter((t) => (t + ids.at(-1)!) % 3 === 1),
        };
        const options = { eosTokenId: null, ...optionsOf(c.generation), doSample: false, profile, ...allowed };
        const output = await generate(model, inputs, options);
        if (PADDING_COUNTS.includes(name) && c.inputs.attention_mask?.flat().includes(0)) {
          assertEquals(unpaddedRows(c, output.sequences), unpaddedRows(c, want.sequences));
          return;
        }
        assertEquals(output.sequences, want.sequences);
        if (want.scores) {
          assertClose("sequencesScores", output.sequencesScores!, want.scores, { rtol: 1e-4, atol: 1e-4 });
        }
      });
    }
  });
}
