/** Models that generation tests run on: the embedded ones always, the reference ones where they lie. */
import { type GenerationOptions, WatermarkingConfig } from "../../src/generation/mod.ts";
import type { Model } from "../../src/models/mod.ts";
import { hasReference, loadGoldens, referencePath } from "../reference.ts";

/** Folder of an embedded model. */
export function embedded(name: "tensaur-tiny" | "tensaur-draft"): string {
  return new URL(`../../models/${name}`, import.meta.url).pathname;
}

/** Processors that have a kernel, for the embedded models; those that count tokens are for a test to set. */
export const PROCESSORS: GenerationOptions = {
  guidanceScale: 1.4,
  sequenceBias: [[[300], 1.5], [[510, 300], -3]],
  logitBias: { 257: -1 },
  encoderRepetitionPenalty: 1.1,
  repetitionPenalty: 1.2,
  frequencyPenalty: 0.2,
  presencePenalty: 0.1,
  noRepeatNgramSize: 3,
  encoderNoRepeatNgramSize: 3,
  badWordsIds: [[17], [260, 12]],
  forcedEosTokenId: 3,
  removeInvalidValues: true,
  suppressTokens: [5, 6],
  beginSuppressTokens: [7],
  watermarkingConfig: new WatermarkingConfig(),
};

/** Reference decoders of the families that are supported. */
export const DECODERS = [
  "llama",
  "llama-tied-mqa",
  "llama-yarn",
  "llama-linear-rope",
  "llama3-rope",
  "llama-bf16",
  "llama-f16-sharded",
  "mistral",
  "qwen2",
  "qwen3",
  "gpt2",
  "opt",
  "opt-proj",
  "gemma2",
  "mamba",
] as const;

/** One generation case of the reference. */
export interface GenerateCase {
  name: string;
  kind: string;
  inputs: { input_ids: number[][]; attention_mask?: number[][] };
  generation: { max_new_tokens: number; eos_token_id: number[] | number | null };
  outputs: { sequences: number[][]; step_logits?: { data: Float32Array; shape: number[] } };
  /** The steps of `step_logits`. */
  logit_steps?: number[];
}

/** Folder and cases of a reference model, or undefined where there is none. */
export async function referenceModel(name: string): Promise<{ path: string; cases: GenerateCase[] } | undefined> {
  const path = `data/models/${name}`;
  if (!hasReference(path)) return undefined;
  const goldens = await loadGoldens<GenerateCase>(`${path}/goldens`);
  return goldens && { path: referencePath(path), cases: goldens.cases.filter(({ kind }) => kind === "generate") };
}

/** `model` with some of its properties replaced. */
export function modelWith(model: Model, replaced: Partial<Record<"config" | "generationConfig", object>>): Model {
  return new Proxy(model, {
    get(target, name) {
      if (Object.hasOwn(replaced, name)) return replaced[name as "config"];
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
