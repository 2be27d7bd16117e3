/**
 * Packed batches: tokens lie end to end, and no pad token exists (architecture.md, decision 1).
 *
 * @module
 */
import { ShapeError, ValueError } from "../errors.ts";
import type { Device } from "../gpu/mod.ts";
import { type Tensor, tensor } from "../tensor/mod.ts";

const MAX_POSITION = 2 ** 31;

/** What one forward pass is about. Everything that changes from step to step is a GPU buffer. */
export interface Batch extends Disposable {
  /** [T] uint32: sequences end to end. */
  readonly tokens: Tensor;
  /** [T] uint32: the position of each token in its sequence. */
  readonly positions: Tensor;
  /** [B + 1] uint32: sequence b is the tokens from `cuSeqlens[b]` to `cuSeqlens[b + 1]`. */
  readonly cuSeqlens: Tensor;
  /** [T] uint32: the segment of each token, BERT's token type; zeros where none is given. */
  readonly tokenTypes: Tensor;
  /** [T, D] float32, or undefined: added to the embeddings of the tokens, where ids past the vocabulary give zeros. */
  readonly embeds?: Tensor;
  /** B: number of sequences. */
  readonly size: number;
  /** T: number of tokens. */
  readonly total: number;
  /** Tokens of each sequence. */
  readonly lengths: readonly number[];
  /** A bound on the positions of the batch plus one, known to the host: tables must reach so far. */
  readonly maxPosition: number;
}

/** Rows as Hugging Face's tokenizers make them. */
export interface ModelInputs {
  /** Token ids, one row a sequence, of any lengths. */
  inputIds: readonly (readonly number[])[];
  /** 1 = a real token, 0 = padding; of the shape of `inputIds`. Default: all real. */
  attentionMask?: readonly (readonly number[])[];
  /** Segment of each token, for BERT; other families have none and do not look. */
  tokenTypeIds?: readonly (readonly number[])[];
  /** Position of each token. Default: counted from `pastLength` over the real tokens. */
  positionIds?: readonly (readonly number[])[];
}

/** A packed batch, and where its tokens stood in the padded rows. */
export interface Unpadded {
  /** The batch. */
  batch: Batch;
  /** For each token in order: its place in the padded `[B, S]` rows. */
  places: number[];
  /** S: length of the longest row. */
  width: number;
}

/** What the numbers of {@linkcode ModelInputs} must be below. */
export interface InputLimits {
  /** Bound of token ids. */
  vocabSize: number;
  /** Bound of segments, where the model has any. */
  typeVocabSize?: number;
}

/**
 * Packs padded rows: pads are dropped, positions counted over the real tokens.
 *
 * @param past tokens that each sequence already has in the cache
 * @param limits what ids and segments must be below
 * @throws {ShapeError} if rows and masks differ in shape
 * @throws {ValueError} if an id is no token, or a segment or position cannot be one
 */
export function unpad(
  device: Device,
  inputs: ModelInputs,
  past: readonly number[],
  { vocabSize, typeVocabSize = MAX_POSITION }: InputLimits,
): Unpadded {
  const { inputIds, attentionMask, tokenTypeIds, positionIds } = inputs;
  if (inputIds.length === 0) {
    throw new ShapeError("Cannot run the model as inputIds must have at least one row: none came");
  }
  for (const [name, rows] of Object.entries({ attentionMask, tokenTypeIds, positionIds })) {
    if (rows && !(rows.length === inputIds.length && rows.every((row, b) => row.length === inputIds[b]!.length))) {
      throw new ShapeError(
        `Cannot run the model as ${name} must have the shape of inputIds: rows of ${inputIds.map((r) => r.length)} ` +
          `against ${rows.map((r) => r.length)}`,
      );
    }
  }
  const width = Math.max(...inputIds.map((row) => row.length));
  const tokens: number[] = [], positions: number[] = [], types: number[] = [], places: number[] = [];
  const lengths = inputIds.map((row, b) => {
    let position = past[b] ?? 0;
    const before = tokens.length;
    for (const [i, id] of row.entries()) {
      if (attentionMask && !attentionMask[b]![i]) continue;
      const place = { row: b, column: i };
      tokens.push(checked("inputIds", id, vocabSize, place));
      positions.push(checked("positionIds", positionIds?.[b]?.[i] ?? position, MAX_POSITION, place));
      types.push(checked("tokenTypeIds", tokenTypeIds?.[b]?.[i] ?? 0, typeVocabSize, place));
      places.push(b * width + i);
      position++;
    }
    return tokens.length - before;
  });
  return { batch: packBatch(device, tokens, positions, lengths, types), places, width };
}

/** A packed batch of what is given. */
export function packBatch(
  device: Device,
  tokens: readonly number[],
  positions: readonly number[],
  lengths: readonly number[],
  types: readonly number[] = tokens.map(() => 0),
  maxPosition: number = positions.reduce((most, p) => Math.max(most, p + 1), 0),
): Batch {
  const starts = lengths.reduce((sums, n) => [...sums, sums.at(-1)! + n], [0]);
  using made = new DisposableStack();
  const put = (data: readonly number[]) => made.use(tensor(device, data, [data.length], "uint32"));
  const tensors = { tokens: put(tokens), positions: put(positions), cuSeqlens: put(starts), tokenTypes: put(types) };
  const owned = made.move(); // nothing failed: they are the batch's
  return {
    ...tensors,
    size: lengths.length,
    total: tokens.length,
    lengths,
    maxPosition,
    [Symbol.dispose]: () => owned.dispose(),
  };
}

function checked(name: string, value: number, limit: number, { row, column }: { row: number; column: number }): number {
  if (Number.isInteger(value) && value >= 0 && value < limit) return value;
  throw new ValueError(
    `Cannot run the model as ${name} must be whole numbers from 0 to ${limit - 1}: ` +
      `current value is ${value} at row ${row}, column ${column}`,
    { hint: "Use the tokenizer that belongs to the model." },
  );
}
