/**
 * A pass in several: some sequences after the others, so that little exists at a time.
 *
 * @module
 */
import { pickRows } from "./search.ts";
import type { HostTensor, StepOutput, StepRequest } from "./step_model.ts";

type Pieces = readonly (readonly number[])[];

/** Runs the sequences of each of `request.turns`, with nothing of the others, and puts what they give in order. */
export async function inTurns(
  pieces: Pieces,
  { turns = [], tokens, ...request }: StepRequest,
  run: (pieces: Pieces, request: StepRequest) => Promise<StepOutput>,
): Promise<StepOutput> {
  const parts: StepOutput[] = [];
  for (const turn of turns) {
    const some = pieces.map((piece, b) => turn.includes(b) ? piece : []);
    parts.push(await run(some, { ...request, tokens: tokens && turn.map((b) => tokens[b]!) }));
  }
  const order = turns.flat();
  const all = <T>(of: (part: StepOutput) => T[] | undefined) => parts.map(of).flatMap((part) => part ?? []);
  const some = <T>(list: T[]) => list.length ? list : undefined;
  const together: StepOutput = {
    logits: all(({ logits }) => logits),
    top: some(all(({ top }) => top)),
    chances: some(all(({ chances }) => chances)),
    attentions: stacked(parts.map(({ attentions }) => attentions)),
    crossAttentions: stacked(parts.map(({ crossAttentions }) => crossAttentions)),
    hiddenStates: stacked(parts.map(({ hiddenStates }) => hiddenStates)),
  };
  return pickRows(together, pieces.map((_, b) => order.indexOf(b)));
}

/** Tensors of the same layer one after the other. */
function stacked(parts: readonly (HostTensor[] | undefined)[]): HostTensor[] | undefined {
  return parts[0]?.map(({ shape: [, ...rest] }, layer) => {
    const each = parts.map((part) => part![layer]!), size = rest.reduce((n, m) => n * m, 1);
    const data = new Float32Array(each.reduce((sum, t) => sum + t.data.length, 0));
    let at = 0;
    for (const t of each) {
      data.set(t.data, at);
      at += t.data.length;
    }
    return { data, shape: [data.length / size, ...rest] };
  });
}
