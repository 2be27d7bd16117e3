/**
 * N-grams that must not come again, or not be taken from the encoder's input (semantics: G-33).
 *
 * @module
 */
import { banNgrams, banNgramsReference } from "../../ops/ban_ngrams.ts";
import { encoderIdsOf, perRow, type ProcessorOf } from "./processor.ts";

/** `noRepeatNgramSize`: no n tokens in a row come twice. */
export const noRepeatNgram: ProcessorOf = ({ noRepeatNgramSize: n }, c) => {
  if (n === 0) return;
  return {
    name: "noRepeatNgramSize",
    host: perRow(c, (scores, { ids }) => banNgramsReference(scores, ids, ids, n)),
    gpu: ({ history, put }) => {
      const past = history(), size = put([n]);
      return (scores) => banNgrams(scores, past, past, size);
    },
  };
};

/** `encoderNoRepeatNgramSize`: no n tokens in a row of the encoder's input come. */
export const encoderNoRepeatNgram: ProcessorOf = ({ encoderNoRepeatNgramSize: n }, c) => {
  if (n === 0) return;
  const rows = encoderIdsOf(c);
  return {
    name: "encoderNoRepeatNgramSize",
    host: perRow(c, (scores, { ids, prompt }) => banNgramsReference(scores, ids, rows[prompt]!, n)),
    gpu: ({ history, put }) => {
      const past = history(), size = put([n]), width = Math.max(...rows.map((row) => row.length));
      const padded = rows.flatMap((row) => [...row, ...new Array(width - row.length).fill(0)]);
      const source = {
        ids: put(padded, "uint32", [rows.length, width]),
        lengths: put(rows.map((row) => row.length)),
      };
      return (scores) => banNgrams(scores, past, source, size);
    },
  };
};
