/**
 * What is recorded of an encoder's one pass.
 *
 * @module
 */
import type { Cache } from "../cache/mod.ts";
import { crossPart, encoderColumns, type EncoderDecoderInputs } from "../models/encoder_decoder.ts";
import type { Model } from "../models/mod.ts";
import { type Columns, placeAttentions } from "../models/pad_attentions.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { GenerateOutput } from "./outputs.ts";
import type { OutputOptions } from "./strategies/search.ts";
import type { HostTensor } from "./strategies/step_model.ts";

/** The encoder's part of an output. */
export type EncoderRecords = Pick<GenerateOutput, "encoderAttentions" | "encoderHiddenStates">;

/**
 * Runs the encoder, if anything of it is asked for, and fills `cache`; where this is filled, it stays as it is. Throws at
 * once what the pass throws; what it gives is read while the run goes on.
 */
export function recordEncoder(
  model: Model,
  cache: Cache,
  inputs: EncoderDecoderInputs,
  { outputAttentions, outputHiddenStates }: OutputOptions,
): Promise<EncoderRecords> {
  if (!outputAttentions && !outputHiddenStates) return Promise.resolve({});
  const hiddenStates: Tensor[] | undefined = outputHiddenStates ? [] : undefined;
  const attentions: Tensor[] | undefined = outputAttentions ? [] : undefined;
  const cross = crossPart(cache);
  using again = cross.isUpdated(0) ? model.newCache() : undefined;
  if (again) encoderColumns(inputs, cross.lengths); // refuses other rows than those that the cache was filled with
  const filled = again ?? cache;
  model.encode(inputs, filled, { hiddenStates, attentions }).dispose();
  const records = readRecords(hiddenStates, attentions, encoderColumns(inputs, crossPart(filled).lengths));
  records.catch(() => {}); // reported where it is awaited; the run may have failed by then
  return records;
}

async function readRecords(
  hiddenStates: readonly Tensor[] | undefined,
  attentions: readonly Tensor[] | undefined,
  columns: Columns,
): Promise<EncoderRecords> {
  const [states, weights] = await Promise.all([
    hiddenStates && readAll(hiddenStates),
    attentions && readAll(attentions),
  ]);
  const placed = ({ data, shape }: HostTensor): HostTensor => ({
    data: placeAttentions(data, shape, columns, columns),
    shape: [columns.of.length, shape[0]!, columns.width, columns.width],
  });
  return { ...states && { encoderHiddenStates: states }, ...weights && { encoderAttentions: weights.map(placed) } };
}

/** Reads the tensors and disposes of them. */
async function readAll(tensors: readonly Tensor[]): Promise<HostTensor[]> {
  using made = new DisposableStack();
  for (const t of tensors) made.use(t);
  return await Promise.all(tensors.map(async (t) => ({ data: await t.read() as Float32Array, shape: t.shape })));
}
