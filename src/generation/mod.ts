/**
 * Generation: the pipe from logits to tokens.
 *
 * @module
 */
export * from "./generate.ts";
export type { EmbeddedInputs } from "./prompt_embeds.ts";
export type { GenerationInputs } from "./prompts.ts";
export { computeTransitionScores, type GenerateOutput } from "./outputs.ts";
export { type Constraint, DisjunctiveConstraint, PhrasalConstraint } from "./strategies/constraints.ts";
export type { HostTensor } from "./strategies/step_model.ts";
export { learntDraftLength } from "./strategies/start_speculation.ts";
export { TextIteratorStreamer, TextStreamer, type TextStreamerOptions } from "./streamers.ts";
export type { GenerationConfigFields, SequenceBias } from "./config_fields.ts";
export type {
  CallOptions,
  GenerationOptions,
  LogitsProcessor,
  PrefixAllowedTokens,
  StoppingCriterion,
  Streamer,
  TextCodec,
} from "./options.ts";
export { GenerationConfig } from "./generation_config.ts";
export { setSeed } from "./seed.ts";
export {
  type AnyWatermarkingConfig,
  SynthIDTextWatermarkingConfig,
  type SynthIDTextWatermarkingSettings,
  WatermarkingConfig,
  type WatermarkingSettings,
} from "./watermarking_config.ts";
export { type WatermarkDetection, WatermarkDetector, type WatermarkDetectorOptions } from "./watermark_detector.ts";
export { compile, type CompileOptions } from "./compile.ts";
export { whisperTimestamps, type WhisperTimestampSettings } from "./processors/whisper_timestamps.ts";
export { cachedInputIds, loadCache, type LoadCacheOptions, saveCache, type SaveCacheOptions } from "./cache_file.ts";
export { generateSpeech, type SpeechOptions, type SpeechOutput, type SpeechSegment } from "./generate_speech.ts";
export { speechPrompt, type SpeechTask } from "./speech_prompt.ts";
export { resilientGenerate } from "./resilient_generate.ts";
