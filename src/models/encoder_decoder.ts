/**
 * Models of two stacks: the encoder runs once, and the decoder attends to its states through the cache.
 *
 * @module
 */
import { type Cache, type CrossCache, type ModelInputs, NoCache, packBatch } from "../cache/mod.ts";
import { ShapeError, ValueError } from "../errors.ts";
import { scatterRows } from "../ops/mod.ts";
import { type Tensor, tensor } from "../tensor/mod.ts";
import type { Collected } from "./family.ts";
import type { ModelParts } from "./model_parts.ts";
import { type PackedRows, packRows } from "./packed_rows.ts";
import { type Columns, inOrder } from "./pad_attentions.ts";

/** What an encoder-decoder takes. */
export interface EncoderDecoderInputs {
  /** Ids that the encoder reads, one row a sequence; not needed where the cache holds the encoder's keys. */
  inputIds?: readonly (readonly number[])[];
  /** 1 = a real token, 0 = padding; of the shape of `inputIds`. Default: all real. */
  attentionMask?: readonly (readonly number[])[];
  /** [B, channels, frames] float32 instead of ids: log-mel features of a speech model. Stays the caller's. */
  inputFeatures?: Tensor;
  /** Ids that the decoder reads. */
  decoderInputIds?: readonly (readonly number[])[];
  /** 1 = a real token, 0 = padding; of the shape of `decoderInputIds`. Default: all real. */
  decoderAttentionMask?: readonly (readonly number[])[];
}

/** What the decoder reads, as padded rows. */
export function decoderInputs({ decoderInputIds, decoderAttentionMask }: EncoderDecoderInputs): ModelInputs {
  if (decoderInputIds) return { inputIds: decoderInputIds, attentionMask: decoderAttentionMask };
  throw new ValueError("Cannot run an encoder-decoder as decoderInputIds must be given: none came", {
    hint: "Begin each row with the model's decoder_start_token_id, or call generate().",
  });
}

/** The encoder's part of a cache, filled or not. */
export function crossPart({ crossAttentionCache }: Cache): CrossCache {
  if (crossAttentionCache) return crossAttentionCache;
  throw new ValueError(
    "Cannot run an encoder-decoder as its cache must have two parts: this one holds no keys of an encoder",
    {
      hint: "Use model.newCache(), or new EncoderDecoderCache(cache, new CrossCache()).",
    },
  );
}

/**
 * Where the keys of the encoder's tokens stand in the rows that it read; without these, they come in order.
 *
 * @param lengths of the sequences in the cache; a row may have become several
 * @throws {ShapeError} if the rows are not those that the cache was filled with
 */
export function encoderColumns(
  { inputIds, attentionMask, inputFeatures }: EncoderDecoderInputs,
  lengths: readonly number[],
): Columns {
  if (!inputIds || inputFeatures) return inOrder(lengths, Math.max(...lengths));
  const width = Math.max(...inputIds.map((row) => row.length)), each = lengths.length / inputIds.length;
  const rows = inputIds.map((row, b) => [...row.keys()].filter((i) => attentionMask?.[b]?.[i] ?? 1));
  const of = lengths.map((_, b) => rows[Math.floor(b / each)] ?? []);
  const fits = Number.isInteger(each) && of.every((columns, b) => columns.length === lengths[b]);
  if (fits) return { of, width };
  throw new ShapeError(
    `Cannot place attention to the encoder as inputIds must be those that the cache was filled with, rows of ${lengths} ` +
      `tokens: they have ${rows.map((row) => row.length)}`,
  );
}

/**
 * Runs the encoder and fills `cross` with the keys and values of its states.
 *
 * @param collect gets each layer's hidden states, padded, and attentions, packed
 * @returns the states, padded: [B, S, D]
 */
export function encodeInto(
  parts: ModelParts,
  inputs: EncoderDecoderInputs,
  cross: CrossCache,
  collect: Collected = {},
): Tensor {
  const { device, family: { encoder }, config, weights } = parts;
  if (!encoder) throw new ValueError("Cannot encode as the model must have an encoder: it has one stack");
  using packed = packEncoderRows(parts, inputs);
  const { batch, places, rows, width } = packed, { lengths } = batch;
  const features = inputs.inputFeatures, cache = new NoCache({ dtype: cross.dtype });
  const states = encoder.forward(config, weights, { batch, cache, features, ...collect }); // [T, D]
  try {
    for (const layer of config.attention.keys()) {
      const { k, v } = encoder.keys(config, weights, states, layer);
      cross.fill(layer, k, v, lengths);
    }
  } catch (error) {
    cross[Symbol.dispose]();
    throw error;
  }
  const index = tensor(device, places, [places.length], "uint32");
  const pad = (x: Tensor) => scatterRows(x, index, rows * width).reshape([rows, width, x.shape[1]!]);
  collect.hiddenStates?.splice(0, Infinity, ...collect.hiddenStates.map(pad));
  return pad(states);
}

function packEncoderRows({ device, config }: ModelParts, inputs: EncoderDecoderInputs): PackedRows {
  const { inputIds, attentionMask, inputFeatures } = inputs, { features } = config;
  if (features) {
    const { channels, frames, states } = features, shape = inputFeatures?.shape ?? [];
    if (shape.length !== 3 || shape[1] !== channels || shape[2] !== frames) {
      throw new ShapeError(
        `Cannot run the model as inputFeatures must be [B, ${channels}, ${frames}]: current shape is [${shape}]`,
        { hint: "Pad the log-mel features to that many frames." },
      );
    }
    const rows = shape[0]!, each = Array.from({ length: rows * states }, (_, i) => i);
    const batch = packBatch(device, each.map(() => 0), each.map((i) => i % states), Array(rows).fill(states));
    return { batch, places: each, width: states, rows, [Symbol.dispose]: () => batch[Symbol.dispose]() };
  }
  if (!inputIds) throw new ValueError("Cannot run an encoder-decoder as inputIds must be given: none came");
  const packed = packRows(device, { inputIds, attentionMask }, [], config, false);
  const most = features ? Infinity : config.maxEncoderPositions ?? Infinity;
  if (packed.batch.lengths.every((n) => n > 0 && n <= most)) return packed;
  packed[Symbol.dispose]();
  throw new ValueError(
    `Cannot run the encoder as each row must have 1 to ${most} tokens: rows have ${packed.batch.lengths} real tokens`,
  );
}
