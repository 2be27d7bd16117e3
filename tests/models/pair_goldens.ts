/** What Transformers 5.23 gives of tiny encoder-decoders; `tests/data/outputs/make_outputs.py` wrote it. */
import { readSafetensors } from "../reference.ts";

/** Fields of Seq2SeqLMOutput and GenerateEncoderDecoderOutput, and ours. */
export const PAIR_FIELDS = [
  ["encoder_attentions", "encoderAttentions"],
  ["encoder_hidden_states", "encoderHiddenStates"],
  ["decoder_attentions", "attentions"],
  ["decoder_hidden_states", "hiddenStates"],
  ["cross_attentions", "crossAttentions"],
] as const;

/** A forward pass, or a run of generate(); of a field the shapes by step and layer. */
export interface PairCase extends Record<(typeof PAIR_FIELDS)[number][0], number[][][]> {
  name: string;
  model: string;
  inputs: { input_ids: number[][]; attention_mask: number[][]; decoder_input_ids: number[][] };
  /** Null for a forward pass. */
  generation: Record<string, unknown> | null;
  sequences: number[][];
}

const data = new URL("../data/outputs/encoder-decoder", import.meta.url).pathname;

/** The folder of a case's model. */
export const pairModel = ({ model }: PairCase): string => `${data}/${model}`;

export const { cases: PAIR_CASES } = JSON.parse(await Deno.readTextFile(`${data}.json`)) as { cases: PairCase[] };

/** By CASE.FIELD.STEP.LAYER. */
export const PAIR_TENSORS = await readSafetensors(`${data}.safetensors`);
