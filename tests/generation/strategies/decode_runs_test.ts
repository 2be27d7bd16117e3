/** Searches against runs that transformers 4.46 and 5.23 made of a closed-form model: no GPU. */
import { assertEquals } from "@std/assert";
import { computeTransitionScores } from "../../../src/generation/outputs.ts";
import { assertClose } from "../../helpers.ts";
import runs from "../../data/decode_runs.json" with { type: "json" };
import { optionsOf } from "./options.ts";
import { ToyModel } from "./toy_model.ts";
import { toyGenerate } from "./toy_search.ts";

interface DecodeRun {
  name: string;
  input_ids: number[][];
  kwargs: Record<string, unknown>;
  sequences: number[][];
  sequences_scores?: number[];
  beam_indices?: number[][];
  transition_scores?: (number | null)[][] | null;
  n_scores: number;
}

const CLOSE = { rtol: 1e-4, atol: 1e-4 };
const flat = (rows: readonly (readonly (number | null)[])[]) => rows.flatMap((row) => row.map((x) => x ?? -Infinity));
/** Of rows that have ended the two releases pad differently, and one of them wrongly (semantics: X-7). */
const unpadded = (rows: number[][], width: number, pads: number[]) =>
  rows.map((row) => {
    const end = row.findLastIndex((id) => !pads.includes(id));
    return row.slice(0, Math.max(width, end + 1));
  });

for (const [profile, decodeRuns] of [["hf4", runs.decode_446], ["hf5", runs.decode_523]] as const) {
  for (const run of decodeRuns as unknown as DecodeRun[]) {
    Deno.test(`a search equals transformers' ${profile === "hf4" ? "4.46" : "5.23"}: ${run.name}`, async () => {
      const { use_cache: _, ...kwargs } = run.kwargs;
      const options = { ...optionsOf(kwargs), profile };
      const output = await toyGenerate(new ToyModel(), run.input_ids, { ...options, outputScores: true });
      const fewer = await toyGenerate(new ToyModel(), run.input_ids, options); // does without the scores if it can
      assertEquals([fewer.sequences, fewer.beamIndices], [output.sequences, output.beamIndices]);
      const width = run.input_ids[0]!.length;
      if (profile === "hf4") assertEquals(output.sequences, run.sequences);
      else assertEquals(unpadded(output.sequences, width, [0, 3]), unpadded(run.sequences, width, [0, 3]));
      if (run.sequences_scores) assertClose("scores", output.sequencesScores!, run.sequences_scores, CLOSE);
      assertEquals(output.scores!.length, run.n_scores);
      const groups = run.name.startsWith("group"); // 4.46 counts beams within a group there (semantics: X-8)
      const kept = (rows: number[][]) => rows.map((row) => row.filter((index) => index >= 0));
      if (run.beam_indices && !groups) assertEquals(kept(output.beamIndices!), kept(run.beam_indices));
      if (!run.transition_scores || groups) return;
      const normalizeLogits = !run.sequences_scores;
      assertClose(
        "transition scores",
        flat(computeTransitionScores(output, { normalizeLogits })),
        flat(run.transition_scores),
        CLOSE,
      );
    });
  }
}
