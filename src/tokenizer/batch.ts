/**
 * A batch of texts as rows of ids: special tokens, truncation, padding.
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import type { Pipeline } from "./pipeline.ts";

const MAX_ROW = 2 ** 24; // tokens

/** A side of a sequence. */
export type Side = "left" | "right";

/** How to encode. */
export interface EncodeOptions {
  /** Pad rows: `true` or "longest" to the longest of the batch, "maxLength" to `maxLength`; default false. */
  padding?: boolean | "longest" | "maxLength";
  /**
   * Cut rows to `maxLength`: `true` or "longestFirst" takes from the longer text of a pair, "onlyFirst" and
   * "onlySecond" from that text; default false.
   */
  truncation?: boolean | "longestFirst" | "onlyFirst" | "onlySecond";
  /** Tokens of a row, special ones included; default the tokenizer's `modelMaxLength`. */
  maxLength?: number;
  /** Round padded rows up to a multiple of this. */
  padToMultipleOf?: number;
  /** Put the model's special tokens around each text; default true. */
  addSpecialTokens?: boolean;
  /** The second text of a pair, one for each text of a batch. */
  textPair?: string | readonly string[];
  /** Where padding goes; default the tokenizer's `paddingSide`. */
  paddingSide?: Side;
  /** Where truncation takes tokens away; default the tokenizer's `truncationSide`. */
  truncationSide?: Side;
}

/** Encoded texts, a row each. */
export interface BatchEncoding {
  /** Token ids [B][T]. */
  inputIds: number[][];
  /** 1 for a token, 0 for padding [B][T]. */
  attentionMask: number[][];
  /** Which text of a pair a token is of [B][T]; only for models that read it. */
  tokenTypeIds?: number[][];
}

/** What a tokenizer's settings add to the options of one call. */
export interface BatchSettings {
  /** Longest row that the model takes; Infinity where unknown. */
  modelMaxLength: number;
  /** Id of the padding, null where there is none. */
  padTokenId: number | null;
  /** Default of the option of that name. */
  paddingSide: Side;
  /** Default of the option of that name. */
  truncationSide: Side;
  /** Whether to return `tokenTypeIds`. */
  tokenTypes: boolean;
}

interface Row {
  ids: number[];
  types: number[];
}

/** Encodes one text, or a batch. */
export function encodeBatch(
  pipeline: Pipeline,
  settings: BatchSettings,
  text: string | readonly string[],
  options: EncodeOptions,
): BatchEncoding {
  const texts = typeof text === "string" ? [text] : text;
  if (!Array.isArray(texts)) {
    throw new ValueError(`Cannot encode as the text must be a string or an array of them: it is ${typeof text}`);
  }
  const pairs = pairsOf(text, options.textPair);
  const rows = texts.map((one, i) => encodeRow(pipeline, settings, one, pairs[i], options));
  const lengths = rows.map((row) => row.ids.length);
  pad(rows, settings, options);
  const side = options.paddingSide ?? settings.paddingSide;
  const attentionMask = rows.map(({ ids }, i) => {
    const ones = new Array<number>(lengths[i]!).fill(1), zeros = new Array<number>(ids.length - lengths[i]!).fill(0);
    return side === "left" ? [...zeros, ...ones] : [...ones, ...zeros];
  });
  return {
    inputIds: rows.map((row) => row.ids),
    attentionMask,
    ...(settings.tokenTypes ? { tokenTypeIds: rows.map((row) => row.types) } : {}),
  };
}

function pairsOf(text: string | readonly string[], pair: EncodeOptions["textPair"]): readonly (string | undefined)[] {
  if (pair === undefined || pair === "") return [];
  if (typeof text === "string" && typeof pair === "string") return [pair];
  if (typeof text === "string" || typeof pair === "string" || text.length !== pair.length) {
    const count = (value: string | readonly string[]) =>
      typeof value === "string" ? "one text" : `${value.length} texts`;
    throw new ValueError(
      `Cannot encode pairs as textPair must have one text for each text: current sizes are ${count(text)} and ${
        count(pair)
      }`,
    );
  }
  return pair;
}

function encodeRow(
  pipeline: Pipeline,
  settings: BatchSettings,
  text: string,
  pair: string | undefined,
  options: EncodeOptions,
): Row {
  const a = pipeline.encode(text), b = pair === undefined ? undefined : pipeline.encode(pair);
  const addSpecial = options.addSpecialTokens ?? true;
  const items = b ? pipeline.template.pair : pipeline.template.single;
  const special = addSpecial ? items.filter((item) => "id" in item).length : 0;
  const [first, second] = truncate(a, b, special, settings, options);
  const row: Row = { ids: [], types: [] };
  for (const item of items) {
    if ("id" in item && !addSpecial) continue;
    const ids = "id" in item ? [item.id] : item.text === "A" ? first : second ?? [];
    for (const id of ids) {
      row.ids.push(id);
      row.types.push(item.typeId);
    }
  }
  return row;
}

function truncate(
  a: number[],
  b: number[] | undefined,
  special: number,
  settings: BatchSettings,
  { truncation = false, maxLength = settings.modelMaxLength, truncationSide }: EncodeOptions,
): [number[], number[] | undefined] {
  const room = maxLength - special;
  if (truncation === false || a.length + (b?.length ?? 0) <= room) return [a, b];
  if (!Number.isInteger(maxLength) || room < 0) {
    throw new ValueError(
      `Cannot truncate as maxLength must be a whole number >= ${special} (the special tokens): current value is ${maxLength}`,
    );
  }
  const excess = a.length + (b?.length ?? 0) - room;
  const side = truncationSide ?? settings.truncationSide;
  const cut = (ids: number[], length: number) => {
    if (length <= 0 && truncation !== true && truncation !== "longestFirst") {
      throw new ValueError(
        `Cannot truncate as the text that is cut must have more than ${excess} tokens: it has ${ids.length}`,
        { hint: 'Use truncation: "longestFirst".' },
      );
    }
    return side === "left" ? ids.slice(ids.length - Math.min(length, ids.length)) : ids.slice(0, length);
  };
  if (truncation === "onlyFirst") return [cut(a, a.length - excess), b];
  if (truncation === "onlySecond") return [a, cut(b ?? [], (b?.length ?? 0) - excess)];
  if (!b) return [cut(a, room), b];
  const [lengthA, lengthB] = shareRoom(a.length, b.length, room);
  return [cut(a, lengthA), cut(b, lengthB)];
}

/** Lengths of two texts that fill `room`: the shorter one stays whole where it is at most half of it. */
function shareRoom(a: number, b: number, room: number): [a: number, b: number] {
  let short = Math.min(a, b);
  let long = Math.max(short, room - short);
  if (short + long > room) {
    short = Math.floor(room / 2);
    long = room - short;
  }
  return a > b ? [long, short] : [short, long];
}

function pad(rows: Row[], settings: BatchSettings, options: EncodeOptions): void {
  const { padding = false, maxLength = settings.modelMaxLength, padToMultipleOf: multiple = 1 } = options;
  if (padding === false) return;
  const wanted = padding === "maxLength" ? maxLength : rows.reduce((most, { ids }) => Math.max(most, ids.length), 0);
  for (const [name, value, least] of [["maxLength", wanted, 0], ["padToMultipleOf", multiple, 1]] as const) {
    if (Number.isInteger(value) && value >= least && value <= MAX_ROW) continue;
    throw new ValueError(
      `Cannot pad as ${name} must be a whole number from ${least} to ${MAX_ROW}: current value is ${value}`,
    );
  }
  const length = Math.ceil(wanted / multiple) * multiple;
  const { padTokenId } = settings;
  if (padTokenId === null) {
    throw new ValueError("Cannot pad as the tokenizer must have a padding token: it has none", {
      hint: "Set tokenizer.padTokenId, for instance to tokenizer.eosTokenId.",
    });
  }
  const left = (options.paddingSide ?? settings.paddingSide) === "left";
  for (const row of rows) {
    const missing = Math.max(0, length - row.ids.length);
    const ids = new Array<number>(missing).fill(padTokenId), types = new Array<number>(missing).fill(0);
    row.ids = left ? [...ids, ...row.ids] : [...row.ids, ...ids];
    row.types = left ? [...types, ...row.types] : [...row.types, ...types];
  }
}
