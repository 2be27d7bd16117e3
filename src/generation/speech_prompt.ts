import { ValueError } from "../errors.ts";
import type { Model } from "../models/mod.ts";

/** What a speech model shall do. */
export interface SpeechTask {
  /** The language spoken, as "en"; undefined leaves it out, as models of one language want it. */
  language?: string;
  /** Write what was said, or its translation into English. Default: left out. */
  task?: "transcribe" | "translate";
  /** Whether it may write times. Default false. */
  returnTimestamps?: boolean;
}

/**
 * What the decoder of a multilingual speech model (Whisper) starts with: the start token, language, task, and that no
 * times are wanted; by the ids in generation_config.json.
 *
 * @param rows how many inputs there are
 * @returns [rows][…] ids for `decoderInputIds`
 * @throws {ValueError} if the model does not know the language or the task
 *
 * @example
 * ```ts
 * import { generate, loadModel, speechPrompt, type Tensor } from "@tensaur/tensaur";
 * async function transcribe(path: string, inputFeatures: Tensor): Promise<number[][]> {
 *   using model = await loadModel(path);
 *   const decoderInputIds = speechPrompt(model, inputFeatures.shape[0]!, { language: "en", task: "transcribe" });
 *   return (await generate(model, { inputFeatures, decoderInputIds })).sequences;
 * }
 * ```
 */
export function speechPrompt(
  model: Model,
  rows: number,
  { language, task, returnTimestamps = false }: SpeechTask = {},
): number[][] {
  const { generationConfig: saved, config } = model;
  const known = (name: string, ids: unknown, key: string) => {
    const id = (ids as Record<string, number> | undefined)?.[key];
    if (Number.isInteger(id)) return id!;
    throw new ValueError(
      `Cannot begin with ${name} as it must be one of ${Object.keys(Object(ids)).join(", ") || "none"}: it is "${key}"`,
    );
  };
  const start = saved.decoder_start_token_id ?? config.decoder_start_token_id;
  const noTimes = saved.no_timestamps_token_id;
  const prompt = [
    start as number,
    ...language === undefined ? [] : [known("language", saved.lang_to_id, `<|${language}|>`)],
    ...task === undefined ? [] : [known("task", saved.task_to_id, task)],
    ...returnTimestamps || typeof noTimes !== "number" ? [] : [noTimes],
  ];
  return Array.from({ length: rows }, () => [...prompt]);
}
