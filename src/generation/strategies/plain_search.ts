/**
 * Greedy search and sampling through the host, for those who look at every step; `loop.ts` does the same on the GPU.
 *
 * @module
 */
import { throwIfAborted } from "../../errors.ts";
import { record, requestOf, type SearchContext, type SearchStep, tokenOf } from "./search.ts";

/** Takes the likeliest token of each row, or draws one; rows for which `ended` holds go on with the pad token. */
export async function* plainSearch(
  { model, prompts, o, process }: SearchContext,
  ended: (row: number) => boolean,
): AsyncGenerator<SearchStep> {
  const ids = prompts.map((row) => [...row]);
  for (let step = 0; step < o.newTokens; step++) {
    throwIfAborted(o.signal, "generating");
    const output = await model.forward(ids, requestOf(o));
    const scores = await process(ids, output.logits.map((row) => row.slice()));
    const tokens = scores.map((row, b) => tokenOf(row, o, step, b));
    const shown = tokens.map((token, b) => ended(b) ? o.padToken : token);
    yield { tokens: shown, ...record(o, output, scores) };
    shown.forEach((token, b) => ids[b]!.push(token));
  }
}
