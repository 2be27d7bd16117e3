/**
 * Speech to text: segment after segment, each beginning where the one before ended.
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import type { Model } from "../models/mod.ts";
import { tensor } from "../tensor/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import { generate } from "./generate.ts";
import type { GenerationOptions } from "./options.ts";
import { whisperTimestamps } from "./processors/whisper_timestamps.ts";
import { speechPrompt, type SpeechTask } from "./speech_prompt.ts";

const SECONDS_A_TIMESTAMP = 0.02, SECONDS_A_FRAME = 0.01;

/** What {@linkcode generateSpeech} takes: what is to be done, and how each segment is generated. */
export type SpeechOptions = SpeechTask & Omit<GenerationOptions, "numReturnSequences" | "cache">;

/** A part of what was said. */
export interface SpeechSegment {
  /** Seconds from the beginning of the features. */
  start: number;
  /** Seconds from the beginning of the features. */
  end: number;
  /** Its ids, timestamps among them. */
  tokens: number[];
}

/** What {@linkcode generateSpeech} gives. */
export interface SpeechOutput {
  /** [B]: the ids of all segments of a row, without prompts and ends. */
  sequences: number[][];
  /** [B]: the segments of each row. */
  segments: SpeechSegment[][];
  /** [B]: the token of each row's language, where the model has languages. */
  languages: (number | undefined)[];
}

/** What a model's files say about its times. */
interface Times {
  /** Frames that the encoder takes. */
  frames: number;
  /** Frames of a state of the encoder, which is the unit of timestamps. */
  stride: number;
  /** The token of time 0. */
  first: number;
}

/**
 * Writes what is said in log-mel features, as a speech model (Whisper) does: where it writes two timestamps together, a
 * segment ends, and the next pass of the encoder begins there.
 *
 * @param inputFeatures [B, channels, frames] float32; more frames than the encoder takes need `returnTimestamps`
 * @throws {ValueError} if the features are too long, or the model does not know the language or task
 *
 * @example
 * ```ts
 * import { generateSpeech, loadModel, loadTokenizer, type Tensor } from "@tensaur/tensaur";
 * async function transcribe(path: string, inputFeatures: Tensor): Promise<string> {
 *   using model = await loadModel(path);
 *   const tokenizer = await loadTokenizer(path);
 *   const { sequences: [ids = []] } = await generateSpeech(model, inputFeatures, { task: "transcribe" });
 *   return tokenizer.decode(ids, { skipSpecialTokens: true });
 * }
 * ```
 */
export async function generateSpeech(
  model: Model,
  inputFeatures: Tensor,
  { language, task, returnTimestamps = false, ...options }: SpeechOptions = {},
): Promise<SpeechOutput> {
  const [B = 0, channels = 0, total = 0] = inputFeatures.shape, times = timesOf(model);
  if (total > times.frames && !returnTimestamps) {
    throw new ValueError(
      `Cannot transcribe without timestamps as the features must have at most ${times.frames} frames: they have ${total}`,
      { hint: "Pass returnTimestamps: true; longer sound is cut where the model says that a segment ends." },
    );
  }
  const features = await inputFeatures.read() as Float32Array;
  const seeks = Array<number>(B).fill(0), segments: SpeechSegment[][] = seeks.map(() => []);
  let languages: (number | undefined)[] = [];
  for (;;) {
    const rows = [...seeks.keys()].filter((b) => seeks[b]! < total);
    if (rows.length === 0) break;
    const data = rows.flatMap((b) =>
      framesFrom(features.subarray(b * channels * total), channels, total, seeks[b]!, times)
    );
    using part = tensor(model.device, Float32Array.from(data), [rows.length, channels, times.frames]);
    if (languages.length === 0) languages = await languagesOf(model, part, language);
    const prompts = rows.map((b) => promptOf(model, languages[b], { language, task, returnTimestamps }));
    const written = await segmentTokens(model, part, prompts, returnTimestamps, options);
    for (const [i, b] of rows.entries()) {
      const length = Math.min(times.frames, total - seeks[b]!);
      const { parts, next } = segmentsOf(written[i]!, times, length);
      const shift = seeks[b]! * SECONDS_A_FRAME;
      segments[b]!.push(...parts.map((s) => ({ ...s, start: s.start + shift, end: s.end + shift })));
      seeks[b]! += next > 0 ? next : length; // a segment that ends where it begins would never end
    }
  }
  return { sequences: segments.map((row) => row.flatMap(({ tokens }) => tokens)), segments, languages };
}

/** The ids of a segment of each row, without its prompt and end. */
async function segmentTokens(
  model: Model,
  inputFeatures: Tensor,
  decoderInputIds: number[][],
  returnTimestamps: boolean,
  options: GenerationOptions,
): Promise<number[][]> {
  const { generationConfig: saved, config } = model, ends = [saved.eos_token_id ?? config.eos_token_id].flat();
  const noTimestampsTokenId = saved.no_timestamps_token_id as number, beginIndex = decoderInputIds[0]!.length;
  const rules = whisperTimestamps({
    beginIndex,
    eosTokenId: ends[0] as number,
    noTimestampsTokenId,
    maxInitialTimestampIndex: saved.max_initial_timestamp_index as number | undefined,
  });
  const logitsProcessor = [...returnTimestamps ? [rules] : [], ...options.logitsProcessor ?? []];
  const { sequences, promptLengths } = await generate(model, { inputFeatures, decoderInputIds }, {
    ...options,
    logitsProcessor,
  });
  const over = new Set([...ends, saved.pad_token_id ?? config.pad_token_id]);
  return sequences.map((row, b) => {
    const ids = row.slice(promptLengths[b]);
    return ids.slice(0, ids.findLastIndex((id) => !over.has(id)) + 1);
  });
}

/** The segments that `ids` tell of, and how many frames on the next one begins; `length` is that of the features. */
export function segmentsOf(
  ids: readonly number[],
  { first, stride }: Pick<Times, "first" | "stride">,
  length: number,
): { parts: SpeechSegment[]; next: number } {
  const isTime = (i: number) => (ids[i] ?? -1) >= first,
    seconds = (id: number) => Math.max(0, id - first) * SECONDS_A_TIMESTAMP;
  const ends = [...ids.keys()].filter((i) => i > 0 && isTime(i) && isTime(i - 1));
  if (ends.length === 0) {
    const last = ids.findLast((id) => id >= first);
    const end = last !== undefined && last !== first ? seconds(last) : length * SECONDS_A_FRAME;
    return { parts: [{ start: 0, end, tokens: [...ids] }], next: length };
  }
  const closed = isTime(ids.length - 1) && !isTime(ids.length - 2); // no speech after the last time
  if (closed) ends.push(ids.length);
  else ends.push(ends.pop()! + 1); // both times of the last pair, the second of which begins what is read again
  const parts = ends.map((end, i) => {
    const tokens = ids.slice(ends[i - 1] ?? 0, end), until = closed || i < ends.length - 1 ? -1 : -2;
    return { start: seconds(tokens[0]!), end: seconds(tokens.at(until)!), tokens };
  });
  return { parts, next: closed ? length : (ids[ends.at(-1)! - 2]! - first) * stride };
}

/** As many frames from `from` on as the encoder takes, zeros behind the last. */
function framesFrom(
  features: Float32Array,
  channels: number,
  total: number,
  from: number,
  { frames }: Times,
): number[] {
  return Array.from({ length: channels }, (_, c) => {
    const own = features.subarray(c * total + from, (c + 1) * total).subarray(0, frames);
    return [...own, ...Array<number>(frames - own.length).fill(0)];
  }).flat();
}

/** The language of each row: the one that is asked for, else the likeliest; undefined where the model has none. */
async function languagesOf(model: Model, inputFeatures: Tensor, language?: string): Promise<(number | undefined)[]> {
  const { generationConfig: saved, config } = model, known = saved.lang_to_id as Record<string, number> | undefined;
  const B = inputFeatures.shape[0]!;
  if (language !== undefined || !known) return Array<undefined>(B).fill(undefined);
  const start = (saved.decoder_start_token_id ?? config.decoder_start_token_id) as number;
  using output = await model.forward({ inputFeatures, decoderInputIds: Array.from({ length: B }, () => [start]) });
  const logits = await output.logits!.read(), V = output.logits!.shape[2]!, ids = Object.values(known);
  return Array.from({ length: B }, (_, b) => ids.reduce((a, id) => logits[b * V + id]! > logits[b * V + a]! ? id : a));
}

/** The start token, the language, the task, and that no times are wanted. */
function promptOf(
  model: Model,
  detected: number | undefined,
  { language, task, returnTimestamps }: SpeechTask,
): number[] {
  const known = language === undefined ? task : task ?? "transcribe";
  const hasTasks = model.generationConfig.task_to_id !== undefined;
  const [[start, ...rest] = []] = speechPrompt(model, 1, {
    language,
    task: hasTasks ? known : undefined,
    returnTimestamps,
  });
  return detected === undefined ? [start!, ...rest] : [start!, detected, ...rest];
}

function timesOf({ config, generationConfig: saved }: Model): Times {
  const states = config.max_source_positions, noTimes = saved.no_timestamps_token_id;
  if (typeof states === "number" && typeof noTimes === "number") {
    return { frames: 2 * states, stride: 2, first: noTimes + 1 };
  }
  throw new ValueError(
    "Cannot transcribe as generation_config.json must say no_timestamps_token_id: this model's does not",
  );
}
