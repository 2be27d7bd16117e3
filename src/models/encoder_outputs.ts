/**
 * What an encoder gives beside the keys that its decoder attends to.
 *
 * @module
 */
import type { Cache } from "../cache/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import { crossPart, encoderColumns, type EncoderDecoderInputs } from "./encoder_decoder.ts";
import type { Collected } from "./family.ts";
import type { ForwardOptions, ModelOutput } from "./model_output.ts";
import { padAttentions } from "./pad_attentions.ts";

/** What of a pass's output is the encoder's. */
export type EncoderOutputs =
  & Pick<ModelOutput, "encoderLastHiddenState" | "encoderHiddenStates" | "encoderAttentions">
  & Disposable;

/** What runs the encoder: a model. */
interface Runner {
  encode(inputs: EncoderDecoderInputs, cache: Cache, collect: Collected): Tensor;
}

/** Runs the encoder, fills `cache`, and gives what was asked for, padded. */
export async function encoderOutputs(
  model: Runner,
  inputs: EncoderDecoderInputs,
  cache: Cache,
  { outputHiddenStates, outputAttentions }: Pick<ForwardOptions, "outputHiddenStates" | "outputAttentions">,
): Promise<EncoderOutputs> {
  const encoderHiddenStates: Tensor[] | undefined = outputHiddenStates ? [] : undefined;
  const attentions: Tensor[] | undefined = outputAttentions ? [] : undefined;
  using made = new DisposableStack();
  const encoderLastHiddenState = made.use(
    model.encode(inputs, cache, { hiddenStates: encoderHiddenStates, attentions }),
  );
  for (const t of encoderHiddenStates ?? []) made.use(t);
  const columns = encoderColumns(inputs, crossPart(cache).lengths);
  const encoderAttentions = attentions && await padAttentions(attentions, columns, () => columns);
  for (const t of encoderAttentions ?? []) made.use(t);
  const kept = made.move(); // nothing failed: they are the caller's
  return {
    encoderLastHiddenState,
    ...encoderHiddenStates && { encoderHiddenStates },
    ...encoderAttentions && { encoderAttentions },
    [Symbol.dispose]: () => kept.dispose(),
  };
}
