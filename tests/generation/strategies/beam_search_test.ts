/** The searches against decode runs that transformers made of a closed-form model (no GPU). */
import { assertEquals } from "@std/assert";
import { type BeamResult, beamSearch } from "../../../src/generation/strategies/beam_search.ts";
import { groupBeamSearch } from "../../../src/generation/strategies/group_beam_search.ts";
import { constrainedBeamSearch } from "../../../src/generation/strategies/constrained_beam_search.ts";
import { constraintsOf } from "../../../src/generation/strategies/constraints.ts";
import { seededRandom } from "../../../src/generation/strategies/math.ts";
import { ToyModel } from "./toy_model.ts";

const v = JSON.parse(Deno.readTextFileSync("../shared/design/semantics_vectors.json"));
let n = 0;
for (const c of v.decode_446) {
  const k = c.kwargs;
  if (!k.num_beams || k.no_repeat_ngram_size || k.repetition_penalty || k.forced_eos_token_id) continue;
  Deno.test(`x ${c.name}`, async () => {
    const o = {
      numBeams: k.num_beams,
      numBeamGroups: k.num_beam_groups ?? 1,
      lengthPenalty: k.length_penalty ?? 1,
      earlyStopping: k.early_stopping ?? false,
      numReturnSequences: k.num_return_sequences,
      eosTokenIds: [k.eos_token_id ?? []].flat(),
      padToken: 0,
      newTokens: k.max_new_tokens,
      eosCounts: true,
      doSample: false,
      outputScores: true,
    };
    const ctx = {
      model: new ToyModel(),
      prompts: c.input_ids as number[][],
      o,
      process: (ids: any, s: Float32Array[], g: any) =>
        s.map((x, i) => {
          const y = x.slice();
          for (const t of g?.chosen[i] ?? []) y[t] -= k.diversity_penalty;
          return y;
        }),
      stops: () => false,
      random: seededRandom(1),
    };
    const r: BeamResult = await (k.force_words_ids
      ? constrainedBeamSearch(ctx, constraintsOf(k.force_words_ids))
      : k.num_beam_groups
      ? groupBeamSearch(ctx)
      : beamSearch(ctx));
    const all = r.rows.flat();
    const width = Math.min(
      o.newTokens,
      Math.max(...all.map((h) =>
        h.tokens.length
      )) + 1,
    );
    const seqs = r.rows.flatMap((hs, b) =>
      hs.map((h) => {
        const x = [...c.input_ids[b], ...h.tokens];
        if (h.tokens.length < width && o.eosTokenIds.length) x.push(o.eosTokenIds[0]);
        while (x.length < c.input_ids[b].length + width) x.push(0);
        return x;
      })
    );
    assertEquals(seqs, c.sequences);
    all.forEach((h, i) => {
      if (Math.abs(h.score - c.sequences_scores[i]) > 1e-5) throw new Error(`${h.score} ${c.sequences_scores[i]}`);
    });
    if (c.beam_indices && !c.name.startsWith("group")) {
      assertEquals(all.map((h) => h.beamIndices), c.beam_indices.map((b: number[]) => b.filter((i) => i >= 0)));
    }
  });
}
